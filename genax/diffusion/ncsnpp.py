"""NCSN++ and DDPM++, the U-Nets of score-based SDEs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.augmentation import augmentation_of
from genax.nn.convolution import Conv, Downsample, FirDownsample, Upsample, nearest_upsample
from genax.nn.group_norm import GroupNorm
from genax.nn.initializers import fan_avg_uniform
from genax.nn.labels import check_label, embed_labels, null_label
from genax.nn.rematerialise import rematerialise
from genax.nn.resample import average_downsample, check_halvings, fir_downsample, fir_upsample
from genax.nn.residual_block import ResidualBlock
from genax.nn.spatial_attention import SpatialAttention
from genax.nn.timestep_embedding import TimestepEmbedding

# Song et al. 2021, appendix H, and the paper's public code. For CIFAR-10 NCSN++ has 62,758,787
# parameters, its deep variant 107,586,947, DDPM++ 61,804,419 and 106,632,579, and the DDPM of that
# code 35,218,947. For FFHQ NCSN++ has 65,574,421 at 256 pixels and 105,785,880 at 1024.
_CIFAR10 = {
    "channels": 128,
    "multipliers": (1, 2, 2, 2),
    "num_res_blocks": 4,
    "attention_resolutions": (16,),
    "dropout": 0.1,
}
_PLUS = {"fir": False, "input_pyramid": "none", "fourier_scale": None}
_FFHQ = {
    "attention_resolutions": (16,),
    "dropout": 0.0,
    "input_pyramid": "skip",
    "output_pyramid": True,
}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ncsnpp": _CIFAR10,
        "ncsnpp-deep": _CIFAR10 | {"num_res_blocks": 8},
        "ddpmpp": _CIFAR10 | _PLUS,
        "ddpmpp-deep": _CIFAR10 | _PLUS | {"num_res_blocks": 8},
        "ddpm": _CIFAR10
        | _PLUS
        | {"num_res_blocks": 2, "residual_resampling": False, "rescale": False},
        "ncsnpp-ffhq256": _FFHQ
        | {"channels": 128, "multipliers": (1, 1, 2, 2, 2, 2, 2), "num_res_blocks": 2},
        "ncsnpp-ffhq1024": _FFHQ
        | {"channels": 16, "multipliers": (1, 2, 4, 8, 16, 32, 32, 32), "num_res_blocks": 1},
    }
)
PYRAMIDS = ("none", "skip", "residual")


class NCSNpp(nn.Module):
    """NCSN++ (Song et al. 2021, appendix H); without the filter and the pyramid it is DDPM++.

    It differs from DDPM's U-Net in what the fields say, and in that a resolution has one attention
    on the way up, after its blocks. Times are log sigma if they go to random frequencies. The
    public code's division of the output by sigma belongs to the `Prediction`. Parameters are
    float32, computation is in `dtype`, the output is float32.

    channels: channels at full resolution.
    multipliers: multipliers of the channels, one per resolution. Each resolution is half the one
      before.
    num_res_blocks: residual blocks per resolution (one more on the way up).
    attention_resolutions: heights of the feature maps that get self-attention on the way down after
      each block. The middle always has it.
    num_groups: see `GroupNorm`.
    head_dim: see `SpatialAttention`.
    fir: change the resolution with the filter (1, 3, 3, 1). Otherwise by means and repetition.
    residual_resampling: change the resolution inside residual blocks, as BigGAN does. Otherwise it
      is changed by convolutions, as in DDPM.
    input_pyramid: "skip" adds the smaller input, through a 1x1 convolution, to the features of each
      smaller resolution. "residual" convolves it from resolution to resolution and adds the
      features, and goes on with the sum. "none" does neither.
    output_pyramid: make an image of the features of each resolution, and return the sum of the
      enlarged images.
    rescale: divide sums of a residual branch by sqrt 2.
    fourier_scale: scale of the random frequencies of the time. None means sinusoids of it.
    out_channels: channels of the output. None means the input's.
    num_classes, null_class, augmentation_labels: see `UNet`.
    remat: see `rematerialise`.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 4
    attention_resolutions: tuple[int, ...] = (16,)
    dropout: float = 0.1
    num_groups: int | None = None
    epsilon: float = 1e-6
    head_dim: int | None = None
    fir: bool = True
    residual_resampling: bool = True
    input_pyramid: str = "residual"
    output_pyramid: bool = False
    rescale: bool = True
    fourier_scale: float | None = 16.0
    out_channels: int | None = None
    num_classes: int | None = None
    null_class: bool = False
    augmentation_labels: int = 0
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    @property
    def null_label(self) -> int:
        """Label that stands for no condition.

        Raises GenaxError if the network has none.
        """
        return null_label(self)

    @property
    def factor(self) -> float:
        """Factor of sums of a residual branch."""
        return 0.5**0.5 if self.rescale else 1.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        label: Int[Array, " b"] | None = None,
        augmentation: Float[Array, "b n"] | None = None,
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy images.
        timesteps: [b], log sigma for random frequencies, otherwise times.
        train: whether dropout is on.
        label: [b], given if num_classes is set. A label without a row gives NaN.
        augmentation: see `UNet`.
        Raises GenaxError if the size cannot be halved often enough, for an unknown pyramid, if a
        label is missing or superfluous, for another number of labels of augmentations, and, outside
        of jit, if a label has no row.
        """
        check_halvings(self, x)
        check_label(self, label)
        if self.input_pyramid not in PYRAMIDS:
            raise GenaxError(
                f"NCSNpp: input_pyramid={self.input_pyramid!r} is none of {', '.join(PYRAMIDS)}."
            )
        condition = TimestepEmbedding(
            self.channels,
            4 * self.channels,
            fourier_scale=self.fourier_scale,
            dtype=self.dtype,
            name="time_embedding",
        )(timesteps, augmentation=augmentation_of(self, augmentation, x))
        if label is not None:
            condition = condition + embed_labels(self, label, condition.shape[-1])
        y, skips = self._encode(x, condition, train)
        return self._decode(y, skips, condition, train, self.out_channels or x.shape[-1])

    def _encode(self, x: Array, condition: Array, train: bool) -> tuple[Array, list[Array]]:
        widths = self._widths()
        y, pyramid = Conv(self.channels, dtype=self.dtype, name="conv_in")(x), x
        skips = [y]
        for level, features in enumerate(widths):
            for number in range(self.num_res_blocks):
                y = self._residual(features, f"down_{level}_residual_{number}")(y, condition, train)
                if y.shape[1] in self.attention_resolutions:
                    y = self._attention(f"down_{level}_attention_{number}")(y, train)
                skips.append(y)
            if level < len(widths) - 1:
                y = self._downsample(y, condition, train, features, f"down_{level}_downsample")
                y, pyramid = self._with_pyramid(y, pyramid, f"down_{level}_pyramid")
                skips.append(y)
        y = self._residual(widths[-1], "middle_residual_0")(y, condition, train)
        y = self._attention("middle_attention")(y, train)
        return self._residual(widths[-1], "middle_residual_1")(y, condition, train), skips

    def _decode(
        self, y: Array, skips: list[Array], condition: Array, train: bool, channels: int
    ) -> Float[Array, "b h w out"]:
        image: Any = 0.0
        for level, features in reversed(list(enumerate(self._widths()))):
            for number in range(self.num_res_blocks + 1):
                y = jnp.concatenate([y, skips.pop()], axis=-1)
                y = self._residual(features, f"up_{level}_residual_{number}")(y, condition, train)
            if y.shape[1] in self.attention_resolutions:
                y = self._attention(f"up_{level}_attention")(y, train)
            if not level:
                break
            if self.output_pyramid:
                image = self._enlarge(image + self._image(y, channels, f"up_{level}"))
            y = self._upsample(y, condition, train, features, f"up_{level}_upsample")
        return image + self._image(y, channels, "out")

    def _with_pyramid(self, y: Array, pyramid: Array, name: str) -> tuple[Array, Array]:
        """Return the features with the smaller input, and what is made smaller next."""
        features = y.shape[-1]
        if self.input_pyramid == "skip":
            pyramid = (fir_downsample if self.fir else average_downsample)(pyramid)
            return y + Conv(features, (1, 1), dtype=self.dtype, name=name)(pyramid), pyramid
        if self.input_pyramid == "residual":
            make = FirDownsample if self.fir else Downsample
            y = (make(features, dtype=self.dtype, name=name)(pyramid) + y) * self.factor
            return y, y
        return y, pyramid

    def _enlarge(self, x: Array) -> Array:
        return (fir_upsample if self.fir else nearest_upsample)(x)

    def _downsample(
        self, y: Array, condition: Array, train: bool, features: int, name: str
    ) -> Array:
        if not self.residual_resampling:
            return Downsample(features, dtype=self.dtype, name=name)(y)
        smaller = fir_downsample if self.fir else average_downsample
        return self._residual(features, name, smaller)(y, condition, train)

    def _upsample(self, y: Array, condition: Array, train: bool, features: int, name: str) -> Array:
        if not self.residual_resampling:
            return Upsample(features, dtype=self.dtype, name=name)(y)
        return self._residual(features, name, self._enlarge)(y, condition, train)

    def _image(self, y: Array, channels: int, place: str) -> Float[Array, "b h w out"]:
        y = GroupNorm(self.num_groups, self.epsilon, silu=True, name=f"norm_{place}")(y)
        conv = Conv(
            channels, kernel_init=fan_avg_uniform(0.0), dtype=self.dtype, name=f"conv_{place}"
        )
        return conv(y).astype(jnp.float32)

    def _residual(self, features: int, name: str, resample=None) -> nn.Module:
        make = partial(
            rematerialise(ResidualBlock, self.remat, static_argnums=(3,)),
            resample=resample,
            project=resample is not None,
            rescale=self.factor,
        )
        return make(
            features, self.dropout, self.num_groups, self.epsilon, dtype=self.dtype, name=name
        )

    def _attention(self, name: str) -> nn.Module:
        make = partial(
            rematerialise(SpatialAttention, self.remat, static_argnums=(2,)),
            rescale=self.factor,
            # The public code begins with smaller queries, keys and values than DDPM's.
            kernel_init=fan_avg_uniform(0.1),
        )
        return make(self.head_dim, self.num_groups, self.epsilon, dtype=self.dtype, name=name)

    def _widths(self) -> list[int]:
        return [self.channels * multiplier for multiplier in self.multipliers]
