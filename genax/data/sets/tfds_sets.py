"""Prepared sets of TensorFlow Datasets: genax's own in its cache, and any other as "tfds:NAME"."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from genax.core.errors import GenaxError
from genax.data.sets.cache import prepared_folder
from genax.data.sets.catalogue import KnownSet
from genax.data.sets.split_slices import split_parts

PREFIX = "tfds:"
_CHUNK = 10_000


class Source(Protocol):
    """Random access to the examples of a split; what `as_data_source` gives."""

    def __len__(self) -> int: ...
    def __getitems__(self, numbers: Sequence[int]) -> Sequence[dict[str, Any]]: ...


def known_builder(known: KnownSet) -> Any:
    """The read-only builder of a set that `genax data prepare` wrote. Raises GenaxError."""
    import tensorflow_datasets as tfds

    folder = prepared_folder(known)
    try:
        return tfds.builder_from_directory(str(folder))
    except Exception as error:  # TFDS raises many kinds for a damaged folder
        raise GenaxError(
            f"{folder} is damaged ({error}); delete it and run: genax data prepare {known.name}"
        ) from error


def tfds_builder(name: str) -> Any:
    """The builder of "tfds:NAME", prepared or not; its features are known without data.

    NAME may hold a configuration and a version: "tfds:wiki40b/en:1.3.0". Data lie where TFDS keeps
    them ($TFDS_DATA_DIR, or ~/tensorflow_datasets). Raises GenaxError for a name that is unknown or
    no name.
    """
    import tensorflow_datasets as tfds

    # A prepared set says its own format; a new one must be ArrayRecord to be read at random.
    where = {"data_dir": os.environ.get("TFDS_DATA_DIR")}
    try:
        builder = tfds.builder(name.removeprefix(PREFIX), **where)
        if not builder.is_prepared():
            where["file_format"] = "array_record"
            builder = tfds.builder(name.removeprefix(PREFIX), **where)
    except tfds.core.DatasetNotFoundError as error:
        raise GenaxError(
            f"TensorFlow Datasets has no set {name.removeprefix(PREFIX)!r}, neither prepared nor "
            "to prepare (without TensorFlow it can prepare fewer: pip install 'genax[tfds]'); see "
            "`genax data list`."
        ) from error
    except Exception as error:  # TFDS and its builders raise many kinds
        # Its first sentence, without the arguments that TFDS repeats.
        reason = re.split(r"\.?\s*\n|\. ", str(error).rpartition('}": ')[2])[0]
        raise GenaxError(
            f"TensorFlow Datasets cannot open {name.removeprefix(PREFIX)!r} ({reason}); a data set "
            "is named tfds:SET, tfds:SET/CONFIGURATION or tfds:SET:VERSION, in letters, digits and "
            "underscores."
        ) from error
    return builder


def open_split(builder: Any, name: str, split: str) -> Source:
    """The examples of a split, or of a slice such as "train[:1000]". Raises GenaxError."""
    if not builder.is_prepared():
        raise GenaxError(
            f"data set {name} is not in {builder.data_path}; run: genax data prepare {name}"
        )
    split_parts(name, split, builder.info.splits)
    try:
        return builder.as_data_source(split)
    except NotImplementedError as error:
        raise GenaxError(
            f"{builder.data_path} is not in the ArrayRecord format; delete it "
            f"and run: genax data prepare {name}"
        ) from error
    except Exception as error:  # the reader raises kinds of its own
        raise damaged(builder, name, error) from error


def damaged(builder: Any, name: str, error: Exception) -> GenaxError:
    """The error of records that cannot be read."""
    return GenaxError(
        f"records of {name} in {builder.data_path} cannot be read ({error}); "
        f"delete that folder and run: genax data prepare {name}"
    )


def read_split(builder: Any, name: str, split: str) -> Iterator[dict[str, Any]]:
    """Every example of a split, in order. Raises GenaxError if the files are damaged too."""
    source = open_split(builder, name, split)
    for start in range(0, len(source), _CHUNK):
        numbers = list(range(start, min(start + _CHUNK, len(source))))
        try:
            examples = source.__getitems__(numbers)
        except Exception as error:  # the reader and the parser raise kinds of their own
            raise damaged(builder, name, error) from error
        yield from examples


def folder_of(builder: Any) -> Path:
    """The folder of a prepared set's files."""
    return Path(builder.data_path)


def prepare_tfds(name: str) -> Path:
    """Download and prepare "tfds:NAME" with TFDS's own builder, as ArrayRecord.

    Many sets need TensorFlow for that (the extra `tfds`). Raises GenaxError.
    """
    builder = tfds_builder(name)
    try:
        builder.download_and_prepare()
    except Exception as error:  # a builder may raise anything
        raise GenaxError(
            f"TensorFlow Datasets could not prepare {name}: {type(error).__name__}: {error} "
            "(many of its sets need TensorFlow: pip install 'genax[tfds]')"
        ) from error
    return folder_of(builder)
