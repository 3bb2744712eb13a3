"""The autoencoder of latent diffusion whose latents are words of a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from genax.nn.convolution import Conv
from genax.nn.initializers import fan_in_uniform
from genax.vae.codebook import nearest_code, rows_at
from genax.vae.residual_coders import ResidualDecoder, ResidualEncoder

# Rombach et al. 2022, table 8: "vq-f4" of the public code, 55,322,782 parameters.
SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "f4": {
            "channels": 128,
            "multipliers": (1, 2, 4),
            "num_res_blocks": 2,
            "latent_channels": 3,
            "num_codes": 8192,
        }
    }
)


def first_words(key: Any, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Draw words from U(-1 / K, 1 / K), as the authors' code does.

    shape: (K, d).
    """
    return jax.random.uniform(key, shape, dtype, -1 / shape[0], 1 / shape[0])


class Quantised(NamedTuple):
    """Latents and the words nearest to them.

    latents: the words; a gradient passes straight through to what was quantised.
    indices: numbers of the words.
    codebook_error, commitment_error: mean squared distance of a latent from its word, for each
      image; the first moves words to latents, the second latents to words (van den Oord et al.
      2017, arXiv:1711.00937, eq. 3).
    """

    latents: Float[Array, "b h w d"]
    indices: Int[Array, "b h w"]
    codebook_error: Float[Array, " b"]
    commitment_error: Float[Array, " b"]


class VQAutoencoder(nn.Module):
    """Autoencoder whose latents are small images of words of a codebook that gradients train.

    channels, multipliers, num_res_blocks, attention_levels, middle_attention, num_groups, epsilon,
      remat: see `ResidualCoder`.
    latent_channels: channels of the encoder's output and of the decoder's input.
    image_channels: channels of the images that the decoder makes.
    num_codes: words of the codebook.
    code_size: numbers of a word; None is `latent_channels`.
    scaling_factor: a diffusion model works on latents times this number.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    latent_channels: int = 3
    image_channels: int = 3
    num_codes: int = 8192
    code_size: int | None = None
    _: KW_ONLY
    attention_levels: tuple[int, ...] = ()
    middle_attention: bool = True
    num_groups: int = 32
    epsilon: float = 1e-6
    scaling_factor: float = 1.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"

    def setup(self):
        """Make the encoder, the decoder, the codebook and the convolutions around it."""
        sizes = (self.channels, self.multipliers, self.num_res_blocks)
        names = ("attention_levels", "middle_attention", "num_groups", "epsilon", "dropout")
        shared = {name: getattr(self, name) for name in (*names, "dtype", "remat")}
        size = self.code_size or self.latent_channels
        self.encoder = ResidualEncoder(self.latent_channels, *sizes, **shared)
        self.decoder = ResidualDecoder(self.image_channels, *sizes, **shared)
        pointwise = {"kernel_init": fan_in_uniform(), "dtype": self.dtype}
        self.quant_conv = Conv(size, (1, 1), **pointwise)
        self.post_quant_conv = Conv(self.latent_channels, (1, 1), **pointwise)
        self.codebook = self.param("codebook", first_words, (self.num_codes, size))

    def encode(
        self, image: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b H W d"]:
        """Return latents that are not quantised yet, float32.

        image: in [-1, 1].
        """
        return self.quant_conv(self.encoder(image, train)).astype(jnp.float32)

    def quantise(self, latents: Float[Array, "b h w d"]) -> Quantised:
        """Return the nearest word of each latent, the first of equally near ones."""
        indices = nearest_code(latents, self.codebook)
        words = self.words(indices)

        def error(moving: Array, held: Array) -> Array:
            return jnp.square(moving - lax.stop_gradient(held)).mean((1, 2, 3))

        through = latents + lax.stop_gradient(words - latents)
        return Quantised(through, indices, error(words, latents), error(latents, words))

    def words(self, indices: Int[Array, "b h w"]) -> Float[Array, "b h w d"]:
        """Return words by their numbers; NaN for a number without a word."""
        return rows_at(self.codebook, indices)

    def decode(
        self, latents: Float[Array, "b h w d"], train: bool = False, with_features: bool = False
    ) -> Any:
        """Return the images of words, [b, H, W, image_channels].

        with_features: see `ResidualDecoder`.
        """
        return self.decoder(self.post_quant_conv(latents), train, with_features)

    def __call__(
        self, image: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b h w e"], Quantised]:
        """Return the image of the words nearest to an image's latents, and these."""
        found = self.quantise(self.encode(image, train))
        return self.decode(found.latents, train), found
