"""Discriminators that score patches of an image (Isola et al. 2017, arXiv:1611.07004).

They are those of the official PyTorch code of Pix2Pix and CycleGAN. Pix2Pix's see an image beside
its translation, and normalise over the batch. CycleGAN's see one image, and normalise each by
itself.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.gan.dcgan import scaled_normal
from genax.nn.convolution import Conv
from genax.nn.instance_norm import instance_norm
from genax.nn.norms import BatchNorm

NORMS = ("batch", "instance")
Image = Float[Array, "b h w c"]
Source = Float[Array, "b h w s"]


def normalised(x: Image, norm: str, train: bool, name: str) -> Image:
    """Return x normalised over the batch, by a layer of that name, or each image by itself."""
    if norm == "instance":
        return instance_norm(x)
    return BatchNorm(scale_init=scaled_normal(1.0), name=name)(x, train)


class PatchDiscriminator(nn.Module):
    """Discriminator of overlapping patches; three layers of stride 2 make them 70x70 pixels.

    width: channels of the first layer. They double at each halving of the resolution, up to eight
      times.
    num_layers: layers of stride 2. Two layers of stride 1 follow.
    norm: "batch" or "instance". A convolution before BatchNorm has no bias.
    """

    width: int = 64
    num_layers: int = 3
    norm: str = "batch"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, image: Image, source: Source | None = None, train: bool = False
    ) -> Float[Array, "b H W"]:
        """Return the logits of each patch being real, float32.

        source: the image that `image` is a translation of; None if only `image` is judged.
        Raises GenaxError for images that are too small for the layers.
        """
        height, width = image.shape[1:3]
        if min(height, width) >> self.num_layers < 3:
            raise GenaxError(
                f"images of {height}x{width} hold no patch of a discriminator with "
                f"num_layers={self.num_layers}; choose fewer layers, or sides of at least "
                f"{3 << self.num_layers}."
            )
        conv = partial(
            Conv,
            kernel_size=(4, 4),
            padding=((1, 1), (1, 1)),
            kernel_init=scaled_normal(0.0),
            dtype=self.dtype,
        )
        x = image if source is None else jnp.concatenate([source, image], -1)
        x = x.astype(self.dtype)
        for level in range(self.num_layers + 1):
            x = conv(
                self.width * min(2**level, 8),
                strides=(2, 2) if level < self.num_layers else (1, 1),
                use_bias=not level or self.norm == "instance",
                name=f"conv_{level}",
            )(x)
            if level:
                x = normalised(x, self.norm, train, f"norm_{level}")
            x = nn.leaky_relu(x, 0.2)
        return conv(1, name="score")(x)[..., 0].astype(jnp.float32)


class PixelDiscriminator(nn.Module):
    """Discriminator of single pixels, the 1x1 "PixelGAN" of the paper.

    width: channels of the first layer.
    norm: as in `PatchDiscriminator`.
    """

    width: int = 64
    norm: str = "batch"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, image: Image, source: Source | None = None, train: bool = False
    ) -> Float[Array, "b h w"]:
        """Return the logits of each pixel being real, float32.

        source: see `PatchDiscriminator`.
        """
        biased = self.norm == "instance"
        conv = partial(Conv, kernel_size=(1, 1), kernel_init=scaled_normal(0.0), dtype=self.dtype)
        x = image if source is None else jnp.concatenate([source, image], -1)
        x = nn.leaky_relu(conv(self.width, name="conv_0")(x.astype(self.dtype)), 0.2)
        x = conv(2 * self.width, use_bias=biased, name="conv_1")(x)
        x = nn.leaky_relu(normalised(x, self.norm, train, "norm_1"), 0.2)
        return conv(1, use_bias=biased, name="score")(x)[..., 0].astype(jnp.float32)
