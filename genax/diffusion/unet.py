"""The U-Net of denoising diffusion probabilistic models, and ADM's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.augmentation import augmentation_of
from genax.diffusion.unet_base import UNetBase, self_attention
from genax.nn.labels import check_label, embed_labels, null_label
from genax.nn.resample import check_halvings

# What all networks of Dhariwal & Nichol 2021 and of their public code share.
ADM = {
    "num_res_blocks": 2,
    "attention_resolutions": (32, 16, 8),
    "dropout": 0.0,
    "num_groups": 32,
    "epsilon": 1e-5,
    "frequency_shift": 0,
    "cosine_first": True,
    "scale_shift": True,
    "residual_resampling": True,
}
# `cifar10` and `image256` (LSUN, CelebA-HQ): Ho et al. 2020, appendix B, and the paper's public
# code (kernel sizes, epsilon, dropout), 35,746,307 and 113,673,219 parameters. The two small
# presets are this project's own. ADM's denoisers are those of its public code for ImageNet; with
# 6 output channels and 1000 classes they have 295,904,454, 421,529,606, 553,838,086 and
# 558,997,638 parameters. `adm64-256` is the network of its upsampler, 311,795,910.
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
        "adm64": ADM
        | {
            "channels": 192,
            "multipliers": (1, 2, 3, 4),
            "num_res_blocks": 3,
            "dropout": 0.1,
            "head_dim": 64,
        },
        "adm128": ADM | {"channels": 256, "multipliers": (1, 1, 2, 3, 4), "num_heads": 4},
        "adm256": ADM | {"channels": 256, "multipliers": (1, 1, 2, 2, 4, 4), "head_dim": 64},
        "adm512": ADM
        | {
            "channels": 128,
            "multipliers": (1, 2, 2, 4, 4, 8, 8),
            "time_channels": 256,
            "head_dim": 64,
        },
        "adm64-256": ADM | {"channels": 192, "multipliers": (1, 1, 2, 2, 4, 4), "num_heads": 4},
    }
)


class UNet(UNetBase):
    """Denoiser of DDPM (Ho et al. 2020, appendix B), a PixelCNN++-like U-Net with GroupNorm.

    With the settings of `ADM` it is that of Dhariwal & Nichol 2021. The output is float32.

    attention_resolutions: heights of the feature maps that get self-attention after each block. The
      middle always has it.
    head_dim, num_heads: see `SpatialAttention`.
    out_channels: channels of the output. None means the input's. Learned variances need twice as
      many.
    num_classes: number of labels, which are embedded and added to the time. None means no
      conditioning.
    null_class: add one more label, `null_label`, which stands for no condition.
    two_times: take the length of an interval of time, as the average velocities of MeanFlow do.
    augmentation_labels: how many numbers tell how an image was augmented. They are embedded beside
      the time, before its layers, as in EDM.
    """

    attention_resolutions: tuple[int, ...] = (16,)
    head_dim: int | None = None
    num_heads: int = 1
    out_channels: int | None = None
    num_classes: int | None = None
    null_class: bool = False
    two_times: bool = False
    augmentation_labels: int = 0

    @property
    def null_label(self) -> int:
        """Label that stands for no condition.

        Raises GenaxError if the network has none.
        """
        return null_label(self)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        label: Int[Array, " b"] | None = None,
        interval: Num[Array, " b"] | None = None,
        augmentation: Float[Array, "b n"] | None = None,
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy images.
        timesteps: [b], times of a discrete or a continuous process.
        train: whether dropout is on.
        label: [b], given if num_classes is set. A label without a row gives NaN.
        interval: [b], given if two_times is set. It is embedded like the timesteps, by weights of
          its own, and added.
        augmentation: [b, augmentation_labels]. None means zeros, the labels of images that nothing
          was done to.
        Raises GenaxError if the size cannot be halved often enough, if a label or an interval is
        missing or superfluous, for another number of labels of augmentations, and, outside of jit,
        if a label has no row.
        """
        check_halvings(self, x)
        check_label(self, label)
        if (interval is None) == self.two_times:
            how = "without" if interval is None else "with"
            raise GenaxError(
                f"UNet(two_times={self.two_times}) was called {how} an interval: set two_times "
                "and give one, or neither."
            )
        labels = augmentation_of(self, augmentation, x)
        condition = self.embed_time(timesteps, "time_embedding", labels)
        if interval is not None:
            condition = condition + self.embed_time(interval, "interval_embedding")
        if label is not None:
            condition = condition + embed_labels(self, label, condition.shape[-1])
        attend = self_attention(self, train)
        y, skips = self.encode(x, condition, train, attend)
        return self.decode(y, skips, condition, train, attend, self.out_channels or x.shape[-1])


class UpsamplingUNet(nn.Module):
    """Denoiser that also sees a smaller image: the upsampler of ADM (Dhariwal & Nichol 2021).

    unet: its `out_channels` are set, since its input has those of both images.
    """

    unet: UNet

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        label: Int[Array, " b"] | None = None,
        *,
        low_resolution: Float[Array, "b H W c"],
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `UNet`, whose input also has the smaller image, enlarged.

        low_resolution: enlarged linearly to the size of x.
        Raises GenaxError as the U-Net does, and if that does not say its output channels.
        """
        if self.unet.out_channels is None:
            raise GenaxError(
                "UpsamplingUNet: its unet has no out_channels; set the number of an image's, or "
                "twice as many for a learned variance."
            )
        large = jax.image.resize(low_resolution, x.shape, "linear", antialias=False)
        return self.unet(jnp.concatenate([x, large], axis=-1), timesteps, train, label)
