"""Unpacking archives that others made, never outside the folder they are unpacked into."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath

from genax.core.errors import GenaxError


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip, .whl, .tar.*, .tgz or .deb file into `folder`, all of it or nothing.

    Every member is checked before any is written. Raises GenaxError for an absolute path, a "..",
    a link, a device, or a file that is none of these archives.
    """
    try:
        if archive.name.endswith((".zip", ".whl")):
            _unpack_zip(archive, folder)
        elif archive.name.endswith(".deb"):
            with tarfile.open(fileobj=io.BytesIO(_deb_data(archive))) as tar:
                _unpack_tar(archive, tar, folder)
        else:
            with tarfile.open(archive) as tar:
                _unpack_tar(archive, tar, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise GenaxError(f"{archive} cannot be unpacked: {error}.") from error


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = (info.external_attr >> 16) & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                raise GenaxError(f"{archive}: {info.filename!r} is a link or device; refused.")
        _refuse_outside(archive, packed.namelist())
        packed.extractall(folder)


def _unpack_tar(archive: Path, tar: tarfile.TarFile, folder: Path) -> None:
    members = tar.getmembers()
    for member in members:
        if not (member.isreg() or member.isdir()):
            raise GenaxError(f"{archive}: {member.name!r} is a link or device; refused.")
    _refuse_outside(archive, [member.name for member in members])
    # The check above is the same on every Python; the filter (3.11.4 on) also drops odd modes.
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
    else:
        tar.extractall(folder)


def _refuse_outside(archive: Path, names: Iterable[str]) -> None:
    for name in names:
        # A backslash or a drive leads elsewhere on Windows only; no archive needs one.
        absolute = name.startswith("/") or "\\" in name or PureWindowsPath(name).drive
        if absolute or ".." in PurePosixPath(name).parts:
            raise GenaxError(f"{archive}: {name!r} would be written outside its folder; refused.")


def _deb_data(archive: Path) -> bytes:
    """The data.tar.* inside a Debian package, which is an `ar` archive."""
    content = archive.read_bytes()
    if not content.startswith(b"!<arch>\n"):
        raise tarfile.ReadError("it is not a Debian package")
    start = 8
    while start + 60 <= len(content):
        name = content[start : start + 16].decode("ascii", errors="replace").strip().rstrip("/")
        size = content[start + 48 : start + 58].strip()
        if not size.isdigit():
            break
        start += 60
        if name.startswith("data.tar"):
            return content[start : start + int(size)]
        start += int(size) + int(size) % 2
    raise tarfile.ReadError("it holds no data.tar")
