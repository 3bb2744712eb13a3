"""Arrays that are made once and kept beside the data sets."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import filelock
import numpy as np

from genax.core.errors import GenaxError
from genax.data.cache_folder import cache_folder

Arrays = Mapping[str, np.ndarray | np.generic]


def kept(name: str, make: Callable[[Path], Arrays]) -> dict[str, np.ndarray]:
    """Return the arrays of a file in the cache, which `make` makes if it is not there.

    Of several processes one makes them, and the others wait. The file appears whole.

    name: the file's path below the cache, without its ending.
    make: from a folder for what it fetches, which is removed afterwards, to the arrays.
    Raises GenaxError if the file cannot be written or is damaged.
    """
    path = cache_folder() / f"{name}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / f".{path.name}.lock"):
            if not path.exists():
                # The process that left these behind was killed, since the lock is ours.
                for left in path.parent.glob(f".making-{path.stem}-*"):
                    shutil.rmtree(left, ignore_errors=True)
                prefix = f".making-{path.stem}-"
                with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder:
                    made = Path(folder) / path.name
                    np.savez(made, **make(Path(folder)))  # type: ignore[arg-type]
                    os.replace(made, path)
        with np.load(path) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise GenaxError(
            f"{path} can't be kept or read ({error}); delete it if it is there, and start again."
        ) from error
