"""Latents: what a trained network makes of a data set, computed once and read from a cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

import filelock
import jax
import numpy as np

from genax.core.data import BatchIterator, Data, Shard
from genax.core.errors import GenaxError
from genax.data import pipeline, shuffling
from genax.data.cache_folder import cache_folder
from genax.data.fields import Text
from genax.data.pipeline import Batch
from genax.data.text.run_tokenizer import Tokenized
from genax.settings.files import read_json, to_json

Rows = Mapping[str, np.ndarray]
# Mean and mean square.
Moments = tuple[float, float]
_FACTS = "latents.json"


class Encoder(Protocol):
    """A network that was trained elsewhere, such as `genax.front.trained.TrainedNetwork`.

    It makes "latent", or "mean" and "deviation" of a normal distribution of latents.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what it reads of an example, in the order of its arguments."""
        ...

    def fingerprint(self) -> str:
        """Changes with what it makes of an example."""
        ...

    def outputs(
        self, element: Mapping[str, jax.ShapeDtypeStruct]
    ) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of what it makes of one example; loads no weights."""
        ...

    def load(self) -> Callable[[Rows], Rows]:
        """Return the function from a batch to its rows, with weights."""
        ...


@dataclass(frozen=True)
class Latents:
    """Latents of every example of a data set: "latent" besides what was not encoded.

    A latent is float32, or a whole number as the network makes it, such as that of a code.

    The network runs once over the data, as `data.evaluate` gives it. What it makes is kept under
    the folder of prepared sets, by the fingerprints of the data and of the network, and read from
    there by record number. If the network gives a mean and a deviation, each reading of an example
    in training draws its latent anew; in evaluation an example always has the same one.

    data: as the network was trained on it (size, range), without random changes.
    encoder: the network.
    batch_size: examples that are encoded at a time.
    """

    data: Data
    encoder: Encoder
    batch_size: int = 100

    def __post_init__(self):
        if isinstance(self.data, Tokenized):
            raise GenaxError(
                f"latents are kept for all runs, but the tokenizer of {self.data} belongs to one; "
                "encode the data without its texts and join them."
            )
        if getattr(self.data, "is_augmented", False):
            raise GenaxError(
                f"latents are computed once, so the flips and transforms of {self.data} would be "
                "lost; leave them out."
            )

    @cached_property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of one example; loads no weights and reads no data."""
        return encoded_element(self.data, self.encoder)

    @property
    def scale_factor(self) -> float:
        """1 / deviation of all numbers of latents as drawn; the first call makes the cache.

        Latent diffusion multiplies latents by it (Rombach et al. 2022, arXiv:2112.10752, appendix
        D.1, where it is that of one batch).
        """
        mean, square = self._kept[2]
        return float(1 / np.sqrt(square - mean**2))

    @property
    def says(self) -> Sequence[str]:
        """What a run tells its user of the data."""
        return getattr(self.data, "says", ())

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the data and the network; it names the cache."""
        key = (self.data.fingerprint(), self.encoder.fingerprint())
        return hashlib.sha256(repr(key).encode()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches; the first call makes the cache."""
        rows, size, _ = self._kept

        def draw(batch: Batch, positions: np.ndarray) -> Batch:
            return _drawn(batch, positions, seed)

        return pipeline.train_batches(
            lambda ids: _taken(rows, ids), size, batch_size, seed, shard, draw
        )

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every example once, in order, with "mask"; the first call makes the cache."""
        rows, size, _ = self._kept
        return pipeline.evaluation_batches(
            lambda ids: _drawn(_taken(rows, ids), ids, 0), size, batch_size, shard
        )

    @cached_property
    def _kept(self) -> tuple[Rows, int, Moments]:
        """The rows of all examples, on disk, their number, and the moments of their latents."""
        key = self.fingerprint()
        folder = cache_folder() / "latents" / key
        try:
            if not folder.is_dir():
                self._make(folder)
            return _opened(folder)
        except OSError as error:
            raise GenaxError(f"latents could not be kept in {folder}: {error}.") from error

    def _make(self, folder: Path) -> None:
        if jax.process_count() > 1:
            raise GenaxError(
                f"the latents of {self.data} are not in {folder.parent}, and one process makes "
                "them; start the run there as a single process first."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
            if folder.is_dir():
                return
            prefix = f".incomplete-{folder.name}-"
            # The process that left these behind was killed, since the lock is ours.
            for left in folder.parent.glob(f"{prefix}*"):
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as work:
                built = Path(work) / "built"
                built.mkdir()
                self._write(built)
                # The folder appears whole, so its presence is enough.
                os.replace(built, folder)

    def _write(self, folder: Path) -> None:
        encode, facts, count = self.encoder.load(), {}, 0
        moments = np.zeros(2)
        with contextlib.ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for batch in self.data.evaluate(self.batch_size, Shard()):
                real = batch["mask"] > 0
                left_out = {*self.encoder.inputs, "mask", "id"}
                rows = {name: array for name, array in batch.items() if name not in left_out}
                made = encode(batch)
                moments += _moments({name: array[real] for name, array in made.items()})
                for name, array in {**made, **rows}.items():
                    if name not in files:
                        files[name] = stack.enter_context((folder / name).open("wb"))
                        facts[name] = {"dtype": array.dtype.str, "shape": array.shape[1:]}
                    files[name].write(_content(array[real]))
                count += int(real.sum())
        kept = {"moments": [*(moments / max(count, 1))], "examples": count, "arrays": facts}
        (folder / _FACTS).write_text(to_json(kept))


def encoded_element(data: Data, encoder: Encoder) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes and dtypes of an example whose inputs an encoder has read.

    Raises GenaxError if the data lacks one of them.
    """
    found = data.element
    missing = [name for name in encoder.inputs if name not in found]
    if missing:
        raise GenaxError(
            f"{encoder} reads {missing[0]!r}, and {data} has {', '.join(found)}; name other inputs "
            "or choose another set."
        )
    made = encoder.outputs(found)
    latent = made["mean"] if "mean" in made else made["latent"]
    kept = {name: spec for name, spec in found.items() if name not in encoder.inputs}
    return {"latent": jax.ShapeDtypeStruct(latent.shape, latent.dtype), **kept}


def _content(array: np.ndarray) -> bytes:
    """Return the bytes of an array; a text is a line of JSON."""
    if array.dtype == object:
        return "".join(f"{json.dumps(text, allow_nan=False)}\n" for text in array).encode()
    return np.ascontiguousarray(array).tobytes()


def _array(path: Path, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers mapped from disk, or texts."""
    if np.dtype(dtype) == object:
        texts = [json.loads(line) for line in path.read_text().splitlines()]
        if len(texts) != shape[0]:
            raise ValueError(f"{path.name} holds {len(texts)} texts, not {shape[0]}")
        return Text().column(texts)
    return np.memmap(path, dtype, "r", shape=shape)


def _opened(folder: Path) -> tuple[Rows, int, Moments]:
    """Return the arrays of a cache, mapped from disk. Raises GenaxError if it is damaged."""
    try:
        facts = read_json(folder / _FACTS)
        size = facts["examples"]
        rows = {
            name: _array(folder / name, array["dtype"], (size, *array["shape"]))
            for name, array in facts["arrays"].items()
        }
        mean, square = facts["moments"]
        return rows, size, (mean, square)
    except (GenaxError, KeyError, ValueError) as error:
        raise GenaxError(
            f"the latents in {folder} are damaged ({error}); delete that folder and start again."
        ) from error


def _moments(made: Rows) -> np.ndarray:
    """Return sums over examples of the mean and the mean square of each one's latents."""
    center = made["mean"] if "mean" in made else made["latent"]
    center = center.reshape(len(center), -1).astype(np.float64)
    square = np.square(center)
    if "mean" in made:
        square += np.square(made["deviation"].reshape(center.shape).astype(np.float64))
    return np.array([center.mean(-1).sum(), square.mean(-1).sum()])


def _taken(rows: Rows, ids: np.ndarray) -> Batch:
    return {name: np.asarray(array[ids]) for name, array in rows.items()}


def _drawn(batch: Batch, positions: np.ndarray, seed: int) -> Batch:
    """Return the batch with a latent drawn for each example, by its position."""
    if "latent" in batch:
        return batch
    mean, deviation = batch.pop("mean"), batch.pop("deviation")
    noise = np.stack(
        [
            shuffling.generator(int(position), seed).standard_normal(mean.shape[1:], np.float32)
            for position in positions
        ]
    )
    return {**batch, "latent": mean + deviation * noise}
