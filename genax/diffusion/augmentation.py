"""EDM's augmentation: flips and an affine transformation of training images, and their labels.

Karras et al. 2022, appendix F.2. The network gets the labels of the transformation, so samples with
labels of zero look like images that nothing was done to. Probabilities, spreads and filters are
those of the paper's public code for CIFAR-10, FFHQ and AFHQ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from genax.core import GenaxError, Loss, example_keys
from genax.core.task import Batch
from genax.diffusion.losses import images_of
from genax.nn.conditions import Condition, unconditional

# The numbers that `labels_of` returns.
NUM_LABELS = 9
# Standard deviations: of log2 of the sizes, and of the shift in widths and heights of the image.
SIZE_DEVIATION = 0.2
SHIFT_DEVIATION = 0.125
# Daubechies' least asymmetric wavelet with six vanishing moments, its low-pass filter. It is
# orthonormal: an image that is enlarged by it and made smaller again is the same image.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)


class Transformation(NamedTuple):
    """Transformation of one image. Zeros change nothing.

    The parts are applied in this order. All but the flips are about the middle of the image.

    mirrored, flipped: 1 exchanges left and right, or top and bottom.
    scale: the image is 2^(0.2 scale) times larger.
    angle: counterclockwise rotation in radians.
    stretch: the image is 2^(0.2 stretch) times longer in one direction, and as many times shorter
      across it.
    direction: the angle of that direction, counterclockwise from the right, in radians.
    shift: [2], to the right in eighths of the width, and down in eighths of the height.
    """

    mirrored: Float[Array, ""]
    flipped: Float[Array, ""]
    scale: Float[Array, ""]
    angle: Float[Array, ""]
    stretch: Float[Array, ""]
    direction: Float[Array, ""]
    shift: Float[Array, " 2"]


def random_transformation(key: Key[Array, ""], probability: float) -> Transformation:
    """Return a random transformation.

    probability: of each part to be drawn and not zero. A coin decides on a flip that is drawn.
      Mirroring is always drawn, unless the probability is 0.
    """
    gaussian, uniform = jax.random.split(key)
    scale, stretch, *shift = jax.random.normal(gaussian, (4,))
    numbers = jax.random.uniform(uniform, (10,))
    drawn = (numbers[:5] < probability).astype(jnp.float32)
    mirrored, flipped, turned = (numbers[5:8] < 0.5).astype(jnp.float32)
    angle, direction = jnp.pi * (2 * numbers[8:] - 1)
    return Transformation(
        mirrored=mirrored * (probability > 0),
        flipped=drawn[0] * flipped,
        scale=drawn[1] * scale,
        angle=drawn[2] * angle,
        stretch=drawn[3] * stretch,
        # Half of the time along the axes.
        direction=turned * direction,
        shift=drawn[4] * jnp.stack(shift),
    )


def labels_of(transformation: Transformation) -> Float[Array, "9"]:
    """Return the nine numbers that tell a network of the transformation, zeros for none."""
    t = transformation
    return jnp.stack(
        [
            t.mirrored,
            t.flipped,
            t.scale,
            jnp.cos(t.angle) - 1,
            jnp.sin(t.angle),
            t.stretch * jnp.cos(t.direction),
            t.stretch * jnp.sin(t.direction),
            *t.shift,
        ]
    )


def transformed(
    image: Float[Array, "h w c"], transformation: Transformation
) -> Float[Array, "h w c"]:
    """Return the transformed image.

    The flips are exact. For the rest the image is enlarged twofold by `SYM6`, sampled bilinearly,
    and made smaller. It is reflected at its edges as far as it reaches, and 0 beyond. The filter
    overshoots, so values may leave the range of the image's.
    """
    t = transformation
    image = jnp.where(t.mirrored > 0, image[:, ::-1], image)
    image = jnp.where(t.flipped > 0, image[::-1], image)
    h, w, _ = image.shape
    product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    large = product("yh,xw,hwc->yxc", _enlarging(h), _enlarging(w), image)
    # Samples of the enlarged result, and where they were before, relative to the middle.
    right, down = t.shift * SHIFT_DEVIATION * jnp.array([w, h])
    x = jnp.arange(2 * w + 10)[None, :] - (w + 4) - 2 * right
    y = jnp.arange(2 * h + 10)[:, None] - (h + 4) - 2 * down
    x, y = _turned(x, y, t.direction)
    longer = jnp.exp2(SIZE_DEVIATION * t.stretch)
    x, y = _turned(x / longer, y * longer, t.angle - t.direction)
    smaller = jnp.exp2(-SIZE_DEVIATION * t.scale)
    places = [smaller * y + 3 * (h - 1), smaller * x + 3 * (w - 1)]
    sampled = jax.vmap(lambda channel: map_coordinates(channel, places, order=1), -1, -1)(large)
    return product("hy,wx,yxc->hwc", _shrinking(h), _shrinking(w), sampled)


def on_augmented(loss: Callable[..., Loss], probability: float) -> Callable[..., Loss]:
    """Loss of augmented images, whose denoiser gets their labels as "augmentation".

    loss: (nets, batch, condition=, **arguments), such as `denoising_loss` with its process.
    probability: see `random_transformation`.
    """

    def augmented(key, image):
        drawn = random_transformation(key, probability)
        return transformed(image, drawn), labels_of(drawn)

    def of_augmented(
        nets: nn.Module, batch: Batch, condition: Condition = unconditional, **arguments: Any
    ) -> Loss:
        image, labels = jax.vmap(augmented)(example_keys(nets, batch), images_of(batch))
        batch = {**batch, "image": image, "augmentation": labels}

        def with_labels(nets, batch):
            return {**condition(nets, batch), "augmentation": batch["augmentation"]}

        return loss(nets, batch, condition=with_labels, **arguments)

    return of_augmented


def _turned(x: Array, y: Array, angle: Float[Array, ""]) -> tuple[Array, Array]:
    """Return positions, y down, turned clockwise."""
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    return cosine * x - sine * y, sine * x + cosine * y


def _enlarging(size: int) -> np.ndarray:
    """Return the matrix that reflects `size` pixels at both ends and doubles them: [6n - 4, n].

    Reflections reach as far as the pixels do. Zeros follow each pixel before the filter.
    """
    reflected = np.pad(np.eye(size), ((size - 1, size - 1), (0, 0)), mode="reflect")
    return (_taps(2 * len(reflected), len(reflected), first=-5) @ reflected).astype(np.float32)


def _shrinking(size: int) -> np.ndarray:
    """Return the matrix that filters doubled pixels and keeps each second: [n, 2n + 10]."""
    return _taps(2 * size + 10, size, first=0).T.astype(np.float32)


def _taps(rows: int, columns: int, first: int) -> np.ndarray:
    """Return the matrix whose column k has the filter from row 2k + first on."""
    taps = np.arange(rows)[:, None] - 2 * np.arange(columns) - first
    inside = (taps >= 0) & (taps < len(SYM6))
    return np.where(inside, np.asarray(SYM6)[taps.clip(0, len(SYM6) - 1)], 0.0)


def augmentation_of(
    network: Any, augmentation: Float[Array, "b n"] | None, like: Array
) -> Float[Array, "b n"] | None:
    """Return the labels of augmentations that a network gets: zeros if none are given.

    like: [b, ...]. None is returned for a network that takes no such labels.
    Raises GenaxError for another number of labels than the network takes.
    """
    count = network.augmentation_labels
    shape = (like.shape[0], count)
    if augmentation is None:
        return jnp.zeros(shape) if count else None
    if augmentation.shape != shape:
        raise GenaxError(
            f"{type(network).__name__}(augmentation_labels={count}) got labels of augmentations of "
            f"shape {augmentation.shape}, not {shape}: set augmentation_labels to their number."
        )
    return augmentation
