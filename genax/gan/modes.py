"""Mode coverage: data with known modes, and how many of them a generator's samples reach.

The two tasks are those of PacGAN (Lin et al. 2018, arXiv:1712.04086), sections 4.1 and 4.2.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from genax.core.data import BatchIterator, Data, Shard
from genax.core.task import Batch, Evaluator, Rendered
from genax.data import pipeline
from genax.evaluation.extractors import pixels
from genax.evaluation.image_classifier import image_classifier

Points = Float[np.ndarray, "n 2"]
# A point belongs to a mode that is nearer than so many deviations.
NEAR = 3.0


@dataclass(frozen=True)
class GaussianGrid:
    """Points of Gaussians on a grid, as "image" float32 [2].

    side: Gaussians in a row; their means are `spacing` apart, around 0.
    deviation: of each Gaussian, in both directions.
    size: points, drawn once.
    """

    side: int = 5
    spacing: float = 2.0
    deviation: float = 0.05
    size: int = 100_000
    seed: int = 0

    @property
    def means(self) -> Points:
        """The means of the Gaussians, row by row."""
        line = (np.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of a point."""
        return {"image": jax.ShapeDtypeStruct((2,), np.float32)}

    @cached_property
    def points(self) -> Points:
        """All points."""
        draw = np.random.default_rng(self.seed)
        modes = draw.integers(self.side**2, size=self.size)
        noise = draw.normal(0.0, self.deviation, (self.size, 2))
        return (self.means[modes] + noise).astype(np.float32)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the points."""
        return hashlib.sha256(self.points.tobytes()).hexdigest()

    def train(self, batch_size: int, seed: int, shard: Shard) -> BatchIterator:
        """Endless shuffled batches of this process."""
        return pipeline.train_batches(self._read, self.size, batch_size, seed, shard)

    def evaluate(self, batch_size: int, shard: Shard) -> Iterator[Mapping[str, np.ndarray]]:
        """Every point once, in order."""
        return pipeline.evaluation_batches(self._read, self.size, batch_size, shard)

    def _read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": self.points[ids]}


def mode_scores(modes: Int[np.ndarray, " n"], number: int) -> dict[str, float]:
    """Return how samples spread over modes.

    modes: how many of `number` modes have a sample.
    kl: Kullback-Leibler divergence of the samples' modes from the even distribution, in nats;
      infinite if no sample has a mode.

    modes: the mode of each sample; those of no mode are left out.
    """
    counts = np.bincount(modes, minlength=number)
    shares = counts[counts > 0] / max(1, len(modes))
    divergence = (shares * np.log(shares * number)).sum() if len(modes) else np.inf
    return {"modes": float((counts > 0).sum()), "kl": float(divergence)}


def grid_modes(
    draw: Callable[[Any, Batch], Any], grid: GaussianGrid, samples: int = 2_500
) -> Evaluator:
    """Evaluator of the Gaussians that samples reach.

    Its scores are "modes" and "kl" (see `mode_scores`) of the samples of high quality, and
    "high_quality", the share of samples that lie within three deviations of a mean.

    draw: a sampler's function, (nets, batch) -> points [b, 2].
    """

    def summarize(points: Points, workdir: Any) -> dict[str, float]:
        gaps = np.linalg.norm(points[:, None] - grid.means, axis=-1)
        modes, near = gaps.argmin(1), gaps.min(1) < NEAR * grid.deviation
        scores = mode_scores(modes[near], len(grid.means))
        return {**scores, "high_quality": float(near.mean())}

    return Evaluator(draw, summarize, samples)


def stacked_modes(
    draw: Callable[[Any, Batch], Any], train: Data, test: Data, samples: int = 26_000
) -> Evaluator:
    """Evaluator of the triples of digits that samples show, by a classifier of single digits.

    Its scores are those of `mode_scores`.

    draw: a sampler's function, (nets, batch) -> [b, h, w, 3] in [-1, 1], one digit a channel.
    train, test: labelled images of single digits, see `image_classifier`.
    """
    extractor = image_classifier(train, test)
    classes: Any = extractor.classes
    number = train.num_classes  # type: ignore[attr-defined]

    def rows(nets: Any, batch: Batch, arrays: Any) -> Any:
        images = pixels(draw(nets, batch))
        found = 0
        for channel in range(images.shape[-1]):
            found = number * found + classes(arrays, images[..., channel : channel + 1])
        return {"mode": found}

    def summarize(found: Mapping[str, np.ndarray], workdir: Any) -> dict[str, float]:
        return mode_scores(found["mode"], number**3)

    def says(found: Any, workdir: Any) -> dict[str, Any]:
        arrays = extractor.given(workdir)
        return {"samples": len(found["mode"]), "classifier": extractor.described(arrays)}

    return Evaluator(rows, summarize, samples, None, extractor.given, says)


def scatter(points: Points, batch: Any = None, workdir: Any = None) -> Rendered:
    """Draw points as a picture of the plane from -6 to 6."""
    from PIL import Image

    size, most = 512, 6.0
    picture = np.full((size, size), 255, np.uint8)
    places = np.rint((np.asarray(points) / most + 1) / 2 * (size - 1)).astype(int)
    places = places[((places >= 0) & (places < size)).all(1)]
    for shift in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = (np.minimum(places[:, axis] + shift[axis], size - 1) for axis in (1, 0))
        picture[size - 1 - row, column] = 0
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return Rendered(content.getvalue(), ".png")
