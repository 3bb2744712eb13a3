"""The networks of ProGAN (Karras et al. 2018, arXiv:1710.10196), which grow while they train.

The layers are those of the official TensorFlow code, which are those of the paper's table 2 but for
one: a discriminator's block halves the resolution before its second activation and not after it.
Weights have an equalised learning rate.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.gan.equalised import (
    HE,
    EqualisedConv,
    EqualisedDense,
    EqualisedDownsample,
    EqualisedUpsample,
    bias_of,
)
from genax.gan.growing import SMALLEST, Share, blended, features_at, sizes_to
from genax.gan.minibatch_deviation import minibatch_deviation
from genax.gan.pixel_norm import pixel_norm
from genax.nn.convolution import nearest_upsample
from genax.nn.resample import average_downsample, binomial_blur

SLOPE = 0.2

# Of networks for any size of images.
SIZES: dict[str, dict[str, int]] = {
    # The official networks. At 1024x1024: 23,079,115 and 23,087,249 parameters.
    "paper": {"width": 16384, "max_width": 512, "latent_size": 512},
    # The official configuration of section 6.5, CIFAR-10.
    "cifar10": {"width": 8192, "max_width": 128, "latent_size": 128},
    # This project's own.
    "cpu": {"width": 1024, "max_width": 64, "latent_size": 64},
    "digits": {"width": 256, "max_width": 32, "latent_size": 16},
}


class ProGANGenerator(nn.Module):
    """Generator of images from latents that grows by one block for each doubling of the image.

    image_size: height (and width) of the images of all blocks together, in pixels.
    channels: channels of the images.
    width: channels of a block times its resolution.
    max_width: bound of the channels of a block.
    latent_size: size of a latent.
    """

    image_size: int = 1024
    channels: int = 3
    width: int = 16384
    max_width: int = 512
    latent_size: int = 512
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b z"],
        size: int | None = None,
        share: Share = None,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images of `size` pixels, float32, which no function bounds.

        size: of the last block in play; None is that of all blocks.
        share: how far that block has come in; None is wholly.
        """
        sizes = sizes_to(size or self.image_size)
        to_image = {
            here: EqualisedConv(self.channels, (1, 1), dtype=self.dtype, name=f"to_image_{here}")
            for here in sizes
        }
        x = before = pixel_norm(z.astype(self.dtype))
        for here in sizes:
            before, features = x, features_at(here, self.width, self.max_width)
            block = _FirstBlock if here == SMALLEST else _GeneratorBlock
            x = block(features, self.dtype, name=f"block_{here}")(x)
            if self.is_initializing():
                to_image[here](x)  # has parameters, though it may never come in
        image = to_image[sizes[-1]](x)
        if share is not None:
            image = blended(image, nearest_upsample(to_image[sizes[-2]](before)), share)
        return image.astype(jnp.float32)


class ProGANDiscriminator(nn.Module):
    """Discriminator that scores images: the generator's blocks in reverse.

    image_size, width, max_width: see `ProGANGenerator`.
    group_size: see `minibatch_deviation`.
    blur: whether features are filtered before the resolution is halved, as in StyleGAN.
    """

    image_size: int = 1024
    width: int = 16384
    max_width: int = 512
    group_size: int = 4
    blur: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b h w c"],
        size: int | None = None,
        share: Share = None,
        train: bool = False,
    ) -> Float[Array, " b"]:
        """Return scores, float32.

        size: of the images; None is that of all blocks.
        share: how far the block of that size has come in; None is wholly.
        """
        sizes = sizes_to(size or self.image_size)
        image = image.astype(self.dtype)
        features = {
            here: features_at(here, self.width, self.max_width) for here in (SMALLEST // 2, *sizes)
        }

        from_image = {
            here: EqualisedConv(
                features[here], (1, 1), gain=HE, dtype=self.dtype, name=f"from_image_{here}"
            )
            for here in sizes
        }
        if self.is_initializing():
            for conv in from_image.values():
                conv(image)  # has parameters, though it may never come in
        x = nn.leaky_relu(from_image[sizes[-1]](image), SLOPE)
        for here, smaller in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
            block = _DiscriminatorBlock(
                features[here], features[smaller], self.blur, self.dtype, name=f"block_{here}"
            )
            x = block(x)
            if share is not None and here == sizes[-1]:
                old = from_image[smaller](average_downsample(image))
                x = blended(x, nn.leaky_relu(old, SLOPE), share)
        x = minibatch_deviation(x, self.group_size)
        last = _LastBlock(features[SMALLEST], features[SMALLEST // 2], self.dtype, name="block_4")
        return last(x).astype(jnp.float32)


class _FirstBlock(nn.Module):
    """The 4x4 block of a generator. He's gain is a quarter in its first layer, as in the code."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z: Float[Array, "b z"]) -> Float[Array, "b 4 4 c"]:
        pixels = SMALLEST * SMALLEST
        dense = EqualisedDense(
            pixels * self.features, gain=HE / 4, use_bias=False, dtype=self.dtype, name="dense"
        )
        x = dense(z).reshape(-1, SMALLEST, SMALLEST, self.features)
        x = _activated(x + bias_of(self))
        return _activated(EqualisedConv(self.features, gain=HE, dtype=self.dtype, name="conv")(x))


class _GeneratorBlock(nn.Module):
    """Two layers that double the resolution."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        up = EqualisedUpsample(self.features, gain=HE, dtype=self.dtype, name="upsample")
        conv = EqualisedConv(self.features, gain=HE, dtype=self.dtype, name="conv")
        return _activated(conv(_activated(up(x))))


class _DiscriminatorBlock(nn.Module):
    """Two layers that halve the resolution."""

    features: int
    next_features: int
    blur: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        conv = EqualisedConv(self.features, gain=HE, dtype=self.dtype, name="conv")
        down = EqualisedDownsample(self.next_features, gain=HE, dtype=self.dtype, name="downsample")
        x = nn.leaky_relu(conv(x), SLOPE)
        return nn.leaky_relu(down(binomial_blur(x) if self.blur else x), SLOPE)


class _LastBlock(nn.Module):
    """The 4x4 block of a discriminator."""

    features: int
    next_features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b 4 4 c"]) -> Float[Array, " b"]:
        conv = EqualisedConv(self.features, gain=HE, dtype=self.dtype, name="conv")
        dense = EqualisedDense(self.next_features, gain=HE, dtype=self.dtype, name="dense")
        x = nn.leaky_relu(conv(x), SLOPE)
        x = nn.leaky_relu(dense(x.reshape(len(x), -1)), SLOPE)
        return EqualisedDense(1, dtype=self.dtype, name="score")(x)[:, 0]


def _activated(x: Array) -> Array:
    return pixel_norm(nn.leaky_relu(x, SLOPE))
