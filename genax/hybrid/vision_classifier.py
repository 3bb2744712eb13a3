"""A classifier that reads the patches of an image as a sequence, in both directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genax.core.errors import GenaxError
from genax.core.task import Batch
from genax.hybrid.mamba2_block import Mamba2Mixer
from genax.hybrid.mamba_block import MambaMixer
from genax.hybrid.recurrent_decoder import RecurrentBlock
from genax.hybrid.recurrent_state import LayerState
from genax.hybrid.s4d_block import S4DMixer
from genax.nn.patches import patchify
from genax.nn.projection import Projection
from genax.nn.rms_norm import RMSNorm
from genax.nn.stack import make_blocks, run_blocks

MIXERS = ("mamba", "mamba2", "s4d")


class BothWays(nn.Module):
    """The mean of two mixers, of which one reads the sequence from its end.

    Zhu et al. 2024 (Vim, arXiv:2401.09417), algorithm 1, whose two directions share the first and
    the last projection. Here each direction has a mixer of its own, so that any mixer will do.

    mixer: constructor of a module (x, before, real, train) -> (x, state), called with a name.
    """

    mixer: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        before: LayerState | None = None,
        real: Bool[Array, "b t"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], None]:
        """Return the new values of x, and no state, since the end is read before the beginning."""
        ahead, _ = self.mixer(name="ahead")(x, None, None, train)
        back, _ = self.mixer(name="back")(x[:, ::-1], None, None, train)
        return (ahead + back[:, ::-1]) / 2, None


class VisionClassifier(nn.Module):
    """Blocks that read patches both ways, with a class token in the middle: Zhu et al. 2024.

    image_size: height (and width) of the images that the learned positions are for.
    patch_size: height (and width) of a patch.
    num_classes: number of classes. 0 leaves the head out.
    model: what mixes the patches: "mamba", "mamba2" or "s4d".
    state_size: states of a channel.
    head_dim: channels of one of Mamba-2's heads.
    pool: "token" classifies by the class token. "mean" has no class token and averages the patches.
    init_scale: standard deviation of the initial positions and class token.
    epsilon: of the norms.
    scan_layers, remat: see `RecurrentDecoder`.
    """

    image_size: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_classes: int
    model: str = "mamba"
    state_size: int = 16
    head_dim: int = 64
    pool: str = "token"
    init_scale: float = 0.02
    epsilon: float = 1e-5
    scan_layers: bool = False
    remat: str = "none"
    dtype: Any = jnp.float32

    @property
    def mixer(self) -> Callable[..., nn.Module]:
        """Constructor of the mixer of one direction."""
        scale = 1 / math.sqrt(self.num_layers)
        if self.model == "mamba":
            return partial(MambaMixer, self.state_size, output_scale=scale, dtype=self.dtype)
        if self.model == "mamba2":
            return partial(
                Mamba2Mixer,
                self.state_size,
                head_dim=self.head_dim,
                epsilon=self.epsilon,
                output_scale=scale,
                dtype=self.dtype,
            )
        return partial(S4DMixer, self.state_size, dtype=self.dtype)

    def setup(self):
        """Make the embedding, blocks, norm and head.

        Raises GenaxError for an unknown pool or model.
        """
        if self.pool not in ("token", "mean") or self.model not in MIXERS:
            raise GenaxError(
                f"VisionClassifier: pool={self.pool!r} is token or mean, and model={self.model!r} "
                f"one of {', '.join(MIXERS)}."
            )
        init = nn.initializers.normal(self.init_scale)
        places = (self.image_size // self.patch_size) ** 2
        if self.pool == "token":
            self.class_token = self.param("class_token", init, (1, 1, self.hidden_size))
            places += 1
        self.patch_embedding = Projection((self.hidden_size,), dtype=self.dtype)
        shape = (1, places, self.hidden_size)
        self.position_embedding = self.param("position_embedding", init, shape)
        self.blocks = make_blocks(
            RecurrentBlock,
            self.num_layers,
            self.scan_layers,
            self.remat,
            mixer=partial(BothWays, self.mixer),
            epsilon=self.epsilon,
        )
        self.final_norm = RMSNorm(self.epsilon)
        if self.num_classes:
            self.head = Projection((self.num_classes,), kernel_init=init, dtype=self.dtype)

    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b classes"]:
        """Return scores of the classes. Raises GenaxError if there are none."""
        if not self.num_classes:
            raise GenaxError("VisionClassifier(num_classes=0) has no head; call its `hidden`.")
        x = self.hidden(images, train)
        return self.head(x[:, x.shape[1] // 2] if self.pool == "token" else x.mean(1))

    def hidden(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b t d"]:
        """Return the last hidden states of the patches, the class token's in their middle.

        Raises GenaxError for images of another size than the positions are for.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise GenaxError(
                f"VisionClassifier: images have {images.shape[1]}x{images.shape[2]} pixels, but "
                f"the positions are for {self.image_size}x{self.image_size}; resize the images."
            )
        x = self.patch_embedding(patchify(images, self.patch_size))
        if self.pool == "token":
            token = jnp.broadcast_to(self.class_token, (len(x), 1, self.hidden_size))
            middle = x.shape[1] // 2
            x = jnp.concatenate([x[:, :middle], token.astype(x.dtype), x[:, middle:]], axis=1)
        x = x + self.position_embedding.astype(x.dtype)
        x, _ = run_blocks(self.blocks, x.astype(jnp.float32), None, None, train)
        return self.final_norm(x).astype(self.dtype)


def show_slopes(nets: Any, batch: Batch) -> Float[Array, "b h w c"]:
    """Draw images, and to their right how much the score of the likeliest class depends on a pixel.

    The slope's size is summed over colours, and its largest number is white: Simonyan et al. 2014
    (arXiv:1312.6034), section 3.1.

    batch["image"]: [b, h, w, c] in [-1, 1].
    """
    images, (network, variables) = batch["image"], nets.classifier.unbind()

    def largest(images):
        return network.apply(variables, images).astype(jnp.float32).max(-1).sum()

    slopes = jnp.abs(jax.grad(largest)(images)).sum(-1, keepdims=True)
    most = jnp.maximum(slopes.max((1, 2, 3), keepdims=True), 1e-12)
    maps = jnp.broadcast_to(2 * slopes / most - 1, images.shape)
    return jnp.concatenate([images, maps], axis=2)
