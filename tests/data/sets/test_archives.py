from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from genax.core.errors import GenaxError
from genax.data.sets.archives import unpack
from tests.data import fakes

OUTSIDE = ["/etc/genax", "../evil", "a/../../evil", "a\\..\\evil", "C:/evil"]


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def tar_with(path, **attributes):
    info = tarfile.TarInfo("fine/link")
    for name, value in attributes.items():
        setattr(info, name, value)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("first.txt"), io.BytesIO())
        tar.addfile(info)
    return path


def test_unpacks_tar_zip_and_deb(tmp_path):
    tar = fakes.tar_of(tmp_path / "a.tgz", {"x/one.txt": b"1", "./two.txt": b"2"})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("x/one.txt", "1")
        packed.writestr("two.txt", "2")
    members = {
        "debian-binary": b"2.0\n\n",
        "control.tar.gz": b"odd",
        "data.tar.gz": tar.read_bytes(),
    }
    deb = b"!<arch>\n"
    for name, content in members.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        deb += b"\n" * (len(content) % 2)
    (tmp_path / "a.deb").write_bytes(deb)
    for name in ("a.tgz", "a.zip", "a.deb"):
        folder = tmp_path / f"out-{name}"
        unpack(tmp_path / name, folder)
        assert files_below(folder) == ["two.txt", "x/one.txt"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leaves_the_folder_is_refused(name, tmp_path):
    tar = fakes.tar_of(tmp_path / "a.tar.gz", {"first.txt": b"", name: b"evil"})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("first.txt", "")
        packed.writestr(name, "evil")
    before = files_below(tmp_path)
    for archive in (tar, tmp_path / "a.zip"):
        with pytest.raises(GenaxError, match="outside its folder; refused"):
            unpack(archive, tmp_path / "out")
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    archive = tar_with(tmp_path / "a.tgz", type=kind, linkname="first.txt")
    with pytest.raises(GenaxError, match="'fine/link' is a link or device; refused"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "first.txt").exists()


def test_a_symlink_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(GenaxError, match="'link' is a link or device; refused"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tgz", "a.zip", "a.deb"])
def test_a_damaged_archive_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"!<arch>\nnot an archive" * 9)
    with pytest.raises(GenaxError, match=rf"{name} cannot be unpacked"):
        unpack(tmp_path / name, tmp_path / "out")
