"""The networks of VAE-GAN (Larsen et al. 2016, arXiv:1512.09300, table 4).

Where the paper leaves it open they are those of the official code: convolutions and linear layers
before BatchNorm have no bias, and a reconstruction is compared by the output of a convolution of
the discriminator, before its norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.norms import BatchNorm
from genax.nn.transposed_convolution import TransposedConv
from genax.vae.distributions import Gaussian, posterior_of

KERNEL = 5
EPSILON = 1e-6
KERNEL_INIT = nn.initializers.lecun_normal()

# "celeba64": arXiv:1512.09300, table 4, with 35,112,768, 4,693,155 and 10,953,857 parameters of the
# three networks; the official code has 1,024 units in the encoder, not 2,048. "cifar32": the
# official code. The two others are this project's own.
SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "celeba64": {
            "image_size": 64,
            "encoder_widths": (64, 128, 256),
            "encoder_hidden": 2048,
            "latent_size": 128,
            "decoder_start": 256,
            "decoder_widths": (256, 128, 32),
            "discriminator_start": 32,
            "discriminator_widths": (128, 256, 256),
            "discriminator_hidden": 512,
            "feature_layer": 3,
        },
        "cifar32": {
            "image_size": 32,
            "encoder_widths": (64, 128, 256),
            "encoder_hidden": 1024,
            "latent_size": 256,
            "decoder_start": 256,
            "decoder_widths": (192, 128, 32),
            "discriminator_start": 32,
            "discriminator_widths": (128, 192, 256),
            "discriminator_hidden": 512,
            "feature_layer": 2,
        },
        "cpu": {
            "image_size": 32,
            "encoder_widths": (16, 32, 64),
            "encoder_hidden": 256,
            "latent_size": 32,
            "decoder_start": 64,
            "decoder_widths": (64, 32, 16),
            "discriminator_start": 16,
            "discriminator_widths": (32, 64, 64),
            "discriminator_hidden": 128,
            "feature_layer": 3,
        },
        "digits": {
            "image_size": 8,
            "encoder_widths": (16, 32),
            "encoder_hidden": 64,
            "latent_size": 16,
            "decoder_start": 32,
            "decoder_widths": (32, 16),
            "discriminator_start": 8,
            "discriminator_widths": (16, 32),
            "discriminator_hidden": 64,
            "feature_layer": 2,
        },
    }
)


class Networks(nn.Module):
    """Networks of a VAE-GAN.

    encoder: images -> q(z|x).
    decoder: latents [b, z] -> images.
    discriminator: images -> `Judged`; None for a VAE without one.
    """

    encoder: nn.Module
    decoder: nn.Module
    discriminator: nn.Module | None = None


class Judged(NamedTuple):
    """What a discriminator says of images.

    scores: logits of being real.
    features: by which images are compared.
    """

    scores: Float[Array, " b"]
    features: Float[Array, "b ..."]


class Encoder(nn.Module):
    """The encoder: layers that each halve the resolution, a linear layer, and two heads.

    widths: channels of each halving.
    hidden: units of the linear layer.
    latent_size: size of a latent.
    """

    widths: tuple[int, ...] = (64, 128, 256)
    hidden: int = 2048
    latent_size: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], train: bool = False) -> Gaussian:
        """Return q(z|x), its mean and log-variance [b, latent_size].

        Raises GenaxError for images that the layers cannot halve.
        """
        check_side(image.shape[1], len(self.widths))
        x = image
        for level, features in enumerate(self.widths):
            x = _halved(x, features, level, self.dtype)
            x = _normalised(x, train, f"norm_{level}")
        x = _linear(self.hidden, self.dtype, "hidden")(x.reshape(len(x), -1))
        x = _normalised(x, train, "norm_hidden")
        heads = [
            nn.Dense(self.latent_size, dtype=self.dtype, name=name)(x).astype(jnp.float32)
            for name in ("mean", "log_variance")
        ]
        return posterior_of(*heads)


class Decoder(nn.Module):
    """The decoder, which is the generator too: a linear layer, and layers that each double.

    image_size: height (and width) of the images.
    channels: channels of the images.
    latent_size: size of a latent.
    start: channels of the first feature maps.
    widths: channels of each doubling.
    """

    image_size: int = 64
    channels: int = 3
    latent_size: int = 128
    start: int = 256
    widths: tuple[int, ...] = (256, 128, 32)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b z"], train: bool = False) -> Float[Array, "b h w c"]:
        """Return images in [-1, 1], float32.

        Raises GenaxError for a size that the layers do not reach.
        """
        side = check_side(self.image_size, len(self.widths))
        shape = (side, side, self.start)
        x = _linear(math.prod(shape), self.dtype, "project")(z)
        x = _normalised(x, train, "norm_project").reshape(len(z), *shape)
        for level, features in enumerate(self.widths):
            up = TransposedConv(features, KERNEL_INIT, self.dtype, KERNEL, name=f"upsample_{level}")
            x = _normalised(up(x), train, f"norm_{level}")
        last = Conv(
            self.channels, (KERNEL, KERNEL), kernel_init=KERNEL_INIT, dtype=self.dtype, name="image"
        )
        return jnp.tanh(last(x).astype(jnp.float32))


class Discriminator(nn.Module):
    """The discriminator, by whose features reconstructions are compared.

    start: channels of the first layer, at full resolution, which has no norm.
    widths: channels of each halving.
    hidden: units of the linear layer.
    feature_layer: number of the halving, from 1, whose convolution's output are the features.
    """

    start: int = 32
    widths: tuple[int, ...] = (128, 256, 256)
    hidden: int = 512
    feature_layer: int = 3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w c"], train: bool = False) -> Judged:
        """Return scores and features, float32.

        Raises GenaxError for images that the layers cannot halve, and for features of a layer that
        there is not.
        """
        check_side(image.shape[1], len(self.widths))
        if self.feature_layer not in range(1, len(self.widths) + 1):
            raise GenaxError(
                f"feature_layer={self.feature_layer} must be from 1 to {len(self.widths)}, the "
                "number of discriminator_widths."
            )
        first = Conv(
            self.start, (KERNEL, KERNEL), kernel_init=KERNEL_INIT, dtype=self.dtype, name="first"
        )
        x, features = nn.relu(first(image)), image
        for level, width in enumerate(self.widths):
            x = _halved(x, width, level, self.dtype)
            features = x if level + 1 == self.feature_layer else features
            x = _normalised(x, train, f"norm_{level}")
        x = _linear(self.hidden, self.dtype, "hidden")(x.reshape(len(x), -1))
        x = _normalised(x, train, "norm_hidden")
        scores = nn.Dense(1, dtype=self.dtype, name="score")(x)[:, 0]
        return Judged(scores.astype(jnp.float32), features.astype(jnp.float32))


def check_side(side: int, halvings: int) -> int:
    """Return the side of the smallest feature maps.

    Raises GenaxError for a side that cannot be halved so often.
    """
    if side % 2**halvings:
        raise GenaxError(
            f"images of {side}x{side} cannot be halved {halvings} times; choose a size that "
            f"{2**halvings} divides, or fewer widths."
        )
    return side // 2**halvings


def _halved(x: Array, features: int, level: int, dtype: Any) -> Array:
    conv = Conv(
        features,
        (KERNEL, KERNEL),
        (2, 2),
        kernel_init=KERNEL_INIT,
        use_bias=False,
        dtype=dtype,
        name=f"downsample_{level}",
    )
    return conv(x)


def _normalised(x: Array, train: bool, name: str) -> Array:
    return nn.relu(BatchNorm(epsilon=EPSILON, name=name)(x, train))


def _linear(features: int, dtype: Any, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=dtype, name=name)
