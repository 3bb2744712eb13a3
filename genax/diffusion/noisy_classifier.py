"""The classifier of noisy images that guides ADM."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.diffusion.unet import ADM
from genax.diffusion.unet_base import UNetBase, self_attention
from genax.nn.attention_pool import AttentionPool
from genax.nn.group_norm import GroupNorm
from genax.nn.resample import check_halvings

# The classifiers of Dhariwal & Nichol 2021 by the size of images; `adm256` has 54,096,360
# parameters.
_WIDE = ADM | {"channels": 128, "head_dim": 64, "num_classes": 1000}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "adm64": _WIDE | {"multipliers": (1, 2, 3, 4), "num_res_blocks": 4},
        "adm128": _WIDE | {"multipliers": (1, 1, 2, 3, 4)},
        "adm256": _WIDE | {"multipliers": (1, 1, 2, 2, 4, 4)},
        "adm512": _WIDE
        | {"channels": 64, "multipliers": (1, 2, 2, 4, 4, 8, 8), "time_channels": 128},
    }
)


class NoisyClassifier(UNetBase):
    """Logits of the classes of noisy images, by the half of a U-Net that goes down.

    It guides samples (Dhariwal & Nichol 2021, section 4.1). Features of the middle are pooled by
    attention.

    attention_resolutions, head_dim, num_heads: see `UNet`.
    num_classes: number of logits.
    """

    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    head_dim: int | None = None
    num_heads: int = 1
    num_classes: int = 1000

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], timesteps: Num[Array, " b"], train: bool = False
    ) -> Float[Array, "b classes"]:
        """Return the logits, float32.

        x: noisy images.
        timesteps: [b], times of a discrete or a continuous process.
        train: whether dropout is on.
        Raises GenaxError if the size cannot be halved often enough.
        """
        check_halvings(self, x)
        condition = self.embed_time(timesteps, "time_embedding")
        y, _ = self.encode(x, condition, train, self_attention(self, train))
        y = GroupNorm(self.num_groups, self.epsilon, silu=True, name="norm_out")(y)
        heads = y.shape[-1] // self.head_dim if self.head_dim else self.num_heads
        pool = AttentionPool(self.num_classes, heads, dtype=self.dtype, name="pool")
        return pool(y).astype(jnp.float32)
