"""The folder of prepared data sets, and how to tell that one has changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from genax.core.errors import GenaxError
from genax.data.cache_folder import cache_folder
from genax.data.sets.catalogue import KnownSet

_LARGE = 1 << 30
_MIB = 1 << 20


def set_folder(known: KnownSet) -> Path:
    """The folder of a prepared set, whether it is there or not."""
    return cache_folder() / known.name / known.version


def is_prepared(known: KnownSet) -> bool:
    """True for embedded sets. A folder is moved to its place whole, so its presence is enough."""
    return not known.packages or set_folder(known).is_dir()


def prepared_folder(known: KnownSet) -> Path:
    """The folder of a prepared set. Raises GenaxError with the command that prepares it."""
    folder = set_folder(known)
    if not is_prepared(known):
        raise GenaxError(
            f"data set {known.name} is not in {cache_folder()}; "
            f"run: genax data prepare {known.name}"
        )
    return folder


def fingerprint_folder(folder: Path) -> str:
    """SHA-256 (hex) over the name, size and content of every file below `folder`.

    Of sets beyond 1 GiB only the first and last MiB of each file are read. dataset_info.json is
    left out: it says who wrote the set, not what is in it.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.name != "dataset_info.json"]
    large = sum(path.stat().st_size for path in paths) > _LARGE
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if large and size > 2 * _MIB:
                digest.update(file.read(_MIB))
                file.seek(size - _MIB)
                digest.update(file.read(_MIB))
            else:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
