"""Base of language models of recurrent blocks: whole sequences, and decoding by a state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.core.mesh import split_tokens
from genax.hybrid.recurrent_state import LayerState, RecurrentState
from genax.nn.rms_norm import RMSNorm
from genax.nn.stack import make_blocks, run_blocks
from genax.transformer.decoder import table_scores
from genax.transformer.token_range import check_tokens


class RecurrentBlock(nn.Module):
    """A mixer of the normalised input, added to it: Gu & Dao 2023, fig. 3.

    mixer: constructor of a module (x, before, real, train) -> (x, state), called with a name.
    epsilon: of the norm.
    wide_residual: keep the sum in float32.
    """

    mixer: Callable[..., nn.Module]
    epsilon: float = 1e-5
    wide_residual: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        before: LayerState | None,
        real: Bool[Array, "b t"] | None,
        train: bool = False,
    ) -> tuple[Float[Array, "b t d"], LayerState | None]:
        """Return the new values of x and, if there was a state before, the state after x.

        real: which tokens are real, before all others. None means all.
        """
        x = split_tokens(x)
        if self.wide_residual:
            x = x.astype(jnp.float32)
        y = RMSNorm(self.epsilon, name="norm")(x)
        y, after = self.mixer(name="mixer")(y, before, real, train)
        return x + y.astype(x.dtype), None if before is None else after


class RecurrentDecoder(nn.Module):
    """Token embedding, recurrent blocks, a norm and a head. A family says which mixer blocks have.

    There are no positions, so sequences may have any length.

    init_scale: standard deviation of the initial embedding, as in the official code.
    epsilon, wide_residual: see `RecurrentBlock`.
    scan_layers: compile one block and loop over it. The blocks' parameters then have a leading axis
      of layers.
    remat: see `genax.nn.rematerialise`.
    tied_head: take the rows of the token embedding as the head's.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    epsilon: float = 1e-5
    wide_residual: bool = True
    tied_head: bool = True
    init_scale: float = 0.02
    scan_layers: bool = False
    remat: str = "none"
    dtype: Any = jnp.float32

    @property
    @abstractmethod
    def mixer(self) -> Callable[..., Any]:
        """Constructor of a block's mixer, whose `empty(batch_size, width)` is its first state."""
        ...

    @property
    def context(self) -> None:
        """Tokens of a sequence at most: no limit."""
        return None

    def setup(self):
        """Make the embedding, blocks, final norm and head."""
        init = nn.initializers.normal(self.init_scale)

        def table():
            return nn.Embed(
                self.vocab_size, self.hidden_size, dtype=self.dtype, embedding_init=init
            )

        self.token_embedding = table()
        self.blocks = make_blocks(
            RecurrentBlock,
            self.num_layers,
            self.scan_layers,
            self.remat,
            mixer=self.mixer,
            epsilon=self.epsilon,
            wide_residual=self.wide_residual,
        )
        self.final_norm = RMSNorm(self.epsilon)
        if not self.tied_head:
            self.head = table()

    @property
    def head_table(self) -> nn.Embed:
        """Table whose products with the hidden state are the logits."""
        return self.token_embedding if self.tied_head else self.head

    def logits(self, hidden: Float[Array, "b t d"]) -> Float[Array, "b t vocab"]:
        """Return scores over the vocabulary."""
        return table_scores(self.head_table, hidden)

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t vocab"]:
        """Return scores of the token after each position.

        mask: which tokens are real. The others are padding anywhere, and leave the state alone.
        segments: documents packed into a sequence, which a recurrence does not keep apart.
        Raises GenaxError if there are segments.
        """
        return self.logits(self.hidden(tokens, mask, train, segments))

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Return the head's input, for losses that do not want all logits at once.

        The arguments are those of `__call__`.
        """
        if segments is not None:
            raise GenaxError(
                f"{type(self).__name__}: packed documents would share one state; train it on one "
                "document a row, without segments."
            )
        if mask is None:
            return self._run(tokens, None, None, train)[0]
        order = _real_first(mask)
        tokens, real = (jnp.take_along_axis(rows, order, 1) for rows in (tokens, mask))
        hidden = self._run(tokens, None, real, train)[0]
        return jnp.take_along_axis(hidden, jnp.argsort(order, axis=1)[..., None], axis=1)

    def empty_cache(self, batch_size: int, slots: int = 0) -> RecurrentState:
        """Return the state before the first token, which is as large for any number of slots."""
        # Without a parent, since it is asked for its state alone.
        layer = self.mixer(parent=None).empty(batch_size, self.hidden_size)
        return RecurrentState.empty(layer, self.num_layers, self.scan_layers)

    def decode(
        self,
        tokens: Int[Array, "b t"],
        cache: RecurrentState,
        mask: Bool[Array, "b t"] | None = None,
    ) -> tuple[Float[Array, "b vocab"], RecurrentState]:
        """Read t further tokens.

        mask: which tokens are real. None means all.
        Returns scores of the token after the last real one, and the state after it.
        """
        last = jnp.full((len(tokens),), tokens.shape[1] - 1)
        if mask is not None:
            order = _real_first(mask)
            tokens, mask = (jnp.take_along_axis(rows, order, 1) for rows in (tokens, mask))
            last = jnp.maximum(mask.sum(1, dtype=jnp.int32) - 1, 0)
        hidden, layers = self._run(tokens, cache.layers, mask, False)
        hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)
        return self.logits(hidden)[:, 0], RecurrentState(layers)

    def _run(self, tokens, layers, real, train):
        tokens = check_tokens(tokens, self.vocab_size, type(self).__name__)
        x = self.token_embedding(tokens)
        if self.wide_residual:
            x = x.astype(jnp.float32)
        x, layers = run_blocks(self.blocks, x, real, layers, train)
        return self.final_norm(x).astype(self.dtype), layers


def _real_first(mask: Bool[Array, "b t"]) -> Int[Array, "b t"]:
    """Places of the real tokens in their order, then of the others."""
    return jnp.argsort(~mask, axis=1, stable=True)
