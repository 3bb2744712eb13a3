"""Several data sets side by side in one batch, such as the two domains of a CycleGAN."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from genax.core.data import BatchIterator, Data, Shard, open_data
from genax.core.errors import GenaxError
from genax.data.shuffling import named_seed

Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True, init=False)
class Joined:
    """Batches of several sources: "a_image" is "image" of the source that is given as `a=`.

    Each source has a seed of its own, made of the run's seed and its name. So two sources never
    come in the same order, even if they are of one length, and each is shuffled anew whenever it
    has been read once, whatever the length of the others.

    paired: record n of one source belongs to record n of all others, so all come in one order; the
      sources must have as many records as each other.
    """

    sources: tuple[tuple[str, Data], ...]
    paired: bool

    def __init__(self, *, paired: bool = False, **sources: Data):
        if not sources:
            raise GenaxError("Joined() has no sources; name them: Joined(a=..., b=...).")
        object.__setattr__(self, "sources", tuple(sources.items()))
        object.__setattr__(self, "paired", paired)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example of each source."""
        found: dict[str, jax.ShapeDtypeStruct] = {}
        for source, data in self.sources:
            named = {f"{source}_{name}": spec for name, spec in data.element.items()}
            twice = sorted(found.keys() & named.keys())
            if twice:
                raise GenaxError(
                    f"two sources of Joined have an array {twice[0]!r}; give a source another name."
                )
            found |= named
        return found

    @property
    def says(self) -> list[str]:
        """What a run tells its user of the sources."""
        return [line for _, data in self.sources for line in getattr(data, "says", ())]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the sources with their names, and whether they are paired."""
        prints = [(name, data.fingerprint()) for name, data in self.sources]
        return hashlib.sha256(repr((self.paired, prints)).encode()).hexdigest()

    def opened(self, workdir: Any) -> Joined:
        """Return the same sources as the run in `workdir` reads them."""
        sources = {name: open_data(data, workdir) for name, data in self.sources}
        return type(self)(paired=self.paired, **sources)

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless batches; "id" is int64 [b, sources], the record numbers of each source."""
        seeds = {name: seed if self.paired else named_seed(seed, name) for name, _ in self.sources}
        sources = {name: data.train(batch_size, seeds[name], shard) for name, data in self.sources}
        return _Endless(self, sources)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Batch]:
        """Every example of each source, in order, until the longest source has been read once.

        A shorter source begins again meanwhile. "a_mask" float32 [b] is 1 if the example of source
        a is read for the first time, and "mask" if that of any source is.
        """

        def read(name: str) -> Iterator[Batch]:
            return iter(dict(self.sources)[name].evaluate(batch_size, shard))

        sources = {name: read(name) for name, _ in self.sources}
        unread = set(sources)
        while True:
            batches: dict[str, Batch] = {}
            for name in sources:
                batch = next(sources[name], None)
                if batch is None:
                    unread.discard(name)
                    sources[name] = read(name)
                    batch = next(sources[name])
                if name not in unread:
                    batch = {**batch, "mask": np.zeros_like(batch["mask"])}
                batches[name] = batch
            if not unread:
                return
            masks = [batch["mask"] for batch in batches.values()]
            yield {**self.join(batches), "mask": np.max(masks, axis=0)}

    def join(self, batches: Mapping[str, Batch]) -> dict[str, np.ndarray]:
        """Return one batch of those of the sources. Raises GenaxError for pairs that differ."""
        ids = [batch["id"] for batch in batches.values()]
        if self.paired and any(not np.array_equal(ids[0], other) for other in ids):
            names = ", ".join(batches)
            raise GenaxError(
                f"the sources {names} of Joined(paired=True) differ in their numbers of records; "
                "give sources that belong together, or leave paired out."
            )
        joined = {
            f"{source}_{name}": array
            for source, batch in batches.items()
            for name, array in batch.items()
            if name != "id"
        }
        return {**joined, "id": np.concatenate([i.reshape(len(i), -1) for i in ids], axis=1)}


class _Endless:
    """The batches of all sources; each source has given out as many examples as the others."""

    def __init__(self, data: Joined, sources: Mapping[str, BatchIterator]):
        self._data, self._sources = data, sources

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._data.join({name: next(source) for name, source in self._sources.items()})

    def get_state(self) -> Mapping[str, int]:
        """Return the examples of the global batches given out, which is that of every source."""
        return next(iter(self._sources.values())).get_state()

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue on the next example of each source."""
        for source in self._sources.values():
            source.set_state(state)
