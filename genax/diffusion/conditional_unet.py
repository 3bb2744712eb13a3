"""The U-Net of latent diffusion, whose pixels attend to a text or to another sequence."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.unet_base import UNetBase
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.gated_feed_forward import GatedFeedForward
from genax.nn.gelu import gelu
from genax.nn.group_norm import GroupNorm
from genax.nn.labels import check_label, embed_labels
from genax.nn.layer_norm import LayerNorm
from genax.nn.rematerialise import rematerialise
from genax.nn.resample import check_halvings
from genax.nn.timestep_embedding import sinusoidal_embedding

_STABLE = {
    "channels": 320,
    "multipliers": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "transformer_layers": (1, 1, 1, 0),
    "out_channels": 4,
}
# Rombach et al. 2022 and the public Stable Diffusion. With the texts of CLIP, 768 wide, "sd15" has
# 859,520,964 parameters; with those of OpenCLIP, 1024 wide, "sd21" has 865,910,724. "sdxl" (Podell
# et al. 2023) has 2,567,463,684 with texts 2048 wide and 1280 numbers of a whole text.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sd15": _STABLE | {"num_heads": (8, 8, 8, 8)},
        "sd21": _STABLE | {"num_heads": (5, 10, 20, 20)},
        "sdxl": _STABLE
        | {
            "multipliers": (1, 2, 4),
            "transformer_layers": (0, 2, 10),
            "middle_layers": 10,
            "num_heads": (5, 10, 20),
            "added_time_features": 256,
        },
    }
)


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map: Rombach et al. 2022, section 3.3.

    Each block has self-attention, cross-attention to a memory and a feed-forward network gated by
    GELU. Their sum with x is returned.

    num_groups: see `GroupNorm`.
    """

    num_layers: int
    num_heads: int
    num_groups: int | None = 32
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], context: Context, train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Return x plus what the blocks make of it.

        context: holds the memory, and which of its positions are real.
        """
        b, h, w, c = x.shape
        y = GroupNorm(self.num_groups, 1e-6, name="norm")(x).reshape(b, h * w, c)
        y = nn.Dense(c, dtype=self.dtype, name="proj_in")(y)
        attention = partial(
            Attention, self.num_heads, use_bias=False, output_bias=True, dtype=self.dtype
        )
        feed_forward = partial(GatedFeedForward, 4 * c, gelu, True, dtype=self.dtype, joint=True)
        for number in range(self.num_layers):
            block = Block(
                LayerNorm,
                attention,
                feed_forward,
                partial(attention, cross=True),
                name=f"blocks_{number}",
            )
            y, _ = block(y, None, context, train)
        return x + nn.Dense(c, dtype=self.dtype, name="proj_out")(y).reshape(x.shape)


class AddedEmbedding(nn.Module):
    """Two dense layers over a whole text and the sinusoids of further numbers, as in SDXL.

    The numbers are sizes and places of the crop (Podell et al. 2023, section 2.2).

    features: width of both dense layers.
    time_features: width of the sinusoids of each number.
    cosine_first, frequency_shift: see `sinusoidal_embedding`.
    """

    features: int
    time_features: int
    frequency_shift: int = 0
    cosine_first: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, text: Float[Array, "b p"], numbers: Num[Array, "b n"], train: bool = False
    ) -> Float[Array, "b features"]:
        """Return the embedding, which is added to that of the time."""
        sinusoids = sinusoidal_embedding(
            numbers.reshape(-1),
            self.time_features,
            frequency_shift=self.frequency_shift,
            cosine_first=self.cosine_first,
        )
        y = jnp.concatenate([text, sinusoids.reshape(len(text), -1)], axis=-1)
        y = nn.silu(nn.Dense(self.features, dtype=self.dtype, name="dense_0")(y))
        return nn.Dense(self.features, dtype=self.dtype, name="dense_1")(y)


class ConditionalUNet(UNetBase):
    """Denoiser of latent diffusion (Rombach et al. 2022), such as that of Stable Diffusion.

    transformer_layers: blocks of each `SpatialTransformer` of a resolution. 0 means no attention.
    middle_layers: blocks of the one in the middle.
    num_heads: heads of each resolution.
    out_channels: channels of the output. None means the input's.
    num_classes, null_class: see `UNet`.
    added_time_features: see `AddedEmbedding`. None means that there is none.
    """

    transformer_layers: tuple[int, ...] = (1, 1, 1, 0)
    middle_layers: int = 1
    num_heads: tuple[int, ...] = (8, 8, 8, 8)
    out_channels: int | None = None
    num_classes: int | None = None
    null_class: bool = False
    added_time_features: int | None = None
    epsilon: float = 1e-5
    frequency_shift: int = 0
    cosine_first: bool = True
    downsample_padding: int = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        memory: Float[Array, "b m e"] | None = None,
        memory_mask: Bool[Array, "b m"] | None = None,
        label: Int[Array, " b"] | None = None,
        text: Float[Array, "b p"] | None = None,
        numbers: Num[Array, "b n"] | None = None,
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy latents.
        timesteps: [b], times of a discrete or a continuous process.
        train: whether dropout is on.
        memory: what the pixels attend to, such as the states of a text encoder.
        memory_mask: which positions of the memory are real. None means all.
        label: [b], given if num_classes is set.
        text, numbers: given if added_time_features is set, see `AddedEmbedding`.
        Raises GenaxError if the size cannot be halved often enough, for a missing memory, and for
        conditions that are missing or superfluous.
        """
        check_halvings(self, x)
        self._check_resolutions()
        check_label(self, label)
        if memory is None:
            raise GenaxError(
                "ConditionalUNet was called without a memory to attend to: give the states of the "
                "text encoder; those of an empty text mean no condition."
            )
        if any((given is None) != (self.added_time_features is None) for given in (text, numbers)):
            which = "neither" if self.added_time_features is None else "both"
            raise GenaxError(
                f"ConditionalUNet(added_time_features={self.added_time_features}) needs {which} of "
                "text and numbers."
            )
        condition = self.embed_time(timesteps, "time_embedding")
        if label is not None:
            condition = condition + embed_labels(self, label, condition.shape[-1])
        if self.added_time_features is not None and text is not None and numbers is not None:
            added = AddedEmbedding(
                condition.shape[-1],
                self.added_time_features,
                self.frequency_shift,
                self.cosine_first,
                self.dtype,
                name="added_embedding",
            )
            condition = condition + added(text, numbers)
        mask = None if memory_mask is None else memory_mask[:, None]
        context = Context(memory=memory.astype(self.dtype), memory_mask=mask)
        make = rematerialise(SpatialTransformer, self.remat, static_argnums=(3,))

        def attend(y, level, name):
            layers = self.middle_layers if level is None else self.transformer_layers[level]
            if not layers:
                return y
            heads = self.num_heads[-1 if level is None else level]
            layer = make(layers, heads, self.num_groups, dtype=self.dtype, name=name)
            return layer(y, context, train)

        y, skips = self.encode(x, condition, train, attend)
        return self.decode(y, skips, condition, train, attend, self.out_channels or x.shape[-1])

    def _check_resolutions(self) -> None:
        count = len(self.multipliers)
        for name in ("transformer_layers", "num_heads"):
            if len(getattr(self, name)) != count:
                raise GenaxError(
                    f"ConditionalUNet has {name}={getattr(self, name)!r} for {count} multipliers: "
                    "give one for each."
                )
