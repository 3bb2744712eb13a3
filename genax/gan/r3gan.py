"""The networks of R3GAN (Huang et al. 2024, arXiv:2501.05441), section 4 and appendix.

Residual blocks without normalisation, with an inverted bottleneck and grouped convolutions, FIR
resampling, and a constant map that the latent scales. As in the official code, the last convolution
of a block starts at 0, and a block's other ones are scaled down by the number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import normal, variance_scaling, zeros
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.gan.dcgan import resolutions
from genax.nn.convolution import Conv
from genax.nn.labels import check_label, one_hot
from genax.nn.resample import fir_downsample, fir_upsample

SLOPE = 0.2
# The gain by which a leaky ReLU keeps the variance.
GAIN = math.sqrt(2 / (1 + SLOPE**2))
# Widths from the smallest feature map to the image; channels of a group of the convolutions.
SIZES: dict[str, dict[str, Any]] = {
    # The presets of the official code.
    "cifar10": {"image_size": 32, "widths": (768,) * 4, "blocks": 2, "group_size": 16},
    "ffhq64": {"image_size": 64, "widths": (768,) * 4 + (384,), "blocks": 2, "group_size": 16},
    "imagenet32": {"image_size": 32, "widths": (1536,) * 4, "blocks": 2, "group_size": 32},
    # This project's own.
    "small": {"image_size": 28, "widths": (128, 128, 64), "blocks": 1, "group_size": 16},
    "fashion32": {"image_size": 32, "widths": (128, 128, 128, 64), "blocks": 1, "group_size": 16},
    "digits": {"image_size": 8, "widths": (48, 48), "blocks": 1, "group_size": 16},
}


def scaled(gain: float) -> Any:
    """Normal distribution of variance gain^2 / fan in."""
    return variance_scaling(gain**2, "fan_in", "normal") if gain else zeros


class GroupedConv(nn.Module):
    """3x3 convolution without bias, of groups of channels.

    The taps are sums of products, whose derivatives are products too, in loops as elsewhere.
    """

    group_size: int
    gain: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the convolution of x, whose channels are those of x."""
        b, h, w, c = x.shape
        groups = c // self.group_size
        kernel = self.param("kernel", scaled(self.gain), (3, 3, self.group_size, c))
        kernel = kernel.reshape(3, 3, self.group_size, groups, self.group_size).astype(self.dtype)
        padded = jnp.pad(x.astype(self.dtype), ((0, 0), (1, 1), (1, 1), (0, 0)))
        padded = padded.reshape(b, h + 2, w + 2, groups, self.group_size)
        y = sum(
            jnp.einsum(
                "bhwgi,igo->bhwgo",
                padded[:, row : row + h, column : column + w],
                kernel[row, column],
            )
            for row in range(3)
            for column in range(3)
        )
        return jnp.asarray(y).reshape(b, h, w, c)


class Block(nn.Module):
    """Residual block: 1x1 to twice the width, grouped 3x3, 1x1 back.

    depth: blocks of the whole network, by which the variance is scaled.
    """

    depth: int
    group_size: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return x and what the block adds to it."""
        wide = 2 * x.shape[-1]
        # Of three convolutions, of which the first two share the factor.
        gain = GAIN * self.depth ** (-1 / 4)
        y = _pointwise(wide, gain, self.dtype, "expand")(x)
        y = BiasedLeakyReLU(name="activation_0")(y)
        y = GroupedConv(self.group_size, gain, self.dtype, name="groups")(y)
        y = BiasedLeakyReLU(name="activation_1")(y)
        return x + _pointwise(x.shape[-1], 0.0, self.dtype, "contract")(y)


class BiasedLeakyReLU(nn.Module):
    """A bias for each channel, then the leaky ReLU."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Return the leaky ReLU of x and the bias."""
        bias = self.param("bias", zeros, (x.shape[-1],))
        return nn.leaky_relu(x + bias.astype(x.dtype), SLOPE)


def _pointwise(features: int, gain: float, dtype: Any, name: str) -> Conv:
    kernel_init = scaled(gain)
    return Conv(features, (1, 1), use_bias=False, kernel_init=kernel_init, dtype=dtype, name=name)


