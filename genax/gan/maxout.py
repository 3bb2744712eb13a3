"""The networks of the first GAN (Goodfellow et al. 2014): perceptrons, one of them with maxout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

# The widths are those of mnist.yaml in the authors' code.
SIZES: dict[str, dict[str, int | tuple[int, ...]]] = {
    # 2,503,984 parameters of the generator, 1,231,441 of the discriminator.
    "mnist": {"image_size": 28, "latent_size": 100, "hidden": (1200, 1200), "units": (240, 240)},
    # This project's own.
    "small": {"image_size": 28, "latent_size": 64, "hidden": (512, 512), "units": (128, 128)},
    "digits": {"image_size": 8, "latent_size": 16, "hidden": (128, 128), "units": (64, 64)},
}


def symmetric_uniform(most: float) -> Initializer:
    """Uniform distribution from -most to most."""
    spread = nn.initializers.uniform(2 * most)

    def initial(key, shape, dtype=None, out_sharding=None):
        return spread(key, shape, dtype or jnp.float32, out_sharding) - most

    return initial


class Maxout(nn.Module):
    """Layer whose outputs are each the largest of several affine maps.

    Goodfellow et al. 2013 (arXiv:1302.4389), eq. 1.
    """

    features: int
    pieces: int = 5
    kernel_init: Initializer = symmetric_uniform(0.005)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b features"]:
        """Return the largest piece of each feature."""
        dense = nn.Dense(
            self.features * self.pieces,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="pieces",
        )
        return dense(x).reshape(len(x), self.features, self.pieces).max(-1)


class PerceptronGenerator(nn.Module):
    """Generator of images: dense layers with ReLU, and a sigmoid whose range becomes [-1, 1].

    hidden: features of the layers before the image.
    latent_size: size of a latent.
    """

    image_size: int = 28
    channels: int = 1
    hidden: Sequence[int] = (1200, 1200)
    latent_size: int = 100
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b z"], train: bool = False) -> Float[Array, "b h w c"]:
        """Return images in [-1, 1], float32."""
        shape = (self.image_size, self.image_size, self.channels)
        spread = symmetric_uniform(0.05)
        for features in self.hidden:
            z = nn.relu(nn.Dense(features, kernel_init=spread, dtype=self.dtype)(z))
        z = nn.Dense(math.prod(shape), kernel_init=spread, dtype=self.dtype)(z)
        return 2 * nn.sigmoid(z.astype(jnp.float32)).reshape(len(z), *shape) - 1


class MaxoutDiscriminator(nn.Module):
    """Discriminator of images or points: maxout layers, then a weighted sum.

    units: features of the maxout layers.
    pieces: affine maps behind each of them.
    dropout, input_dropout: shares of features and of inputs that a pass in training mode leaves
      out. The others are scaled, so nothing is scaled otherwise.
    """

    units: Sequence[int] = (240, 240)
    pieces: int = 5
    dropout: float = 0.5
    input_dropout: float = 0.2
    kernel_init: Initializer = symmetric_uniform(0.005)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *places"], train: bool = False) -> Float[Array, " b"]:
        """Return the logits of being real, float32."""
        x = x.reshape(len(x), -1).astype(self.dtype)
        for number, features in enumerate(self.units):
            rate = self.dropout if number else self.input_dropout
            x = nn.Dropout(rate, deterministic=not train)(x)
            x = Maxout(features, self.pieces, self.kernel_init, self.dtype)(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        score = nn.Dense(1, kernel_init=self.kernel_init, dtype=self.dtype, name="score")
        return score(x)[:, 0].astype(jnp.float32)
