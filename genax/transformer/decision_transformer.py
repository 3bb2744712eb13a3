"""The Decision Transformer: actions as the continuation of returns and states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.nn.attention import Attention
from genax.nn.block import Block, Context, inverse_layer_scales
from genax.nn.feed_forward import FeedForward
from genax.nn.layer_norm import LayerNorm
from genax.nn.projection import Projection
from genax.nn.stack import make_blocks, run_blocks


class DecisionTransformer(nn.Module):
    """Causal Transformer over (return-to-go, state, action) triples: Chen et al. 2021, section 3.

    max_steps: number of timesteps that have an embedding.
    mlp_size: width of the feed-forward network. None means 4 * hidden_size.
    tanh_actions: whether actions lie in [-1, 1].
    trunk_tables: rows of the trunk's own token and position tables, as a GPT-2 trunk carries them.
      Only the first position is ever used. 0 leaves a table out.
    inverse_layer_scaling: see `inverse_layer_scales`.
    """

    state_size: int
    action_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    max_steps: int
    mlp_size: int | None = None
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    tanh_actions: bool = True
    trunk_tables: tuple[int, int] = (0, 0)
    dropout: float = 0.0
    epsilon: float = 1e-5
    init_scale: float = 0.02
    inverse_layer_scaling: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        """Make the embeddings, blocks and the three heads."""
        init = nn.initializers.normal(self.init_scale)
        layer = {"kernel_init": init, "dtype": self.dtype}
        blocks = layer | {"output_init": init}
        project = partial(Projection, **layer)
        norm = partial(LayerNorm, self.epsilon)
        table = partial(nn.Embed, features=self.hidden_size, dtype=self.dtype, embedding_init=init)
        self.time_embedding = table(self.max_steps)
        tokens, positions = self.trunk_tables
        if tokens:
            self.param("trunk_tokens", init, (tokens, self.hidden_size))
        if positions:
            self.trunk_positions = self.param(
                "trunk_positions", init, (positions, self.hidden_size)
            )
        self.embed_return = project((self.hidden_size,))
        self.embed_state = project((self.hidden_size,))
        self.embed_action = project((self.hidden_size,))
        # The published code does not use the trunk's epsilon here either.
        self.embedding_norm = LayerNorm()
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
            feed_forward=partial(
                FeedForward, self.mlp_size or 4 * self.hidden_size, self.activation, **blocks
            ),
            dropout=self.dropout,
            per_layer=self.inverse_layer_scaling,
        )
        self.final_norm = norm()
        self.predict_return = project((1,))
        self.predict_state = project((self.state_size,))
        self.predict_action = project((self.action_size,))

    def __call__(
        self,
        returns: Float[Array, "b k 1"],
        states: Float[Array, "b k s"],
        actions: Float[Array, "b k a"],
        timesteps: Int[Array, "b k"],
        mask: Bool[Array, "b k"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "b k s"], Float[Array, "b k a"], Float[Array, "b k 1"]]:
        """Return predicted states, actions and returns.

        An action is predicted from its return and state, the others from the action too.

        mask: which triples are real. Shorter histories are padded on the left.
        train: whether dropout is on.
        Raises GenaxError for states or actions of other sizes than the model's.
        """
        sizes = (states.shape[-1], actions.shape[-1])
        if sizes != (self.state_size, self.action_size):
            raise GenaxError(
                f"DecisionTransformer: states and actions have the sizes {sizes}, the model has "
                f"{(self.state_size, self.action_size)}."
            )
        b, k = timesteps.shape
        time = self.time_embedding(timesteps)
        parts = (self.embed_return(returns), self.embed_state(states), self.embed_action(actions))
        x = jnp.stack([part + time for part in parts], axis=2).reshape(b, 3 * k, -1)
        x = self.embedding_norm(x)
        if self.trunk_tables[1]:
            x = x + self.trunk_positions[0].astype(x.dtype)
        x = self.drop(x, deterministic=not train)
        context = Context(mask=None if mask is None else jnp.repeat(mask, 3, axis=1)[:, None])
        scales = inverse_layer_scales(self.num_layers) if self.inverse_layer_scaling else None
        x = self.final_norm(run_blocks(self.blocks, x, context, None, train, scales)[0])
        _, at_state, at_action = jnp.unstack(x.reshape(b, k, 3, -1), axis=2)
        action = self.predict_action(at_state)
        action = jnp.tanh(action) if self.tanh_actions else action
        return self.predict_state(at_action), action, self.predict_return(at_action)


@dataclass(frozen=True)
class DecisionTransformerPreset:
    """Agent of Chen et al. 2021: tables 8 (Atari) and 9 (Gym) with the published code's sizes.

    environment: gymnasium's name.
    data: TensorFlow Datasets' name.
    state_size: numbers per state. 0 means pictures.
    context: triples per window.
    max_steps: number of timesteps that have an embedding.
    targets: returns that the agent is asked for.
    anchors: returns of a random player and of an expert (Gym: D4RL's, Fu et al. 2020) or of a gamer
      (Atari), which are 0 and 100 in the paper's scores.
    params: number of parameters, see below.
    """

    environment: str
    data: str
    state_size: int
    action_size: int
    num_layers: int
    num_heads: int
    context: int
    max_steps: int
    batch_size: int
    learning_rate: float
    targets: tuple[float, ...]
    anchors: tuple[float, float]
    params: int
    hidden_size: int = 128


# Gym: parameters as transformers' DecisionTransformerModel counts them. Its GPT-2 trunk has a table
# of one token, which nothing reads, and one of 1024 positions, of which only the first is read.
# Atari: parameters as kzl/decision-transformer counts them, with a table of tokens that nothing
# reads. Its table of timesteps has as many rows as the longest episode of the 500,000 transitions
# drawn, here 2,720.
DECISION_TRANSFORMER_PRESETS = {
    "hopper": DecisionTransformerPreset(
        "Hopper-v5",
        "tfds:d4rl_mujoco_hopper/v2-medium",
        *(11, 3, 3, 1, 20, 1000, 64, 1e-4),
        targets=(3600.0, 1800.0),
        anchors=(-20.272305, 3234.3),
        params=858_767,
    ),
    "halfcheetah": DecisionTransformerPreset(
        "HalfCheetah-v5",
        "tfds:d4rl_mujoco_halfcheetah/v2-medium",
        *(17, 6, 3, 1, 20, 1000, 64, 1e-4),
        targets=(12_000.0, 6_000.0),
        anchors=(-280.178953, 12_135.0),
        params=861_080,
    ),
    "breakout": DecisionTransformerPreset(
        "ALE/Breakout-v5",
        "tfds:rlu_atari/Breakout_run_1",
        *(0, 4, 6, 8, 30, 2720, 128, 6e-4),
        targets=(90.0,),
        anchors=(2.0, 30.0),
        params=2_031_008,
    ),
    "pong": DecisionTransformerPreset(
        "ALE/Pong-v5",
        "tfds:rlu_atari/Pong_run_1",
        *(0, 6, 6, 8, 50, 2720, 512, 6e-4),
        targets=(20.0,),
        anchors=(-21.0, 15.0),
        params=2_039_456,
    ),
}
