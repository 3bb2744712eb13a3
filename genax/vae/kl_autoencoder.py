"""The KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.nn.convolution import Conv
from genax.nn.initializers import fan_in_uniform
from genax.vae.distributions import Gaussian, posterior_of
from genax.vae.residual_coders import ResidualDecoder, ResidualEncoder

LARGE: dict[str, Any] = {"channels": 128, "num_res_blocks": 2, "num_groups": 32}
# Those of images of RGB at 256x256 of the public code, by the factor between the sides of images
# and latents. "f8" is Stable Diffusion's, with 83,653,863 parameters, "f8-16" that of Stable
# Diffusion 3 with 83,819,683. The two small ones are this project's own.
SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "f4": LARGE | {"multipliers": (1, 2, 4), "latent_channels": 3},
        "f8": LARGE | {"multipliers": (1, 2, 4, 4), "latent_channels": 4},
        "f8-16": LARGE | {"multipliers": (1, 2, 4, 4), "latent_channels": 16, "quant_convs": False},
        "f16": LARGE
        | {"multipliers": (1, 1, 2, 2, 4), "latent_channels": 16, "attention_levels": (4,)},
        "cpu": {
            "channels": 32,
            "multipliers": (1, 2, 4),
            "num_res_blocks": 1,
            "num_groups": 8,
            "latent_channels": 4,
        },
        "digits": {
            "channels": 16,
            "multipliers": (1, 2),
            "num_res_blocks": 1,
            "num_groups": 8,
            "latent_channels": 2,
        },
    }
)


class KLAutoencoder(nn.Module):
    """Autoencoder whose latents are small images, each pixel a normal distribution of its own.

    channels, multipliers, num_res_blocks, attention_levels, middle_attention, num_groups, epsilon,
      remat: see `ResidualCoder`.
    latent_channels: channels of a latent.
    image_channels: channels of the images that the decoder makes.
    quant_convs: whether 1x1 convolutions lie behind the encoder and before the decoder.
    scaling_factor, shift_factor: a diffusion model works on (latent - shift) * scale, which has a
      deviation of about 1. Neither method of this network applies them.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    image_channels: int = 3
    _: KW_ONLY
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    num_groups: int = 32
    epsilon: float = 1e-6
    quant_convs: bool = True
    scaling_factor: float = 1.0
    shift_factor: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self):
        """Make the encoder, the decoder and the convolutions between them."""
        sizes = (self.channels, self.multipliers, self.num_res_blocks)
        names = ("attention_levels", "middle_attention", "num_groups", "epsilon", "dropout")
        shared = {name: getattr(self, name) for name in (*names, "dtype", "remat")}
        self.encoder = ResidualEncoder(2 * self.latent_channels, *sizes, **shared)
        self.decoder = ResidualDecoder(self.image_channels, *sizes, **shared)
        if self.quant_convs:
            self.quant_conv = self._pointwise(2 * self.latent_channels)
            self.post_quant_conv = self._pointwise(self.latent_channels)

    def encode(self, image: Float[Array, "b h w c"], train: bool = False) -> Gaussian:
        """Return q(z|x), its mean and log-variance [b, H, W, latent_channels].

        image: in [-1, 1].
        """
        both = self.encoder(image, train)
        both = self.quant_conv(both).astype(jnp.float32) if self.quant_convs else both
        return posterior_of(*jnp.split(both, 2, axis=-1))

    def decode(
        self, z: Float[Array, "b h w z"], train: bool = False, with_features: bool = False
    ) -> Any:
        """Return the images of latents, [b, H, W, image_channels].

        with_features: see `ResidualDecoder`.
        """
        z = self.post_quant_conv(z) if self.quant_convs else z
        return self.decoder(z, train, with_features)

    def __call__(
        self, image: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b h w d"]:
        """Return the image of the posterior's mean."""
        return self.decode(self.encode(image, train).mean, train)

    @property
    def factor(self) -> int:
        """The side of an image over that of its latent."""
        return 2 ** (len(self.multipliers) - 1)

    def _pointwise(self, features: int) -> Conv:
        return Conv(features, (1, 1), kernel_init=fan_in_uniform(), dtype=self.dtype)
