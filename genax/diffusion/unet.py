"""The U-Net of denoising diffusion probabilistic models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv, Downsample, Upsample
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_avg_uniform
from genax.nn.rematerialise import rematerialise
from genax.nn.residual_block import ResidualBlock
from genax.nn.spatial_attention import SpatialAttention
from genax.nn.timestep_embedding import TimestepEmbedding

# Ho et al. 2020, appendix B, and the paper's public code (kernel sizes, epsilon, dropout).
# `cifar10` has 35,746,307 parameters, `image256` (LSUN, CelebA-HQ) has 113,673,219. The two small
# presets are this project's own.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "cifar10": {
            "channels": 128,
            "multipliers": (1, 2, 2, 2),
            "num_res_blocks": 2,
            "attention_resolutions": (16,),
            "dropout": 0.1,
            "num_groups": 32,
        },
        "image256": {
            "channels": 128,
            "multipliers": (1, 1, 2, 2, 4, 4),
            "num_res_blocks": 2,
            "attention_resolutions": (16,),
            "dropout": 0.0,
            "num_groups": 32,
        },
        "cpu": {
            "channels": 16,
            "multipliers": (1, 2, 4),
            "num_res_blocks": 1,
            "attention_resolutions": (7,),
            "dropout": 0.0,
            "num_groups": 8,
        },
        "digits": {
            "channels": 32,
            "multipliers": (1, 2),
            "num_res_blocks": 1,
            "attention_resolutions": (4,),
            "dropout": 0.0,
            "num_groups": 8,
        },
    }
)


class UNet(nn.Module):
    """Denoiser of DDPM (Ho et al. 2020, appendix B), a PixelCNN++-like U-Net with GroupNorm.

    Parameters are float32, computation is in `dtype`, the output is float32.

    channels: channels at full resolution.
    multipliers: multipliers of the channels, one per resolution. Each resolution is half the one
      before.
    num_res_blocks: residual blocks per resolution (one more on the way up).
    attention_resolutions: heights of the feature maps that get self-attention after each block. The
      middle always has it.
    head_dim: channels per head. None means a single head.
    out_channels: channels of the output. None means the input's. Learned variances need twice as
      many.
    num_classes: number of labels, which are embedded and added to the time. None means no
      conditioning.
    null_class: add one more label, `null_label`, which stands for no condition.
    two_times: take a second time, `end`, as the average velocities of MeanFlow do.
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
    out_channels: int | None = None
    num_classes: int | None = None
    null_class: bool = False
    two_times: bool = False
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @property
    def null_label(self) -> int:
        """Label that stands for no condition.

        Raises GenaxError if the network has none.
        """
        if self.num_classes is None or not self.null_class:
            raise GenaxError(
                f"UNet(num_classes={self.num_classes}, null_class={self.null_class}) has no label "
                "for no condition, which guidance and dropped labels need: set num_classes and "
                "null_class=True."
            )
        return self.num_classes

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        label: Int[Array, " b"] | None = None,
        end: Num[Array, " b"] | None = None,
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy images.
        timesteps: [b], times of a discrete or a continuous process.
        train: whether dropout is on.
        label: [b], given if num_classes is set. A label without a row gives NaN.
        end: [b], given if two_times is set. It is embedded like the timesteps, by weights of its
          own, and added.
        Raises GenaxError if the size cannot be halved often enough, if a label or a second time is
        missing or superfluous, and, outside of jit, if a label has no row.
        """
        self._check(x, label, end)
        embed_time = partial(TimestepEmbedding, self.channels, 4 * self.channels, dtype=self.dtype)
        condition = embed_time(name="time_embedding")(timesteps)
        if end is not None:
            condition = condition + embed_time(name="end_embedding")(end)
        if label is not None and self.num_classes is not None:
            rows = self.num_classes + self.null_class
            embed = nn.Embed(rows, 4 * self.channels, dtype=self.dtype, name="labels")
            # A negative number would count from the end.
            condition = condition + embed(jnp.where(label < 0, rows, label))

        def block(y, features, place, number):
            """Apply a residual block, and attention if this resolution has it."""
            name = f"{place}_residual_{number}"
            y = self._residual(features, name)(y, condition, train)
            if y.shape[1] in self.attention_resolutions:
                y = self._attention(f"{place}_attention_{number}")(y, train)
            return y

        widths = [self.channels * multiplier for multiplier in self.multipliers]
        y = Conv(self.channels, dtype=self.dtype, name="conv_in")(x)
        skips = [y]
        for level, features in enumerate(widths):
            for number in range(self.num_res_blocks):
                y = block(y, features, f"down_{level}", number)
                skips.append(y)
            if level < len(widths) - 1:
                y = Downsample(features, dtype=self.dtype, name=f"down_{level}_downsample")(y)
                skips.append(y)

        y = self._residual(widths[-1], "middle_residual_0")(y, condition, train)
        y = self._attention("middle_attention")(y, train)
        y = self._residual(widths[-1], "middle_residual_1")(y, condition, train)

        for level, features in reversed(list(enumerate(widths))):
            for number in range(self.num_res_blocks + 1):
                y = jnp.concatenate([y, skips.pop()], axis=-1)
                y = block(y, features, f"up_{level}", number)
            if level:
                y = Upsample(features, dtype=self.dtype, name=f"up_{level}_upsample")(y)

        y = GroupNorm(self.num_groups, self.epsilon, silu=True, name="norm_out")(y)
        conv_out = Conv(
            self.out_channels or x.shape[-1],
            kernel_init=fan_avg_uniform(0.0),
            dtype=self.dtype,
            name="conv_out",
        )
        return conv_out(y).astype(jnp.float32)

    def _residual(self, features: int, name: str) -> nn.Module:
        make = rematerialise(ResidualBlock, self.remat, static_argnums=(3,))
        return make(
            features, self.dropout, self.num_groups, self.epsilon, dtype=self.dtype, name=name
        )

    def _attention(self, name: str) -> nn.Module:
        make = rematerialise(SpatialAttention, self.remat, static_argnums=(2,))
        return make(self.head_dim, self.num_groups, self.epsilon, dtype=self.dtype, name=name)

    def _check(self, x: Array, label: Array | None, end: Array | None) -> None:
        factor = 2 ** (len(self.multipliers) - 1)
        if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor:
            raise GenaxError(
                f"UNet got images of shape {x.shape}: with {len(self.multipliers)} multipliers it "
                f"needs [b, h, w, c] with h and w multiples of {factor}; pad them, or use fewer "
                "multipliers."
            )
        if (label is None) != (self.num_classes is None):
            how = "without" if label is None else "with"
            raise GenaxError(
                f"UNet(num_classes={self.num_classes}) was called {how} a label: set num_classes "
                "and give a label, or neither."
            )
        if (end is None) == self.two_times:
            how = "without" if end is None else "with"
            raise GenaxError(
                f"UNet(two_times={self.two_times}) was called {how} a second time: set two_times "
                "and give an end, or neither."
            )
        if label is None or self.num_classes is None:
            return
        if not isinstance(label, jax.core.Tracer):
            rows = self.num_classes + self.null_class
            numbers = np.asarray(label)
            wrong = numbers[(numbers < 0) | (numbers >= rows)]
            if wrong.size:
                raise GenaxError(
                    f"UNet(num_classes={self.num_classes}, null_class={self.null_class}) got "
                    f"label {wrong[0]}: labels are 0 to {rows - 1}."
                )
