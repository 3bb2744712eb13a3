"""A codebook: vectors that stand for those near them (van den Oord et al. 2017, arXiv:1711.00937).

Codes are parameters that the loss of eq. 3 moves, or averages of the vectors that they stood for
(appendix A.1), which no gradient trains. The averages, with the sizes of the clusters, are sums
over the global batch in the collection "codebook", which belongs in `Task.summed`.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.core.task import Batch

# The collection, for `Task.summed`.
COLLECTION = "codebook"
# A draw below it is as good as uniform modulo the number of codes or of places.
_MANY = 2**30


@struct.dataclass
class Quantised:
    """Vectors and the codes nearest to them.

    straight: the codes, whose gradient is that of the vectors: the decoder's input.
    nearest: the codes, without a gradient of the vectors.
    vectors: what was quantised, float32; of length 1 if codes are compared by their cosine.
    index: numbers of the codes.
    """

    straight: Float[Array, "*batch d"]
    nearest: Float[Array, "*batch d"]
    vectors: Float[Array, "*batch d"]
    index: Int[Array, "*batch"]


class Codebook(nn.Module):
    """Codes, compared with vectors by their distance in float32.

    num_codes: K of the paper.
    code_size: D of the paper.
    averages: whether codes are averages, or parameters. A code begins as one vector that it stood
      for: size 1 and the code itself as the sum, without a correction of this beginning.
    decay: of the averages.
    smoothing: epsilon of `smoothed`.
    dead_below: a code whose average size is below this share of the mean size is dead, and takes
      the place of a vector of the batch; 0 lets codes die.
    cosine: whether vectors and codes are divided by their lengths (Yu et al. 2022, section 3.1).
    """

    num_codes: int = 512
    code_size: int = 64
    averages: bool = True
    decay: float = 0.99
    smoothing: float = 1e-5
    dead_below: float = 0.1
    cosine: bool = False

    def setup(self):
        """Make the codes and what is counted of them."""
        shape, count = (self.num_codes, self.code_size), self.num_codes
        if self.averages:
            first = lambda: first_codes(self.make_rng("params"), shape)  # noqa: E731
            self.sums = self.variable(COLLECTION, "sums", first)
            self.sizes = self.variable(COLLECTION, "sizes", jnp.ones, (count,))
        elif self.dead_below:
            raise GenaxError(
                f"Codebook(averages=False, dead_below={self.dead_below}): an optimizer moves these "
                "codes and nothing else may; set dead_below=0 or averages=True."
            )
        else:
            self.embedding = self.param("embedding", first_codes, shape)
        self.counts = self.variable(COLLECTION, "counts", jnp.zeros, (count,))

    @property
    def codes(self) -> Float[Array, "K d"]:
        """The codes."""
        if self.averages:
            codes = self.sums.value / smoothed(self.sizes.value, self.smoothing)[:, None]
        else:
            codes = self.embedding
        return unit(codes) if self.cosine else codes

    def __call__(self, z: Float[Array, "*batch d"], train: bool = False) -> Quantised:
        """Return the code nearest to each vector; of equally near ones, that of the least number.

        A vector that is not finite has the number K, which is no code.
        """
        vectors = z.astype(jnp.float32)
        vectors = unit(vectors) if self.cosine else vectors
        codes = self.codes
        index = nearest_code(lax.stop_gradient(vectors), lax.stop_gradient(codes))
        nearest = rows_at(codes, index)
        straight = vectors + lax.stop_gradient(nearest - vectors)
        return Quantised(straight, nearest, vectors, index)

    def look_up(self, index: Int[Array, "*batch"]) -> Float[Array, "*batch d"]:
        """Return the codes of these numbers; NaN for a number without a code."""
        return rows_at(self.codes, index)

    def follow(self, found: Quantised, batch: Batch) -> None:
        """Count the codes of a step's batch, and move their averages.

        N_k <- decay N_k + (1 - decay) n_k and m_k <- decay m_k + (1 - decay) sum of the n_k vectors
        that are nearest to code k, eq. 6 and 7 of appendix A.1. Code k is m_k / N_k with N_k
        smoothed. A dead code is first replaced by a vector of the batch, as if it had stood for the
        mean number of vectors there. In each step every image offers one of its vectors to one
        code. Which ones, the seed and the step decide, alike on any layout of devices. So a step
        revives as many codes as its batch has images at most, each by another image.

        All changes are sums over the batch, so each part of it writes its own; what a step does
        once is done by the part that has the batch's first element.

        found: of the training batch, [b, ..., d] each.
        batch["index"]: position of each element in the global batch.
        """
        if self.is_initializing() or not self.is_mutable_collection(COLLECTION):
            return
        vectors = lax.stop_gradient(found.vectors)
        hits = jax.nn.one_hot(found.index.reshape(-1), self.num_codes, dtype=jnp.float32)
        counts, once = hits.sum(0), (batch["index"] == 0).any().astype(jnp.float32)
        self.counts.value += counts - once * self.counts.value
        if not self.averages:
            return
        flat = vectors.reshape(-1, self.code_size)
        sums = jnp.matmul(hits.T, flat, precision="highest")
        old, new = (self.sizes.value, self.sums.value), (counts, sums)
        revived, born = self._revived(vectors, batch)
        self.sizes.value, self.sums.value = (
            value + (1 - self.decay) * (change - once * value) + self.decay * fresh
            for value, change, fresh in zip(old, new, (born, revived), strict=True)
        )

    def _revived(self, vectors, batch: Batch) -> tuple[Float[Array, "K d"], Float[Array, " K"]]:
        """Return what this part of a batch adds to the sums and to the sizes of dead codes."""
        sizes, sums = self.sizes.value, self.sums.value
        if not self.dead_below:
            return jnp.zeros_like(sums), jnp.zeros_like(sizes)
        mean, (index, count) = sizes.mean(), (batch["index"], self.num_codes)
        offered = vectors.reshape(len(vectors), -1, self.code_size)
        start, shift = jax.random.randint(self.make_rng("example"), (2,), 0, _MANY)
        at = (index + shift) % offered.shape[1]
        offered = jnp.take_along_axis(offered, at[:, None, None], axis=1)[:, 0]
        # Images beyond the number of codes are offered to none.
        place = jnp.where(index < count, (index + start) % count, count)
        dead = jnp.zeros_like(sizes).at[place].set(1.0, mode="drop")
        dead = dead * (sizes < self.dead_below * mean)
        given = jnp.zeros_like(sums).at[place].set(offered, mode="drop")
        return dead[:, None] * (mean * given - sums), dead * (mean - sizes)

    def usage(self) -> dict[str, Float[Array, ""]]:
        """Return the perplexity and the number of codes used in the batch of the last step.

        They are no means of parts of a batch, so they are made of the counts of the step before,
        which are whole on every layout of devices. Before the first step they are 1 and 0.
        """
        return usage_of(self.counts.value)


def usage_of(counts: Float[Array, " K"]) -> dict[str, Any]:
    """Return "perplexity", exp of the entropy in nats of the codes' shares, and "used_codes"."""
    shares = counts / jnp.maximum(counts.sum(), 1.0)
    logs = jnp.log(jnp.where(shares > 0, shares, 1.0))
    return {"perplexity": jnp.exp(-(shares * logs).sum()), "used_codes": (counts > 0).sum()}


