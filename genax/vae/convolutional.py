"""Encoders and decoders of images by strided convolutions (Higgins et al. 2017, table 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.transposed_convolution import TransposedConv
from genax.vae.autoencoders import MLP, Activation, name_of, with_label
from genax.vae.distributions import Gaussian, posterior_of
from genax.vae.likelihoods import BERNOULLI, Likelihood
from genax.vae.networks import Networks


def smallest(shape: Sequence[int], widths: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of the feature map behind all convolutions, each of which halves an image.

    Raises GenaxError for images that cannot be halved so often.
    """
    height, width, _ = shape
    factor = 2 ** len(widths)
    if height % factor or width % factor:
        raise GenaxError(
            f"images of {height}x{width} cannot be halved {len(widths)} times, once for each of "
            f"widths={tuple(widths)}; give fewer widths, or another size of the images."
        )
    return height // factor, width // factor, widths[-1]


class ConvEncoder(nn.Module):
    """Encoder q(z|x): 4x4 convolutions of stride 2, then fully connected layers.

    Labels join the features behind the convolutions.

    widths: channels of the convolutions.
    hidden: sizes of the fully connected layers.
    num_classes: classes of the labels; None means no labels.
    """

    widths: Sequence[int] = (32, 64)
    hidden: Sequence[int] = (256,)
    latent_size: int = 32
    activation: Activation = nn.relu
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [b, latent_size].

        Raises GenaxError for images that cannot be halved so often.
        """
        smallest(x.shape[1:], self.widths)
        for layer, width in enumerate(self.widths):
            conv = Conv(
                width,
                (4, 4),
                (2, 2),
                ((1, 1), (1, 1)),
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                name=f"conv_{layer}",
            )
            x = self.activation(conv(x))
        heads, shape = ("mean", "log_variance"), (self.latent_size,)
        mlp = MLP(self.hidden, heads, shape, self.activation, self.kernel_init, self.dtype)
        return posterior_of(*mlp(with_label(self, x.reshape(len(x), -1), label), train))


class ConvDecoder(nn.Module):
    """Decoder p(x|z): the layers of `ConvEncoder` backwards, convolutions transposed.

    shape: of an image.
    widths, hidden: those of the encoder.
    likelihood: what is made of the outputs.
    num_classes: classes of the labels; None means no labels.
    """

    shape: Sequence[int]
    widths: Sequence[int] = (32, 64)
    hidden: Sequence[int] = (256,)
    activation: Activation = nn.relu
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
        batch = z.shape[:-1]
        first = smallest(self.shape, self.widths)
        x = with_label(self, z, label)
        for layer, size in enumerate((*self.hidden[::-1], math.prod(first))):
            dense = nn.Dense(
                size, kernel_init=self.kernel_init, dtype=self.dtype, name=f"hidden_{layer}"
            )
            x = self.activation(dense(x))
        x = x.reshape(-1, *first)
        channels, heads = self.shape[-1], self.likelihood.heads
        for layer, width in enumerate((*self.widths[-2::-1], channels * len(heads))):
            x = self.activation(x) if layer else x
            conv = TransposedConv(
                width, self.kernel_init, self.dtype, use_bias=True, name=f"conv_{layer}"
            )
            x = conv(x)
        outputs = jnp.split(x.astype(jnp.float32), len(heads), axis=-1)
        return self.likelihood.distribution(*(y.reshape(*batch, *self.shape) for y in outputs))


@dataclass(frozen=True)
class ConvSize:
    """Sizes of an autoencoder of convolutions whose decoder mirrors its encoder.

    shape: shape of an image, (h, w, c).
    widths: channels of the convolutions, each of which halves the image.
    hidden: sizes of the encoder's fully connected layers.
    latent_size: size of a latent.
    num_classes: classes of the labels that both networks get; 0 is no labels.
    """

    shape: tuple[int, int, int]
    widths: tuple[int, ...]
    hidden: tuple[int, ...]
    latent_size: int
    activation: Activation = nn.relu
    likelihood: Likelihood = BERNOULLI
    num_classes: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an experiment of this size."""
        return {
            "widths": self.widths,
            "hidden": self.hidden,
            "latent_size": self.latent_size,
            "activation": name_of(self.activation),
        }

    def networks(
        self,
        kernel_init: Initializer = nn.initializers.lecun_normal(),  # noqa: B008
        dtype: jnp.dtype = jnp.float32,
    ) -> Networks:
        """Return an encoder and decoder that compute in `dtype` with float32 parameters."""
        classes = self.num_classes or None
        smallest(self.shape, self.widths)
        layers = (self.latent_size, self.activation, kernel_init, dtype, classes)
        mirrored = (self.activation, kernel_init, dtype, self.likelihood, classes)
        return Networks(
            ConvEncoder(self.widths, self.hidden, *layers),
            ConvDecoder(self.shape, self.widths, self.hidden, *mirrored),
        )


# Higgins et al. 2017, table 1: 783,235 parameters.
CELEBA = ConvSize((64, 64, 3), (32, 32, 64, 64), (256,), 32)
# Kim & Mnih 2018 (arXiv:1802.05983), appendix A: dSprites.
FACTOR_DSPRITES = ConvSize((64, 64, 1), (32, 32, 64, 64), (128,), 10)
# This project's own.
MNIST_CONV = ConvSize((28, 28, 1), (32, 64), (256,), 32)
DIGITS_CONV = ConvSize((8, 8, 1), (16, 32), (32,), 8)
