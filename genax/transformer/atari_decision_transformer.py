"""The Decision Transformer for Atari: pictures, numbered actions, learned positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from genax.core.errors import GenaxError
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.convolution import Conv
from genax.nn.feed_forward import FeedForward
from genax.nn.gelu import gelu
from genax.nn.initializers import fan_in_uniform
from genax.nn.layer_norm import LayerNorm
from genax.nn.projection import Projection
from genax.nn.stack import make_blocks, run_blocks
from genax.transformer.token_range import check_range

# PyTorch's initial weights, uniform within 1 / sqrt(fan in). The published code keeps them in the
# layers before the blocks. Biases begin at 0 here, but in the same range there.
_FAN_IN = fan_in_uniform()


class NatureEncoder(nn.Module):
    """Three convolutions and a linear layer (Mnih et al. 2015, methods), with a final tanh."""

    hidden_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """Encode pictures in [0, 1], at least 36 pixels wide and high."""
        for number, (features, size, stride) in enumerate(((32, 8, 4), (64, 4, 2), (64, 3, 1))):
            x = Conv(
                features,
                (size, size),
                (stride, stride),
                "VALID",
                kernel_init=_FAN_IN,
                dtype=self.dtype,
                name=f"conv_{number}",
            )(x)
            x = nn.relu(x)
        x = x.reshape(len(x), -1)
        return jnp.tanh(
            Projection((self.hidden_size,), kernel_init=_FAN_IN, dtype=self.dtype, name="linear")(x)
        )


def stack_frames(frames: UInt8[Array, "b f h w"], stack: int) -> UInt8[Array, "b k h w stack"]:
    """Stack each frame with the stack - 1 frames before it, the newest last; k = f - stack + 1."""
    count = frames.shape[1] - stack + 1
    return jnp.stack([frames[:, first : first + count] for first in range(stack)], axis=-1)


class AtariDecisionTransformer(nn.Module):
    """Decision Transformer of Chen et al. 2021, section 4.1 and appendix A, for Atari as published.

    A token is tanh of an embedding of a return, of stacked frames, or of an action. A learned
    position in the window and a learned embedding of the timestep at which the window begins are
    added to it. The published code holds a table of tokens that nothing reads. Its sizes count
    those parameters, so they are here too.

    num_actions: number of actions to choose from.
    context: triples per window.
    max_steps: number of timesteps that have an embedding.
    stack: frames per state.
    """

    num_actions: int
    hidden_size: int
    num_layers: int
    num_heads: int
    context: int
    max_steps: int
    stack: int = 4
    dropout: float = 0.0
    epsilon: float = 1e-5
    init_scale: float = 0.02
    dtype: Any = jnp.float32

    def setup(self):
        """Make the embeddings, blocks and head."""
        init, width = nn.initializers.normal(self.init_scale), self.hidden_size
        zeros = nn.initializers.zeros
        layer = {"kernel_init": init, "dtype": self.dtype}
        blocks = layer | {"output_init": init}
        norm = partial(LayerNorm, self.epsilon)
        self.param("unread_tokens", init, (self.num_actions, width))
        # As published, there is one position more than a window has.
        self.embed_position = self.param("embed_position", zeros, (3 * self.context + 1, width))
        self.embed_timestep = self.param("embed_timestep", zeros, (self.max_steps, width))
        self.embed_return = Projection((width,), kernel_init=_FAN_IN, dtype=self.dtype)
        self.embed_state = NatureEncoder(width, self.dtype)
        self.embed_action = nn.Embed(self.num_actions, width, dtype=self.dtype, embedding_init=init)
        self.drop = nn.Dropout(self.dropout)
        self.blocks = make_blocks(
            Block,
            self.num_layers,
            scan_layers=False,
            remat="none",
            norm=norm,
            attention=partial(
                Attention, self.num_heads, causal=True, dropout=self.dropout, **blocks
            ),
            feed_forward=partial(FeedForward, 4 * width, gelu, **blocks),
            dropout=self.dropout,
        )
        self.final_norm = norm()
        self.predict_action = Projection((self.num_actions,), use_bias=False, **layer)

    def __call__(
        self,
        returns: Float[Array, "b k 1"],
        frames: UInt8[Array, "b f h w"],
        actions: Int[Array, "b k"],
        timesteps: Int[Array, "b k"],
        mask: Bool[Array, "b k"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b k num_actions"]:
        """Return scores of each step's action, from what came before it and its return and state.

        frames: frames of the window's steps and the stack - 1 before them, f = k + stack - 1. They
          are black before the episode.
        mask: which triples are real. Shorter histories are padded on the left, and their positions
          are counted from the first real triple, as without padding.
        train: whether dropout is on.
        Raises GenaxError for another number of frames, for more triples than the context holds, and
        outside of jit for an action or a timestep that is not there; within jit it gives NaN.
        """
        b, k = timesteps.shape
        if k > self.context or frames.shape[1] != k + self.stack - 1:
            raise GenaxError(
                f"AtariDecisionTransformer: {k} steps with {frames.shape[1]} frames; the context "
                f"holds {self.context} steps, and they need {k + self.stack - 1} frames."
            )
        actions = check_range(f"{type(self).__name__}: action", actions, self.num_actions)
        timesteps = check_range(f"{type(self).__name__}: timestep", timesteps, self.max_steps)
        mask = jnp.ones((b, k), bool) if mask is None else mask
        states = stack_frames(frames, self.stack).astype(self.dtype) / 255
        states = self.embed_state(states.reshape(b * k, *states.shape[2:])).reshape(b, k, -1)
        parts = (
            jnp.tanh(self.embed_return(returns)),
            states,
            jnp.tanh(self.embed_action(actions)),
        )
        x = jnp.stack(parts, axis=2).reshape(b, 3 * k, -1)
        real = jnp.repeat(mask, 3, axis=1)
        place = jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)
        first = jnp.take_along_axis(timesteps, mask.argmax(1)[:, None], axis=1)
        where = self.embed_position[place] + jnp.take(self.embed_timestep, first, axis=0)
        x = self.drop(x + where.astype(x.dtype), deterministic=not train)
        x = run_blocks(self.blocks, x, Context(mask=real[:, None]), None, train)[0]
        return self.predict_action(self.final_norm(x)[:, 1::3])
