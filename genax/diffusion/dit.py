"""The Diffusion Transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.core.mesh import split_tokens
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.feed_forward import FeedForward
from genax.nn.labels import check_label, null_label
from genax.nn.layer_norm import LayerNorm
from genax.nn.patches import patchify, unpatchify
from genax.nn.placement import PARTITION_RULES as TRANSFORMER_RULES
from genax.nn.projection import Projection
from genax.nn.sinusoids import sinusoids
from genax.nn.stack import make_blocks, run_blocks
from genax.nn.timestep_embedding import TimestepEmbedding

CONDITIONINGS = ("adaln_zero", "cross_attention", "in_context")
# Width of the sinusoids of a timestep, in the paper's public code.
SINUSOIDS = 256
EPSILON = 1e-6

_ZEROS = nn.initializers.zeros
_RULES = (
    ("**/modulation/kernel", ("fsdp", None, "tensor")),
    ("**/modulation/bias", (None, "tensor")),
)
# Placement over a mesh of devices. Layers under nn.scan have one more leading axis.
PARTITION_RULES = TRANSFORMER_RULES + tuple(
    rule for path, axes in _RULES for rule in ((path, axes), (path, (None, *axes)))
)


def square_positions(side: int, width: int) -> Float[np.ndarray, "places width"]:
    """Return sinusoids of the places of a square grid, in reading order.

    The first half of a row is of the column, the second half of the row of the grid (the paper's
    public code). Each half has all sines first.

    side: number of rows and of columns.
    width: numbers per place, a multiple of 4.
    Raises GenaxError for another width.
    """
    if width % 4:
        raise GenaxError(
            f"positions in a square need a width that is a multiple of 4, not {width}."
        )
    line = sinusoids(side, width // 2, halves=True)
    return np.concatenate([np.tile(line, (side, 1)), np.repeat(line, side, axis=0)], axis=1)


def modulate(
    x: Float[Array, "b t d"], shift: Float[Array, "b d"], scale: Float[Array, "b d"]
) -> Float[Array, "b t d"]:
    """Return x (1 + scale) + shift, the same at all positions of an example."""
    return x * (1 + scale[:, None]) + shift[:, None]


class AdaptiveBlock(nn.Module):
    """Block of adaLN-Zero: Peebles & Xie 2023, fig. 3.

    A linear map of the condition, zero at first, gives shift and scale of each part's input and a
    gate of its output. The block is then the identity.

    norm: norms without parameters, called with a name. One for each part.
    """

    norms: tuple[Callable[..., nn.Module], Callable[..., nn.Module]]
    attention: Callable[..., Attention]
    feed_forward: Callable[..., nn.Module]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], cache: None, condition: Float[Array, "b d"], train: bool
    ) -> tuple[Float[Array, "b t d"], None]:
        """Return the new values of x.

        condition: activated already.
        """
        x = split_tokens(x)
        modulation = Projection(
            (6, x.shape[-1]), kernel_init=_ZEROS, dtype=self.dtype, name="modulation"
        )(condition)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = jnp.unstack(modulation, axis=1)
        first, second = self.norms
        y = modulate(first(name="attention_norm")(x), shift, scale)
        x = x + gate[:, None] * self.attention(name="attention")(y, train=train)[0]
        y = modulate(second(name="feed_forward_norm")(x), shift_mlp, scale_mlp)
        return x + gate_mlp[:, None] * self.feed_forward(name="feed_forward")(y), None


class FinalLayer(nn.Module):
    """Norm and linear map to the pixels of a patch, zero at first.

    adaptive: whether the condition gives the norm's shift and scale. Otherwise they are learned.
    """

    adaptive: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], condition: Float[Array, "b d"], features: int
    ) -> Float[Array, "b t features"]:
        """Return so many features for each patch.

        condition: activated already.
        """
        learned = not self.adaptive
        x = LayerNorm(EPSILON, use_bias=learned, use_scale=learned, name="norm")(x)
        if self.adaptive:
            shift_and_scale = Projection(
                (2, x.shape[-1]), kernel_init=_ZEROS, dtype=self.dtype, name="modulation"
            )(condition)
            x = modulate(x, *jnp.unstack(shift_and_scale, axis=1))
        return Projection((features,), kernel_init=_ZEROS, dtype=self.dtype, name="output")(x)


class DiT(nn.Module):
    """Transformer over patches of a noisy image: Peebles & Xie 2023, section 3.

    Parameters are float32, computation is in `dtype`, the output is float32. Positions are fixed
    sinusoids and no parameters. There is no dropout. Initial weights are those of the paper's
    public code, so that the output is 0 at first.

    image_size: height (and width) of the images or latents that the positions are for.
    patch_size: height (and width) of a patch.
    mlp_size: width of the feed-forward networks. None means 4 * hidden_size.
    conditioning: how time and label come in. "adaln_zero" modulates norms and gates each block.
      "cross_attention" has them as a sequence that a further attention of each block reads.
      "in_context" has them as further tokens, which are dropped at the end.
    out_channels: channels of the output. None means the input's. Learned variances need twice as
      many.
    num_classes: number of labels. None means no conditioning.
    null_class: add one more label, `null_label`, which stands for no condition.
    two_times: whether there is an interval of time besides the time.
    frequency_shift: see `sinusoidal_embedding`. diffusers has 1, the paper's code 0.
    feed_forward_epsilon: epsilon of the norm before the feed-forward network. diffusers has 1e-5.
      All other norms have 1e-6.
    scan_layers, remat: see `make_blocks`.
    attention: see `attend`.
    """

    image_size: int = 32
    patch_size: int = 2
    hidden_size: int = 1152
    num_layers: int = 28
    num_heads: int = 16
    mlp_size: int | None = None
    conditioning: str = "adaln_zero"
    out_channels: int | None = None
    num_classes: int | None = None
    null_class: bool = False
    two_times: bool = False
    frequency_shift: int = 0
    feed_forward_epsilon: float = 1e-6
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32

    @property
    def null_label(self) -> int:
        """Label that stands for no condition.

        Raises GenaxError if the network has none.
        """
        return null_label(self)

    def setup(self):
        """Make the embeddings and the blocks.

        Raises GenaxError for an unknown conditioning.
        """
        if self.conditioning not in CONDITIONINGS:
            raise GenaxError(
                f"DiT: conditioning={self.conditioning!r} is unknown; choose one of "
                f"{', '.join(CONDITIONINGS)}."
            )
        width, xavier = self.hidden_size, nn.initializers.xavier_uniform()
        self.patch_embedding = Projection((width,), kernel_init=xavier, dtype=self.dtype)
        embed_time = partial(
            TimestepEmbedding,
            SINUSOIDS,
            width,
            frequency_shift=self.frequency_shift,
            cosine_first=True,
            kernel_init=nn.initializers.normal(0.02),
            dtype=self.dtype,
        )
        self.time_embedding = embed_time()
        if self.two_times:
            self.interval_embedding = embed_time()
        if self.num_classes is not None:
            rows = self.num_classes + self.null_class
            normal = nn.initializers.normal(0.02)
            self.labels = nn.Embed(rows, width, embedding_init=normal, dtype=self.dtype)
        kernels = {"kernel_init": xavier, "output_init": xavier, "dtype": self.dtype}
        attention = partial(Attention, self.num_heads, attention=self.attention, **kernels)
        feed_forward = partial(FeedForward, self.mlp_size or 4 * width, **kernels)
        parts: dict[str, Any] = {"attention": attention, "feed_forward": feed_forward}
        plain = partial(LayerNorm, use_bias=False, use_scale=False)
        adaptive = self.conditioning == "adaln_zero"
        block: type[nn.Module] = AdaptiveBlock if adaptive else Block
        if adaptive:
            norms = partial(plain, EPSILON), partial(plain, self.feed_forward_epsilon)
            parts |= {"norms": norms, "dtype": self.dtype}
        else:
            parts["norm"] = partial(LayerNorm, EPSILON)
        if self.conditioning == "cross_attention":
            parts["cross_attention"] = partial(attention, cross=True)
        self.blocks = make_blocks(block, self.num_layers, self.scan_layers, self.remat, **parts)
        self.final_layer = FinalLayer(adaptive, self.dtype)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Num[Array, " b"],
        train: bool = False,
        label: Int[Array, " b"] | None = None,
        interval: Num[Array, " b"] | None = None,
    ) -> Float[Array, "b h w out"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy images or latents.
        timesteps: [b], times of a discrete or a continuous process.
        train: without effect.
        label: [b], given if num_classes is set. A label without a row gives NaN.
        interval: [b], given if two_times is set, embedded like the time and added to it.
        Raises GenaxError for images of another size than the positions are for, if a label or an
        interval is missing or superfluous, and, outside of jit, if a label has no row.
        """
        self._check(x, label, interval)
        times = self.time_embedding(timesteps)
        if interval is not None:
            times = times + self.interval_embedding(interval)
        conditions = [times]
        if label is not None:
            # A negative number would count from the end.
            label = jnp.where(label < 0, self.labels.num_embeddings, label)
            conditions.append(self.labels(label))
        side = self.image_size // self.patch_size
        positions = jnp.asarray(square_positions(side, self.hidden_size), self.dtype)
        y = self.patch_embedding(patchify(x, self.patch_size)) + positions
        count, condition = y.shape[1], nn.silu(sum(conditions))
        context: Any = condition
        if self.conditioning == "cross_attention":
            context = Context(memory=jnp.stack(conditions, axis=1))
        elif self.conditioning == "in_context":
            context = Context()
            y = jnp.concatenate([y, jnp.stack(conditions, axis=1)], axis=1)
        y, _ = run_blocks(self.blocks, y, context, None, train)
        features = self.patch_size**2 * (self.out_channels or x.shape[-1])
        y = self.final_layer(y[:, :count], condition, features)
        return unpatchify(y, self.patch_size, *x.shape[1:3]).astype(jnp.float32)

    def _check(self, x: Array, label: Array | None, interval: Array | None) -> None:
        size = self.image_size
        if x.ndim != 4 or x.shape[1:3] != (size, size):
            raise GenaxError(
                f"DiT got images of shape {x.shape}, but its positions are for [b, {size}, {size}, "
                "c]; resize the images, or set image_size."
            )
        if (interval is None) == self.two_times:
            how = "without" if interval is None else "with"
            raise GenaxError(
                f"DiT(two_times={self.two_times}) was called {how} an interval: set two_times and "
                "give one, or neither."
            )
        check_label(self, label)


@dataclass(frozen=True)
class DiTPreset:
    """Row of Peebles & Xie 2023, table 1, with a size of patch.

    params: number of parameters of noise and variance of latents of 4 channels, with 1000 classes
      and a null class.
    """

    patch_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    params: int


DIT_PRESETS = {
    "s2": DiTPreset(2, 12, 384, 6, 32_865_056),
    "s4": DiTPreset(4, 12, 384, 6, 32_920_448),
    "s8": DiTPreset(8, 12, 384, 6, 33_142_016),
    "b2": DiTPreset(2, 12, 768, 12, 130_315_808),
    "b4": DiTPreset(4, 12, 768, 12, 130_426_496),
    "b8": DiTPreset(8, 12, 768, 12, 130_869_248),
    "l2": DiTPreset(2, 24, 1024, 16, 457_840_672),
    "l4": DiTPreset(4, 24, 1024, 16, 457_988_224),
    "l8": DiTPreset(8, 24, 1024, 16, 458_578_432),
    "xl2": DiTPreset(2, 28, 1152, 16, 674_834_720),
    "xl4": DiTPreset(4, 28, 1152, 16, 675_000_704),
    "xl8": DiTPreset(8, 28, 1152, 16, 675_664_640),
}
