"""Files of images: lossless, as long as the bound says, and refused if they are damaged."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.running.evaluate import evaluate
from genax.vae.autoencoders import MLPSize
from genax.vae.compression.bits_back import BitsBack, masses_at, posterior_moments
from genax.vae.compression.scores import NAME, compression, decompress, packed
from genax.vae.objectives import elbo, elbo_loss
from tests.core.toys import line_task
from tests.vae.compression.test_ans import bits

SHAPE, LATENT = (4, 4, 1), 3
NETWORKS = MLPSize(SHAPE, (16,), LATENT, nn.tanh).networks()
RNGS = {"params": jax.random.key(0), "example": jax.random.key(1)}
BATCH = {"image": jnp.zeros((2, *SHAPE)), "index": jnp.arange(2)}
RNG = np.random.default_rng(0)
# Posteriors and pixels that say something, without a training.
VARIABLES = jax.tree.map(lambda leaf: 3 * leaf, jax.jit(nn.init(elbo_loss, NETWORKS))(RNGS, BATCH))
IMAGES = RNG.integers(0, 2, (23, *SHAPE)).astype(np.uint8)
PROGRAMS = {}


def call(function, batch):
    """Apply a function of the networks, each compiled once."""
    if function not in PROGRAMS:
        PROGRAMS[function] = jax.jit(nn.apply(function, NETWORKS))
    return jax.device_get(PROGRAMS[function](VARIABLES, dict(batch)))


CODER = BitsBack(call, SHAPE, LATENT, lanes=4)


class Recording(BitsBack):
    """A coder that keeps the latents which the networks decode."""

    def _starts(self, latents):
        seen.append(latents)
        return super()._starts(latents)


seen: list[np.ndarray] = []


def test_images_come_back_and_cost_what_their_latents_say():
    """The growth of a stack is -log p(x|z) - log p(z) + log q(z|x), to a thousandth."""
    seen.clear()
    stack = Recording(call, SHAPE, LATENT, lanes=4).encode(IMAGES)
    latents = np.concatenate(seen)
    assert latents.shape == (23, LATENT)
    np.testing.assert_array_equal(CODER.decode(stack, 23), IMAGES)
    assert stack.is_empty
    stack = CODER.encode(IMAGES)
    buckets, expected = CODER.buckets, 0.0
    for first in range(0, 23, 4):
        rows = slice(first, first + 4)
        images, found = IMAGES[rows], latents[rows]
        moments = call(posterior_moments, {"image": images.astype(np.float32)})
        _, frequency = buckets.part(
            found, *(moments[name].astype(np.float64) for name in ("mean", "deviation"))
        )
        expected -= (buckets.precision - np.log2(frequency)).sum() - buckets.bits * found.size
        masses = call(masses_at(2), {"latent": buckets.values(found)})
        ones = images[:, None].astype(bool)
        expected -= np.where(ones, masses[:, 1:], masses[:, :1]).sum() / np.log(2)
    assert bits(stack) == pytest.approx(expected, rel=1e-3)


def test_masses_are_those_of_every_level():
    latents = {"latent": RNG.normal(size=(3, LATENT)).astype(np.float32)}
    masses = call(masses_at(2), latents)
    np.testing.assert_allclose(np.exp(masses).sum(1), 1, rtol=1e-5)


def test_files_of_others_and_damaged_ones_are_refused():
    content = packed(CODER, CODER.encode(IMAGES), 23)
    np.testing.assert_array_equal(decompress(call, LATENT, content), IMAGES)
    for wrong in (b"", b"PNG" + content):
        with pytest.raises(GenaxError, match="no file of compressed images"):
            decompress(call, LATENT, wrong)
    flipped = bytearray(content)
    flipped[-1] ^= 1
    with pytest.raises(GenaxError, match="is damaged"):
        decompress(call, LATENT, bytes(flipped))
    with pytest.raises(GenaxError, match="cut off"):
        decompress(call, LATENT, content[:-1])

    def other(function, batch):
        return jax.device_get(PROGRAMS[function](changed, dict(batch)))

    changed = jax.tree.map(lambda leaf: 1.001 * leaf, VARIABLES)
    with pytest.raises(GenaxError, match="by other networks"):
        decompress(other, LATENT, content)


def test_an_evaluator_writes_reads_and_measures(tmp_path):
    shape, latent = (8, 8, 1), 4
    networks = MLPSize(shape, (16,), latent, nn.tanh).networks()
    batch = {"image": jnp.zeros((2, *shape)), "index": jnp.arange(2)}
    variables = jax.jit(nn.init(elbo_loss, networks))(RNGS, batch)

    def bound(nets, batch):
        return -elbo(nets, batch).values

    scores = {"file": compression(bound, latent, levels=2, examples=40, lanes=8)}
    task = replace(line_task(), networks=networks, evaluators=scores)
    with pytest.raises(GenaxError, match="other levels than the 2 that are compressed"):
        evaluate(task, variables, ImageData("digits", "test", range=(0, 1)), 20, tmp_path)
    found = evaluate(task, variables, Cut("digits", "test", range=(0, 1)), 20, tmp_path)
    path = tmp_path / "evaluation" / NAME
    assert found["file/lossless"] == 1
    assert found["file/bytes"] == path.stat().st_size
    assert found["file/bits_per_dim"] == pytest.approx(8 * path.stat().st_size / (40 * 64))
    # The header and most of each head are there for nothing.
    overhead = 40 + 6 * 8 + found["file/borrowed_bytes"]
    near = found["file/bound_bits_per_dim"] + overhead * 8 / (40 * 64)
    assert found["file/bits_per_dim"] == pytest.approx(near, rel=0.05)
    assert found.said["file"]["file"] == NAME


class Cut(ImageData):
    """Digits of which each pixel is black or white."""

    def evaluate(self, batch_size, shard):
        for batch in super().evaluate(batch_size, shard):
            yield {**batch, "image": (batch["image"] > 0.5).astype(np.float32)}
