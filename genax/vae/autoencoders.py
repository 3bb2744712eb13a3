"""Encoders and decoders with fully connected layers (Kingma & Welling 2014, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from genax.vae.distributions import Bernoulli, Gaussian
from genax.vae.networks import Networks

Activation = Callable[[Array], Array]


class MLP(nn.Module):
    """Hidden layers, then one linear map for each parameter of a distribution.

    hidden: sizes of the hidden layers.
    heads: names of the linear maps.
    shape: shape of each linear map's output, behind the batch axes.
    """

    hidden: Sequence[int]
    heads: Sequence[str]
    shape: Sequence[int]
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=self.kernel_init, dtype=self.dtype, name=name)

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch n"], train: bool = False
    ) -> list[Float[Array, "*batch *shape"]]:
        """Return one float32 array per head."""
        for layer, size in enumerate(self.hidden):
            x = self.activation(self._dense(size, f"hidden_{layer}")(x))
        flat = [self._dense(math.prod(self.shape), name)(x) for name in self.heads]
        return [y.reshape(*x.shape[:-1], *self.shape).astype(jnp.float32) for y in flat]


class MLPEncoder(nn.Module):
    """Encoder q(z|x): the Gaussian of eq. 12."""

    hidden: Sequence[int] = (500,)
    latent_size: int = 20
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *shape"], train: bool = False) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [b, latent_size]."""
        heads, shape = ("mean", "log_variance"), (self.latent_size,)
        mlp = MLP(self.hidden, heads, shape, self.activation, self.kernel_init, self.dtype)
        return Gaussian(*mlp(x.reshape(len(x), -1), train))


class BernoulliDecoder(nn.Module):
    """Decoder p(x|z) for arrays of `shape` in [0, 1]: eq. 11."""

    shape: Sequence[int]
    hidden: Sequence[int] = (500,)
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "*batch z"], train: bool = False) -> Bernoulli:
        """Return the Bernoulli distribution, its logits [*batch, *shape]."""
        heads = ("logits",)
        mlp = MLP(self.hidden, heads, self.shape, self.activation, self.kernel_init, self.dtype)
        return Bernoulli(*mlp(z, train))


class GaussianDecoder(nn.Module):
    """Decoder p(x|z) for arrays of `shape`: eq. 12, the mean kept within (0, 1) as in section 5."""

    shape: Sequence[int]
    hidden: Sequence[int] = (200,)
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "*batch z"], train: bool = False) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [*batch, *shape]."""
        heads = ("mean", "log_variance")
        mlp = MLP(self.hidden, heads, self.shape, self.activation, self.kernel_init, self.dtype)
        mean, log_variance = mlp(z, train)
        return Gaussian(nn.sigmoid(mean), log_variance)


@dataclass(frozen=True)
class MLPSize:
    """Sizes of an autoencoder whose decoder mirrors its encoder.

    shape: shape of an image, (h, w, c).
    hidden: sizes of the encoder's hidden layers.
    latent_size: size of a latent.
    """

    shape: tuple[int, int, int]
    hidden: tuple[int, ...]
    latent_size: int
    activation: Activation
    decoder: Callable[..., nn.Module] = BernoulliDecoder

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an experiment of this size; without `relu` the activation is tanh."""
        relu = self.activation is nn.relu
        return {"hidden": self.hidden, "latent_size": self.latent_size, "relu": relu}

    def networks(
        self,
        kernel_init: Initializer = nn.initializers.lecun_normal(),  # noqa: B008
        dtype: jnp.dtype = jnp.float32,
    ) -> Networks:
        """Return an encoder and decoder that compute in `dtype` with float32 parameters."""
        layers = (self.hidden, self.latent_size, self.activation, kernel_init, dtype)
        mirrored = (self.hidden[::-1], self.activation, kernel_init, dtype)
        return Networks(MLPEncoder(*layers), self.decoder(self.shape, *mirrored))


# arXiv:1312.6114, section 5. Latent sizes 3, 5, 10, 20 and 200; 815,824 parameters at 20.
MNIST = MLPSize((28, 28, 1), (500,), 20, nn.tanh)
# arXiv:1312.6114, section 5. Latent sizes 2, 5, 10 and 20; 338,724 parameters at 2.
FREY_FACE = MLPSize((28, 20, 1), (200,), 2, nn.tanh, GaussianDecoder)
# pytorch/examples, vae: 652,824 parameters.
PYTORCH_EXAMPLE = replace(MNIST, hidden=(400,), activation=nn.relu)
# This project's own, for tests.
DIGITS = MLPSize((8, 8, 1), (64,), 8, nn.tanh)
