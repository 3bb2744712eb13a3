"""The way down of a U-Net and its middle, which denoisers and classifiers of noisy images share."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv, Downsample, Upsample, nearest_upsample
from genax.nn.rematerialise import rematerialise
from genax.nn.resample import average_downsample
from genax.nn.residual_block import ResidualBlock
from genax.nn.spatial_attention import SpatialAttention
from genax.nn.timestep_embedding import TimestepEmbedding


class UNetEncoder(nn.Module):
    """The way down and the middle of DDPM's U-Net (Ho et al. 2020, appendix B) and of ADM's.

    A base class: networks call its methods in their own compact method. Parameters are float32,
    computation is in `dtype`. Initial values are those of DDPM's code.

    channels: channels at full resolution.
    multipliers: multipliers of the channels, one per resolution. Each resolution is half the one
      before.
    num_res_blocks: residual blocks per resolution.
    attention_resolutions: heights of the feature maps that get self-attention after each block. The
      middle always has it.
    num_groups: see `GroupNorm`.
    head_dim, num_heads: see `SpatialAttention`.
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
    attention_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.0
    num_groups: int = 32
    epsilon: float = 1e-6
    head_dim: int | None = None
    num_heads: int = 1
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

    def embed_time(self, times: Num[Array, " b"], name: str) -> Float[Array, "b d"]:
        """Return the embedding of times."""
        width = self.time_channels or self.channels
        return TimestepEmbedding(
            width,
            4 * width,
            frequency_shift=self.frequency_shift,
            cosine_first=self.cosine_first,
            dtype=self.dtype,
            name=name,
        )(times)

    def encode(
        self, x: Float[Array, "b h w c"], condition: Float[Array, "b d"], train: bool
    ) -> tuple[Float[Array, "b H W f"], list[Array]]:
        """Return the features in the middle, and those of the way down, for the way up.

        condition: the embedding of the time, and of what else is given.
        """
        y = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
        skips = [y]
        for level, features in enumerate(self.widths):
            for number in range(self.num_res_blocks):
                y = self.block(y, condition, train, features, f"down_{level}", number)
                skips.append(y)
            if level < len(self.widths) - 1:
                y = self._downsample(y, condition, train, level)
                skips.append(y)
        y = self._residual(self.widths[-1], "middle_residual_0")(y, condition, train)
        y = self._attention("middle_attention")(y, train)
        return self._residual(self.widths[-1], "middle_residual_1")(y, condition, train), skips

    def block(
        self, y: Array, condition: Array, train: bool, features: int, place: str, number: int
    ) -> Float[Array, "b h w features"]:
        """Apply a residual block, and attention if this resolution has it."""
        y = self._residual(features, f"{place}_residual_{number}")(y, condition, train)
        if y.shape[1] in self.attention_resolutions:
            y = self._attention(f"{place}_attention_{number}")(y, train)
        return y

    def _downsample(self, y: Array, condition: Array, train: bool, level: int) -> Array:
        name, features = f"down_{level}_downsample", self.widths[level]
        if self.residual_resampling:
            return self._residual(features, name, average_downsample)(y, condition, train)
        padding = (self.downsample_padding, 1)
        return Downsample(features, padding, dtype=self.dtype, name=name)(y)

    def upsample(
        self, y: Array, condition: Array, train: bool, level: int
    ) -> Float[Array, "b H W f"]:
        """Double the resolution of the features of a level on the way up."""
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

    def _attention(self, name: str) -> nn.Module:
        make = rematerialise(SpatialAttention, self.remat, static_argnums=(2,))
        return make(
            self.head_dim,
            self.num_groups,
            self.epsilon,
            self.num_heads,
            dtype=self.dtype,
            name=name,
        )


def check_halvings(network: Any, x: Array) -> None:
    """Check that images can be halved as often as a network with multipliers does.

    Raises GenaxError if not.
    """
    count = len(network.multipliers)
    factor = 2 ** (count - 1)
    if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor:
        raise GenaxError(
            f"{type(network).__name__} got images of shape {x.shape}: with {count} multipliers it "
            f"needs [b, h, w, c] with h and w multiples of {factor}; pad them, or use fewer "
            "multipliers."
        )
