"""Size of test images that a run has compressed to a file and read back, beside the bound."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import Evaluator
from genax.core.errors import GenaxError
from genax.core.task import Batch
from genax.evaluation.written import write_content
from genax.vae.compression.ans import Stack
from genax.vae.compression.bits_back import BitsBack, Call, Levels

NAME = "images.bits_back"
_MAGIC = b"genaxbb1"
# Number of images, height, width, channels, levels, lanes; then eight bytes of the networks.
_HEADER = struct.Struct("<8s6I8s")


def packed(coder: BitsBack, stack: Stack, count: int) -> bytes:
    """Return the file of a stack of so many images."""
    counts = (count, *coder.shape, coder.levels, coder.lanes)
    return _HEADER.pack(_MAGIC, *counts, coder.fingerprint()) + stack.to_bytes()


def decompress(call: Call, latent_size: int, content: bytes) -> Levels:
    """Return the images of a file.

    call: applies a function of the networks that compressed it, see `BitsBack`.
    Raises GenaxError for a file that is none, is damaged, or is of other networks.
    """
    if len(content) < _HEADER.size or not content.startswith(_MAGIC):
        raise GenaxError("this is no file of compressed images; give one that a run has written.")
    _, count, *shape, levels, lanes, networks = _HEADER.unpack(content[: _HEADER.size])
    coder = BitsBack(call, tuple(shape), latent_size, levels, lanes)
    if coder.fingerprint() != networks:
        raise GenaxError(
            "the file was compressed by other networks, or on another kind of device; read it with "
            "the checkpoint and on the device that wrote it."
        )
    stack = Stack.from_bytes(content[_HEADER.size :], lanes)
    images = coder.decode(stack, count)
    if not stack.is_empty:
        raise GenaxError("the file of compressed images is damaged; restore it from a copy.")
    return images


def compression(
    bound: Callable[[Any, Batch], Float[Array, " b"]],
    latent_size: int,
    levels: int,
    examples: int,
    lanes: int = 16,
) -> Evaluator:
    """Evaluator that compresses test images to WORKDIR/evaluation, reads them back, and measures.

    bits_per_dim: eight times the file's bytes, by pixels and channels.
    bound_bits_per_dim: the negative ELBO of the same images, which it may not beat by more than
      chance.
    bytes: of the file, its header, heads and borrowed words included.
    borrowed_bytes: that the first images popped off the empty stack; each lane pays for them once.
    zlib_bits_per_dim: the same images by zlib, which knows no images; binary ones as bits.
    lossless: 1 if every image that was read back is the one that was written, else 0.

    bound: (nets, batch) -> the negative ELBO of each image in nats.
    latent_size: of the networks.
    levels: that a pixel of the images has, k / (levels - 1).
    examples: how many test images.
    lanes: see `BitsBack`.
    """

    def rows(nets: Any, batch: Batch) -> dict[str, Array]:
        return {
            "image": jnp.rint(batch["image"] * (levels - 1)).astype(jnp.uint8),
            "exact": jnp.abs(batch["image"] * (levels - 1) % 1 - 0.5).min((1, 2, 3)) > 0.45,
            "bound": bound(nets, batch),
        }

    def summarize(found: Mapping[str, np.ndarray], workdir: Any, call: Call) -> dict[str, float]:
        images = found["image"]
        if not found["exact"].all():
            raise GenaxError(
                f"images have other levels than the {levels} that are compressed: binarise them, "
                "or choose their number of levels."
            )
        coder = BitsBack(call, images.shape[1:], latent_size, levels, min(lanes, len(images)))
        stack = coder.encode(images)
        content = packed(coder, stack, len(images))
        path = write_content(content, workdir, NAME)
        read = decompress(call, latent_size, content if path is None else path.read_bytes())
        plain = np.packbits(images) if levels == 2 else images
        per_bit = images.size * math.log(2)
        return {
            "bits_per_dim": 8 * len(content) / images.size,
            "bound_bits_per_dim": float(found["bound"].astype(np.float64).sum() / per_bit),
            "zlib_bits_per_dim": 8 * len(zlib.compress(plain.tobytes(), 9)) / images.size,
            "bytes": float(len(content)),
            "borrowed_bytes": 4.0 * len(stack.borrowed),
            "lossless": float(np.array_equal(read, images)),
        }

    says = {"coder": "bits back with ANS", "levels": levels, "lanes": lanes, "file": NAME}
    return Evaluator(rows, summarize, examples, says=says)