class R3GANGenerator(nn.Module):
    """Generator: a constant map scaled by the latent, then blocks at each resolution.

    widths: channels at each resolution, the smallest first.
    blocks: at each resolution.
    group_size: channels of a group of the 3x3 convolutions.
    num_classes: classes of the labels; None means no labels.
    """

    image_size: int = 32
    channels: int = 3
    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: int = 2
    group_size: int = 16
    latent_size: int = 64
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images, float32. Nothing bounds their values."""
        sizes = _sizes(self, self.image_size)
        check_label(self, label)
        z = z.astype(self.dtype)
        if label is not None:
            embedding = nn.Dense(
                self.latent_size,
                use_bias=False,
                kernel_init=scaled(1.0),
                dtype=self.dtype,
                name="embedding",
            )
            z = jnp.concatenate([z, embedding(one_hot(self, label))], axis=-1)
        scale = nn.Dense(
            self.widths[0], use_bias=False, kernel_init=scaled(1.0), dtype=self.dtype, name="scale"
        )
        basis = self.param("basis", normal(1.0), (sizes[0], sizes[0], self.widths[0]))
        x = basis.astype(self.dtype) * scale(z)[:, None, None, :]
        for stage, width in enumerate(self.widths):
            if stage:
                if width != x.shape[-1]:
                    x = _pointwise(width, 1.0, self.dtype, f"width_{stage}")(x)
                x = fir_upsample(x)
            for number in range(self.blocks):
                x = _block(self, f"block_{stage}_{number}")(x)
        return _pointwise(self.channels, 1.0, self.dtype, "image")(x).astype(jnp.float32)


class R3GANDiscriminator(nn.Module):
    """Discriminator: the generator's mirror image, with a projection of the label.

    The fields are those of `R3GANGenerator`.
    """

    widths: Sequence[int] = (768, 768, 768, 768)
    blocks: int = 2
    group_size: int = 16
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, " b"]:
        """Return the scores, float32."""
        sizes = _sizes(self, x.shape[1])
        check_label(self, label)
        widths = self.widths[::-1]
        x = _pointwise(widths[0], 1.0, self.dtype, "image")(x)
        for stage, width in enumerate(widths):
            for number in range(self.blocks):
                x = _block(self, f"block_{stage}_{number}")(x)
            if stage + 1 < len(widths):
                x = fir_downsample(x)
                if widths[stage + 1] != width:
                    x = _pointwise(widths[stage + 1], 1.0, self.dtype, f"width_{stage}")(x)
        # A convolution of each channel by itself, over the whole map.
        kernel = self.param("basis", normal(1 / sizes[0]), (sizes[0], sizes[0], x.shape[-1]))
        x = jnp.einsum("bhwc,hwc->bc", x, kernel.astype(self.dtype))
        outputs = 1 if label is None else self.widths[0]
        linear = nn.Dense(
            outputs, use_bias=False, kernel_init=scaled(1.0), dtype=self.dtype, name="score"
        )
        x = linear(x).astype(jnp.float32)
        if label is None:
            return x[:, 0]
        embedding = nn.Dense(
            outputs,
            use_bias=False,
            kernel_init=scaled(1 / math.sqrt(outputs)),
            dtype=self.dtype,
            name="embedding",
        )
        return (x * embedding(one_hot(self, label))).sum(-1)


def _block(network: Any, name: str) -> Block:
    depth = network.blocks * len(network.widths)
    return Block(depth, network.group_size, network.dtype, name=name)


def _sizes(network: Any, image_size: int) -> list[int]:
    """Return the sizes of all feature maps. Raises GenaxError if widths are not one for each."""
    sizes = resolutions(image_size)
    wrong = [width for width in network.widths if 2 * width % network.group_size]
    if len(sizes) != len(network.widths) or wrong:
        raise GenaxError(
            f"config.widths={tuple(network.widths)} must be one for each of the resolutions "
            f"{sizes}, and twice each width must divide into groups of "
            f"config.group_size={network.group_size} channels."
        )
    return sizes