def first_codes(key: Any, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Draw codes from U(-sqrt(3 / D), sqrt(3 / D)), of variance 1 / D, as Sonnet's quantiser does.

    shape: (K, D).
    """
    limit = math.sqrt(3 / shape[1])
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def smoothed(sizes: Float[Array, " K"], epsilon: float) -> Float[Array, " K"]:
    """Return (N_k + e) / (sum N + K e) sum N, which no size of 0 makes 0 (Laplace smoothing)."""
    total = sizes.sum()
    return (sizes + epsilon) / (total + len(sizes) * epsilon) * total


def nearest_code(
    vectors: Float[Array, "*batch d"], codes: Float[Array, "K d"]
) -> Int[Array, "*batch"]:
    """Return the number of the code at the least distance from each vector, the first of equals.

    It is that of the least |e|^2 / 2 - z e, computed in float32. The result is K if it is NaN.
    """
    products = jnp.matmul(vectors, codes.T, precision="highest")
    distances = 0.5 * jnp.square(codes).sum(-1) - products
    # On a CPU, XLA computes argmin one number at a time.
    least = distances.min(-1, keepdims=True)
    numbers = jnp.arange(len(codes), dtype=jnp.int32)
    return jnp.where(distances == least, numbers, len(codes)).min(-1)


def unit(vectors: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Return vectors divided by their lengths, or by 1e-6 if that is larger."""
    squares = jnp.square(vectors).sum(-1, keepdims=True)
    return vectors * lax.rsqrt(jnp.maximum(squares, 1e-12))


def rows_at(codes: Float[Array, "K d"], index: Int[Array, "*batch"]) -> Float[Array, "*batch d"]:
    """Return codes by their numbers; NaN for a number without a code."""
    # A negative number would count from the end.
    row = jnp.where(index < 0, len(codes), index)
    return codes.at[row].get(mode="fill", fill_value=jnp.nan)
