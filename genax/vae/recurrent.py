"""Encoder and decoder of tokens with gated recurrent units (Cho et al. 2014)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.vae.distributions import Gaussian, posterior_of

State = tuple[Array, ...]


class GRUEncoder(nn.Module):
    """Encoder q(z|x) of tokens: the state after the last token that is no padding.

    vocab_size: numbers of tokens.
    padding: the token that fills rows up, on their right.
    """

    vocab_size: int
    hidden_size: int = 256
    latent_size: int = 128
    padding: int = 0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b t"], train: bool = False) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [b, latent_size]."""
        x = nn.Embed(self.vocab_size, self.hidden_size, dtype=self.dtype, name="embed")(tokens)
        start = jnp.zeros((len(tokens), self.hidden_size), self.dtype)
        cell = nn.GRUCell(self.hidden_size, dtype=self.dtype, parent=None)
        lengths = (tokens != self.padding).sum(-1)
        read = nn.RNN(cell, return_carry=True, name="cell")
        state, _ = read(x, initial_carry=start, seq_lengths=lengths)
        heads = ("mean", "log_variance")
        flat = [nn.Dense(self.latent_size, dtype=self.dtype, name=name)(state) for name in heads]
        return posterior_of(*(y.astype(jnp.float32) for y in flat))


class GRUDecoder(nn.Module):
    """Decoder p(x|z) of tokens: layers of units that get the last token and the latent each time.

    The states begin as a linear map of the latent, as in MOSES (Polykovskiy et al. 2020).
    """

    vocab_size: int
    hidden_size: int = 512
    num_layers: int = 3
    embed_size: int = 64
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Make the layers."""
        self.embed = nn.Embed(self.vocab_size, self.embed_size, dtype=self.dtype)
        self.first = nn.Dense(self.hidden_size, dtype=self.dtype)
        self.cells = [
            nn.GRUCell(self.hidden_size, dtype=self.dtype) for _ in range(self.num_layers)
        ]
        self.output = nn.Dense(self.vocab_size, dtype=self.dtype)

    def begin(self, z: Float[Array, "b z"]) -> State:
        """Return the states before the first token."""
        return (self.first(z.astype(self.dtype)),) * self.num_layers

    def step(
        self, state: State, token: Int[Array, " b"], z: Float[Array, "b z"]
    ) -> tuple[State, Float[Array, "b v"]]:
        """Return the states after a token, and float32 logits of the next one."""
        x = jnp.concatenate([self.embed(token), z.astype(self.dtype)], axis=-1)
        states = []
        for cell, before in zip(self.cells, state, strict=True):
            after, x = cell(before, x)
            states.append(after)
        return tuple(states), self.output(x).astype(jnp.float32)

    def __call__(
        self, z: Float[Array, "b z"], tokens: Int[Array, "b t"], train: bool = False
    ) -> Float[Array, "b t v"]:
        """Return logits of what follows each token, of rows that begin with `tokens`."""

        def step(decoder: GRUDecoder, state: State, token: Int[Array, " b"]):
            return decoder.step(state, token, z)

        read = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        return read(self, self.begin(z), tokens)[1]
