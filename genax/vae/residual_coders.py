"""Encoder and decoder of convolutional residual blocks, those of latent diffusion's autoencoders.

They are the networks of the public code of Rombach et al. 2022 (arXiv:2112.10752), which took them
from Esser et al. 2021 (arXiv:2012.09841): DDPM's layers without a time and without skips. Weights
begin as PyTorch's do, but biases at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv, Downsample, Upsample
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_in_uniform
from genax.nn.rematerialise import rematerialise
from genax.nn.resample import check_halvings
from genax.nn.residual_block import ResidualBlock
from genax.nn.spatial_attention import SpatialAttention

Maps = Float[Array, "b _ _ _"]


class ResidualCoder(nn.Module):
    """What both ways share: residual blocks at each resolution, and those in the middle.

    A base class: the encoder and the decoder call its methods in their own compact method.

    out_channels: channels of the output.
    channels: channels at full resolution.
    multipliers: multipliers of the channels, one per resolution. Each resolution is half the one
      before.
    num_res_blocks: residual blocks per resolution of the encoder. The decoder has one more.
    attention_levels: numbers of the resolutions whose residual blocks are each followed by
      attention of pixels; 0 is that of the images.
    middle_attention: whether there is attention between the two blocks of the smallest resolution.
    num_groups: see `GroupNorm`.
    remat: see `rematerialise`.
    """

    out_channels: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    _: KW_ONLY
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    num_groups: int = 32
    epsilon: float = 1e-6
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @property
    def widths(self) -> list[int]:
        """Channels of each resolution."""
        return [self.channels * multiplier for multiplier in self.multipliers]

    def blocks(self, x: Maps, way: str, level: int, count: int, train: bool) -> Maps:
        """Apply the residual blocks of a resolution, with attention if it has some.

        way: "down" or "up", the beginning of the layers' names.
        """
        for number in range(count):
            x = self._residual(self.widths[level], f"{way}_{level}_residual_{number}")(
                x, None, train
            )
            if level in self.attention_levels:
                x = self._attention(f"{way}_{level}_attention_{number}")(x, train)
        return x

    def middle(self, x: Maps, train: bool) -> Maps:
        """Apply the blocks of the smallest resolution."""
        x = self._residual(self.widths[-1], "middle_residual_0")(x, None, train)
        if self.middle_attention:
            x = self._attention("middle_attention")(x, train)
        return self._residual(self.widths[-1], "middle_residual_1")(x, None, train)

    def normalised(self, x: Maps) -> Maps:
        """Apply the last norm and SiLU."""
        return GroupNorm(self.num_groups, self.epsilon, silu=True, name="norm_out")(x)

    def conv(self, features: int, name: str) -> Conv:
        """Return a 3x3 convolution."""
        return Conv(features, kernel_init=fan_in_uniform(), dtype=self.dtype, name=name)

    def _residual(self, features: int, name: str) -> nn.Module:
        return self._made(ResidualBlock, 3, name, features, self.dropout)

    def _attention(self, name: str) -> nn.Module:
        return self._made(SpatialAttention, 2, name, None)

    def _made(self, kind: Callable, train_at: int, name: str, *sizes) -> nn.Module:
        """Return a layer; `train_at` is the place of `train` among its call's arguments."""
        make = partial(
            rematerialise(kind, self.remat, static_argnums=(train_at,)),
            kernel_init=fan_in_uniform(),
            output_init=fan_in_uniform(),
            dtype=self.dtype,
            name=name,
        )
        return make(*sizes, self.num_groups, self.epsilon)


class ResidualEncoder(ResidualCoder):
    """The way from images to feature maps of the smallest resolution."""

    @nn.compact
    def __call__(
        self, image: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b H W out"]:
        """Return the output, float32.

        train: whether dropout is on.
        Raises GenaxError for images that cannot be halved often enough, and for attention at a
        resolution that there is not.
        """
        check_halvings(self, image)
        if any(level not in range(len(self.multipliers)) for level in self.attention_levels):
            raise GenaxError(
                f"attention_levels={self.attention_levels} must be numbers of the "
                f"{len(self.multipliers)} resolutions, from 0."
            )
        x = self.conv(self.channels, "conv_in")(image)
        for level, features in enumerate(self.widths):
            x = self.blocks(x, "down", level, self.num_res_blocks, train)
            if level < len(self.widths) - 1:
                # Zeros stand behind the last row and column only.
                down = Downsample(
                    features,
                    (0, 1),
                    kernel_init=fan_in_uniform(),
                    dtype=self.dtype,
                    name=f"down_{level}_downsample",
                )
                x = down(x)
        x = self.normalised(self.middle(x, train))
        return self.conv(self.out_channels, "conv_out")(x).astype(jnp.float32)


class ResidualDecoder(ResidualCoder):
    """The way from feature maps of the smallest resolution to images."""

    @nn.compact
    def __call__(
        self, latent: Float[Array, "b h w c"], train: bool = False, with_features: bool = False
    ) -> Float[Array, "b H W out"] | tuple[Float[Array, "b H W out"], Float[Array, "b H W c1"]]:
        """Return images, float32, which no activation bounds.

        train: whether dropout is on.
        with_features: return also the feature maps that the last convolution makes them of.
        """
        x = self.middle(self.conv(self.widths[-1], "conv_in")(latent), train)
        for level, features in reversed(list(enumerate(self.widths))):
            x = self.blocks(x, "up", level, self.num_res_blocks + 1, train)
            if level:
                up = Upsample(
                    features,
                    kernel_init=fan_in_uniform(),
                    dtype=self.dtype,
                    name=f"up_{level}_upsample",
                )
                x = up(x)
        x = self.normalised(x)
        image = self.conv(self.out_channels, "conv_out")(x).astype(jnp.float32)
        return (image, x) if with_features else image
