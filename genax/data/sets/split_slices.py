"""Slices of splits, in the notation of TensorFlow Datasets: "train[:1000]", "train[10%:]+test"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from genax.core.errors import GenaxError

T = TypeVar("T")


class Part(NamedTuple):
    """The records of a split from `start` up to `stop`."""

    split: str
    start: int
    stop: int


def check_split_names(name: str, split: str, names: Iterable[str]) -> None:
    """Raise GenaxError if `split`, or a slice in it, names a split that data set `name` has not."""
    names = list(names)
    for part in re.split(r"\s*\+\s*", split):
        base = part.partition("[")[0]
        if base not in names and part != "all":
            raise GenaxError(f"{name} has no split {base!r}; it has {', '.join(names)}.")


def split_parts(name: str, split: str, infos: Mapping[str, Any]) -> list[Part]:
    """The parts of data set `name` that `split` stands for.

    infos: the set's splits, as TensorFlow Datasets describes them. Raises GenaxError if a split is
    unknown, `split` cannot be parsed, or a slice goes beyond the records or holds none.
    """
    if split in infos:
        return [Part(split, 0, infos[split].num_examples)]
    import tensorflow_datasets as tfds

    check_split_names(name, split, infos)
    try:
        instruction = tfds.core.ReadInstruction.from_spec(split)
    except Exception as error:  # TFDS raises several kinds
        raise GenaxError(
            f'{name}: {split!r} is neither a split nor a slice such as "train[:1000]", '
            '"train[10%:20%]" or "train[-100:]+test".'
        ) from error
    sizes = ", ".join(f"{key} has {info.num_examples:,}" for key, info in infos.items())
    try:
        found = instruction.to_absolute(infos)
    except Exception as error:  # as above
        raise GenaxError(f"{name}: {split!r} goes beyond the records; {sizes}.") from error
    parts = []
    for part in found:
        size = infos[part.splitname].num_examples
        stop = size if part.to is None else part.to
        parts.append(Part(part.splitname, part.from_ or 0, stop))
    for part in parts:
        if part.start >= part.stop:
            raise GenaxError(f"{name}: {split!r} holds no record of {part.split}; {sizes}.")
    return parts


def memory_parts(name: str, split: str, sizes: Mapping[str, int]) -> list[Part]:
    """The parts of a set held in memory: see `split_parts`. sizes: number of records by split."""
    if split in sizes:
        return [Part(split, 0, sizes[split])]
    import tensorflow_datasets as tfds

    if "shard" in split and split.partition("[")[0] in sizes:
        raise GenaxError(
            f"{name}: {split!r} counts files, which {name} is not read by; count records or per "
            "cent."
        )
    infos = {
        key: tfds.core.SplitInfo(name=key, shard_lengths=[size], num_bytes=0)
        for key, size in sizes.items()
    }
    return split_parts(name, split, infos)


def take_split(name: str, split: str, records: Mapping[str, Sequence[T]]) -> list[T]:
    """The records that `split` stands for, of a set held in memory by split."""
    parts = memory_parts(name, split, {key: len(found) for key, found in records.items()})
    return [record for part in parts for record in records[part.split][part.start : part.stop]]
