"""The ways down and up of residual blocks that all U-Nets share, apart from where they attend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.nn.convolution import Conv, Downsample, Upsample, nearest_upsample
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_avg_uniform
from genax.nn.rematerialise import rematerialise
from genax.nn.resample import average_downsample
from genax.nn.residual_block import ResidualBlock
from genax.nn.spatial_attention import SpatialAttention
from genax.nn.timestep_embedding import TimestepEmbedding

# (features, level or None in the middle, name of the layer) -> features, with attention or without.
Attend = Callable[[Array, int | None, str], Array]


class UNetBase(nn.Module):
    """DDPM's ways down and up and middle (Ho et al. 2020, appendix B), with ADM's variations.

    A base class: networks call its methods in their own compact method. Parameters are float32,
    computation is in `dtype`. Initial values are those of DDPM's code.

    channels: channels at full resolution.
    multipliers: multipliers of the channels, one per resolution. Each resolution is half the one
      before.
    num_res_blocks: residual blocks per resolution (one more on the way up).
    num_groups: see `GroupNorm`.
    time_channels: width of the sinusoids of the time, whose embedding is four times as wide. None
      means `channels`.
    frequency_shift, cosine_first: see `sinusoidal_embedding`.
    scale_shift: see `ResidualBlock`.
    residual_resampling: change the resolution inside residual blocks, by means of 2x2 pixels and by
      repetition, as ADM does. Otherwise it is changed by convolutions.
    downsample_padding: rows (and columns) of zeros before such a convolution. One row follows.
    remat: see `rematerialise`.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 2
    _: KW_ONLY
    dropout: float = 0.0
    num_groups: int = 32
    epsilon: float = 1e-6
    time_channels: int | None = None
    frequency_shift: int = 1
    cosine_first: bool = False
    scale_shift: bool = False
    residual_resampling: bool = False
    downsample_padding: int = 0
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @property
    def widths(self) -> list[int]:
        """Channels of each resolution."""
        return [self.channels * multiplier for multiplier in self.multipliers]

    def embed_time(
        self, times: Num[Array, " b"], name: str, augmentation: Float[Array, "b n"] | None = None
    ) -> Float[Array, "b d"]:
        """Return the embedding of times.

        augmentation: see `TimestepEmbedding`.
        """
        width = self.time_channels or self.channels
        return TimestepEmbedding(
            width,
            4 * width,
            frequency_shift=self.frequency_shift,
            cosine_first=self.cosine_first,
            dtype=self.dtype,
            name=name,
        )(times, augmentation=augmentation)

    def encode(
        self,
        x: Float[Array, "b h w c"],
        condition: Float[Array, "b d"],
        train: bool,
        attend: Attend,
    ) -> tuple[Float[Array, "b H W f"], list[Array]]:
        """Return the features in the middle, and those of the way down, for the way up.

        condition: the embedding of the time, and of what else is given.
        attend: applied after each residual block, in the middle after the first.
        """
        y = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
        skips = [y]
        for level, features in enumerate(self.widths):
            for number in range(self.num_res_blocks):
                name = f"down_{level}_residual_{number}"
                y = self._residual(features, name)(y, condition, train)
                y = attend(y, level, f"down_{level}_attention_{number}")
                skips.append(y)
            if level < len(self.widths) - 1:
                y = self._downsample(y, condition, train, level)
                skips.append(y)
        y = self._residual(self.widths[-1], "middle_residual_0")(y, condition, train)
        y = attend(y, None, "middle_attention")
        return self._residual(self.widths[-1], "middle_residual_1")(y, condition, train), skips

    def decode(
        self,
        y: Float[Array, "b h w f"],
        skips: list[Array],
        condition: Float[Array, "b d"],
        train: bool,
        attend: Attend,
        out_channels: int,
    ) -> Float[Array, "b H W out"]:
        """Return the output, float32, of what `encode` returned."""
        for level, features in reversed(list(enumerate(self.widths))):
            for number in range(self.num_res_blocks + 1):
                y = jnp.concatenate([y, skips.pop()], axis=-1)
                name = f"up_{level}_residual_{number}"
                y = self._residual(features, name)(y, condition, train)
                y = attend(y, level, f"up_{level}_attention_{number}")
            if level:
                y = self._upsample(y, condition, train, level)
        y = GroupNorm(self.num_groups, self.epsilon, silu=True, name="norm_out")(y)
        conv_out = Conv(
            out_channels, kernel_init=fan_avg_uniform(0.0), dtype=self.dtype, name="conv_out"
        )
        return conv_out(y).astype(jnp.float32)

    def _downsample(self, y: Array, condition: Array, train: bool, level: int) -> Array:
        name, features = f"down_{level}_downsample", self.widths[level]
        if self.residual_resampling:
            return self._residual(features, name, average_downsample)(y, condition, train)
        padding = (self.downsample_padding, 1)
        return Downsample(features, padding, dtype=self.dtype, name=name)(y)

    def _upsample(self, y: Array, condition: Array, train: bool, level: int) -> Array:
        name, features = f"up_{level}_upsample", self.widths[level]
        if self.residual_resampling:
            return self._residual(features, name, nearest_upsample)(y, condition, train)
        return Upsample(features, dtype=self.dtype, name=name)(y)

    def _residual(self, features: int, name: str, resample=None) -> nn.Module:
        make = partial(
            rematerialise(ResidualBlock, self.remat, static_argnums=(3,)),
            scale_shift=self.scale_shift,
            resample=resample,
        )
        return make(
            features, self.dropout, self.num_groups, self.epsilon, dtype=self.dtype, name=name
        )


def self_attention(network: Any, train: bool) -> Attend:
    """Return the self-attention of pixels: at some heights of the feature maps, and in the middle.

    network: has the fields `attention_resolutions`, the heights, and those of `SpatialAttention`.
    """
    make = rematerialise(SpatialAttention, network.remat, static_argnums=(2,))

    def attend(y: Array, level: int | None, name: str) -> Array:
        if level is not None and y.shape[1] not in network.attention_resolutions:
            return y
        layer = make(
            network.head_dim,
            network.num_groups,
            network.epsilon,
            network.num_heads,
            dtype=network.dtype,
            name=name,
        )
        return layer(y, train)

    return attend
