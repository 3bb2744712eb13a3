"""Encoders and decoders with fully connected layers (Kingma & Welling 2014, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from genax.nn.activations import ACTIVATIONS
from genax.nn.labels import check_label, one_hot
from genax.vae.distributions import Gaussian, posterior_of
from genax.vae.likelihoods import BERNOULLI, LEARNED_GAUSSIAN, Likelihood
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


def with_label(
    network: Any, x: Float[Array, "b *samples n"], label: Int[Array, " b"] | None
) -> Float[Array, "b *samples m"]:
    """Return x beside the one-hot label of each element, or x itself for a network without labels.

    network: has the fields that `genax.nn.labels` reads.
    """
    check_label(network, label)
    if label is None:
        return x
    columns = one_hot(network, label)
    columns = columns.reshape(len(x), *(1,) * (x.ndim - 2), columns.shape[-1])
    columns = jnp.broadcast_to(columns, (*x.shape[:-1], columns.shape[-1]))
    return jnp.concatenate([x.astype(columns.dtype), columns], axis=-1)


def name_of(activation: Activation | None) -> str:
    """Return the name that settings have for an activation, "" for None."""
    return next((name for name, one in ACTIVATIONS.items() if one is activation), "")


class MLPEncoder(nn.Module):
    """Encoder q(z|x), or q(z|x, label): the Gaussian of eq. 12.

    num_classes: classes of the labels; None means no labels.
    """

    hidden: Sequence[int] = (500,)
    latent_size: int = 20
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *shape"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [b, latent_size]."""
        heads, shape = ("mean", "log_variance"), (self.latent_size,)
        mlp = MLP(self.hidden, heads, shape, self.activation, self.kernel_init, self.dtype)
        return posterior_of(*mlp(with_label(self, x.reshape(len(x), -1), label), train))


class MLPDecoder(nn.Module):
    """Decoder p(x|z), or p(x|z, label), of images in [0, 1]: eq. 11 and 12.

    shape: of an image.
    likelihood: what is made of the outputs.
    num_classes: classes of the labels; None means no labels.
    """

    shape: Sequence[int]
    hidden: Sequence[int] = (500,)
    activation: Activation = nn.tanh
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32
    likelihood: Likelihood = BERNOULLI
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b *samples z"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Any:
        """Return the distribution, its parameters [b, *samples, *shape]."""
        heads = self.likelihood.heads
        mlp = MLP(self.hidden, heads, self.shape, self.activation, self.kernel_init, self.dtype)
        return self.likelihood.distribution(*mlp(with_label(self, z, label), train))


@dataclass(frozen=True)
class MLPSize:
    """Sizes of an autoencoder whose decoder mirrors its encoder, unless it says otherwise.

    shape: shape of an image, (h, w, c).
    hidden: sizes of the encoder's hidden layers.
    latent_size: size of a latent.
    decoder_hidden: sizes of the decoder's hidden layers; without any they are the encoder's, the
      other way round.
    decoder_activation: of the decoder; None is that of the encoder.
    num_classes: classes of the labels that both networks get; 0 is no labels.
    """

    shape: tuple[int, int, int]
    hidden: tuple[int, ...]
    latent_size: int
    activation: Activation
    likelihood: Likelihood = BERNOULLI
    decoder_hidden: tuple[int, ...] = ()
    decoder_activation: Activation | None = None
    num_classes: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an experiment of this size."""
        return {
            "hidden": self.hidden,
            "decoder_hidden": self.decoder_hidden,
            "latent_size": self.latent_size,
            "activation": name_of(self.activation),
            "decoder_activation": name_of(self.decoder_activation),
        }

    def networks(
        self,
        kernel_init: Initializer = nn.initializers.lecun_normal(),  # noqa: B008
        dtype: jnp.dtype = jnp.float32,
    ) -> Networks:
        """Return an encoder and decoder that compute in `dtype` with float32 parameters."""
        classes = self.num_classes or None
        hidden = self.decoder_hidden or self.hidden[::-1]
        layers = (self.hidden, self.latent_size, self.activation, kernel_init, dtype, classes)
        activation = self.decoder_activation or self.activation
        mirrored = (hidden, activation, kernel_init, dtype, self.likelihood, classes)
        return Networks(MLPEncoder(*layers), MLPDecoder(self.shape, *mirrored))


# arXiv:1312.6114, section 5. Latent sizes 3, 5, 10, 20 and 200; 815,824 parameters at 20.
MNIST = MLPSize((28, 28, 1), (500,), 20, nn.tanh)
# arXiv:1312.6114, section 5. Latent sizes 2, 5, 10 and 20; 338,724 parameters at 2.
FREY_FACE = MLPSize((28, 20, 1), (200,), 2, nn.tanh, LEARNED_GAUSSIAN)
# pytorch/examples, vae: 652,824 parameters.
PYTORCH_EXAMPLE = replace(MNIST, hidden=(400,), activation=nn.relu)
# arXiv:1509.00519, appendix C: one stochastic layer; 425,284 parameters.
IWAE = replace(MNIST, hidden=(200, 200), latent_size=50)
# Higgins et al. 2017, table 1: 14,196,516 parameters.
DSPRITES = MLPSize(
    (64, 64, 1),
    (1200, 1200),
    10,
    nn.relu,
    decoder_hidden=(1200, 1200, 1200),
    decoder_activation=nn.tanh,
)
# This project's own, for tests.
DIGITS = MLPSize((8, 8, 1), (64,), 8, nn.tanh)
