"""Bits back with ANS: Townsend, Bird & Barber 2019 (arXiv:1901.04866), for chains of images.

Each image is pushed in three moves: a latent is popped by q(z|x), so that what is on the stack
already decides it; the image is pushed by p(x|z); the latent is pushed by p(z). The length grows by
-log p(x|z) - log p(z) + log q(z|x), in expectation the negative ELBO. Popping goes backwards and
gives all bits back.

Both sides compute the networks of the same arrays by the same program, on one kind of device:
another one may round otherwise, and then nothing is read right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from genax.core.task import Batch
from genax.vae.compression.ans import Stack
from genax.vae.compression.codes import Buckets, find_level, level_part, level_starts

# (function(nets, batch), batch of numpy arrays) -> its result as numpy arrays.
Call = Callable[[Callable[..., Any], Mapping[str, np.ndarray]], Any]
Levels = UInt8[np.ndarray, "n h w c"]


def posterior_moments(nets: nn.Module, batch: Batch) -> dict[str, Array]:
    """Return mean and deviation of q(z|x), each [b, z]."""
    found = nets.encoder(batch["image"])
    return {"mean": found.mean, "deviation": jnp.exp(0.5 * found.log_variance)}


def level_masses(nets: nn.Module, batch: Batch, levels: int) -> Float[Array, "b levels h w c"]:
    """Return log p(x|z) of each pixel at each level k / (levels - 1), of batch["latent"] [b, z]."""
    likelihood = nets.decoder(batch["latent"][:, None])
    shades = jnp.linspace(0.0, 1.0, levels)[None, :, None, None, None]
    return likelihood.log_prob(shades)


@cache
def masses_at(levels: int) -> Callable[[nn.Module, Batch], Array]:
    """Return `level_masses` of so many levels, one function for all calls: it is compiled once."""
    return partial(level_masses, levels=levels)


@dataclass(frozen=True)
class BitsBack:
    """A coder of images by an autoencoder.

    call: applies a function of the networks.
    shape: of an image.
    latent_size: of a latent.
    levels: that a pixel has, at most 256.
    lanes: images that are coded side by side.
    precision: of the pixels' frequencies, in bits.
    """

    call: Call
    shape: tuple[int, int, int]
    latent_size: int
    levels: int = 2
    lanes: int = 16
    buckets: Buckets = Buckets()  # noqa: RUF009
    precision: int = 20

    def encode(self, images: Levels) -> Stack:
        """Return a stack of images, whose levels are whole numbers from 0."""
        stack = Stack(self.lanes)
        for first in range(0, len(images), self.lanes):
            self.push(stack, images[first : first + self.lanes])
        return stack

    def decode(self, stack: Stack, count: int) -> Levels:
        """Return the `count` images of a stack, which is empty then."""
        parts: list[Levels] = []
        for first in reversed(range(0, count, self.lanes)):
            parts.insert(0, self.pop(stack, min(self.lanes, count - first)))
        return np.concatenate(parts)

    def push(self, stack: Stack, images: Levels) -> None:
        """Push at most one image a lane."""
        count = len(images)
        mean, deviation = self._posterior(images)
        latents = np.zeros((count, self.latent_size), np.int64)
        for number in range(self.latent_size):
            find = self.buckets.posterior(mean[:, number], deviation[:, number])
            latents[:, number] = stack.pop(find, self.buckets.precision, count)
        flat, starts = images.reshape(count, -1).astype(np.int64), self._starts(latents)
        for number in range(flat.shape[1]):
            stack.push(*level_part(starts[:, number], flat[:, number]), self.precision)
        for number in range(self.latent_size):
            stack.push(latents[:, number], np.ones(count, np.int64), self.buckets.bits)

    def pop(self, stack: Stack, count: int) -> Levels:
        """Pop one image off each of the first `count` lanes."""
        latents = np.zeros((count, self.latent_size), np.int64)
        for number in reversed(range(self.latent_size)):
            latents[:, number] = stack.pop(self.buckets.prior, self.buckets.bits, count)
        starts = self._starts(latents)
        flat = np.zeros((count, starts.shape[1]), np.int64)
        for number in reversed(range(flat.shape[1])):
            flat[:, number] = stack.pop(find_level(starts[:, number]), self.precision, count)
        images = flat.reshape(count, *self.shape).astype(np.uint8)
        mean, deviation = self._posterior(images)
        for number in reversed(range(self.latent_size)):
            moments = mean[:, number], deviation[:, number]
            start, frequency = self.buckets.part(latents[:, number], *moments)
            stack.push(start, frequency, self.buckets.precision)
        return images

    def fingerprint(self) -> bytes:
        """Return eight bytes that differ for networks that make other numbers."""
        latents = np.zeros((1, self.latent_size), np.int64)
        zeros = np.zeros((1, *self.shape), np.uint8)
        arrays = (self._starts(latents), *self._posterior(zeros))
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()[:8]

    def _posterior(self, images: Levels) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation [k, z] in float64."""
        found = self.call(posterior_moments, {"image": self._filled(self.scaled(images))})
        return tuple(
            found[name][: len(images)].astype(np.float64) for name in ("mean", "deviation")
        )

    def _starts(self, latents: Int[np.ndarray, "k z"]) -> Int[np.ndarray, "k pixels ends"]:
        batch = {"latent": self._filled(self.buckets.values(latents))}
        masses = self.call(masses_at(self.levels), batch)[: len(latents)]
        flat = masses.reshape(*masses.shape[:2], -1).swapaxes(1, 2)
        return level_starts(flat, self.precision)

    def scaled(self, images: Levels) -> Float[np.ndarray, "n h w c"]:
        """Return images as the networks read them, in [0, 1]."""
        return (images / (self.levels - 1)).astype(np.float32)

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        """Return as many rows as lanes, since another shape would be another program."""
        spare = np.zeros((self.lanes - len(rows), *rows.shape[1:]), rows.dtype)
        return np.concatenate([rows, spare])
