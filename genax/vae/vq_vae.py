"""The autoencoder with a codebook (VQ-VAE) of van den Oord et al. 2017 (arXiv:1711.00937).

Encoder and decoder are those of section 4.1: two convolutions of stride 2, residual blocks of a 3x3
and a 1x1 convolution, and the way back. What the paper leaves open follows its authors' example in
Sonnet: a ReLU behind each strided convolution and behind the blocks, a 1x1 convolution from the
encoder to the codes and a 3x3 one from the codes to the decoder.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.transposed_convolution import TransposedConv
from genax.vae.codebook import Codebook
from genax.vae.likelihoods import likelihood_of

INIT = nn.initializers.lecun_normal()
# Height and width of the pixels that one code stands for.
STRIDE = 4


class Residual(nn.Module):
    """ReLU, 3x3 convolution, ReLU, 1x1 convolution; added to the input. The last has a ReLU."""

    features: int
    blocks: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Return the output of all blocks."""
        for block in range(self.blocks):
            y = x
            for size, features in ((3, self.features), (1, x.shape[-1])):
                name = f"block_{block}_{size}x{size}"
                conv = Conv(features, (size, size), kernel_init=INIT, dtype=self.dtype, name=name)
                y = conv(nn.relu(y))
            x = x + y
        return nn.relu(x)


class VQEncoder(nn.Module):
    """Vectors of an image, one for each 4x4 pixels."""

    code_size: int
    width: int = 256
    blocks: int = 2
    block_width: int = 256
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b H W d"]:
        """Return the vectors, before they are quantised."""
        for level in range(2):
            conv = Conv(
                self.width,
                (4, 4),
                (2, 2),
                ((1, 1), (1, 1)),
                kernel_init=INIT,
                dtype=self.dtype,
                name=f"down_{level}",
            )
            x = nn.relu(conv(x))
        x = Residual(self.block_width, self.blocks, self.dtype, name="residual")(x)
        return Conv(self.code_size, (1, 1), kernel_init=INIT, dtype=self.dtype, name="to_codes")(x)


class VQDecoder(nn.Module):
    """One array of an image's size of its codes."""

    channels: int
    width: int = 256
    blocks: int = 2
    block_width: int = 256
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b h w d"], train: bool = False) -> Float[Array, "b H W c"]:
        """Return the array, float32."""
        x = Conv(self.width, kernel_init=INIT, dtype=self.dtype, name="from_codes")(z)
        x = Residual(self.block_width, self.blocks, self.dtype, name="residual")(x)
        for level, features in enumerate((self.width, self.channels)):
            x = x if level == 0 else nn.relu(x)
            x = TransposedConv(features, INIT, self.dtype, use_bias=True, name=f"up_{level}")(x)
        return x.astype(jnp.float32)


class VQVAE(nn.Module):
    """Encoder, codebook and decoder of images in [0, 1].

    channels: of the images.
    width: channels of the feature maps.
    blocks, block_width: number of residual blocks on either side, and channels within them.
    num_codes, code_size, averages, decay, dead_below, cosine: see `Codebook`.
    likelihood, deviation, levels: of p(x|z), see `genax.vae.likelihoods.likelihood_of`.
    """

    channels: int = 3
    width: int = 256
    blocks: int = 2
    block_width: int = 256
    num_codes: int = 512
    code_size: int = 64
    averages: bool = True
    decay: float = 0.99
    dead_below: float = 0.1
    cosine: bool = False
    likelihood: str = "gaussian"
    deviation: float = 0.15
    levels: int = 256
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Make the three parts."""
        layers = (self.width, self.blocks, self.block_width, self.dtype)
        self.encoder = VQEncoder(self.code_size, *layers)
        self.codebook = Codebook(
            self.num_codes,
            self.code_size,
            self.averages,
            self.decay,
            dead_below=self.dead_below,
            cosine=self.cosine,
        )
        self.meaning = likelihood_of(self.likelihood, deviation=self.deviation, levels=self.levels)
        self.decoder = VQDecoder(self.channels * len(self.meaning.heads), *layers)

    def likelihood_at(self, codes: Float[Array, "b h w d"], train: bool = False) -> Any:
        """Return p(x|z), the distribution of the image of these codes."""
        outputs = jnp.split(self.decoder(codes, train), len(self.meaning.heads), axis=-1)
        return self.meaning.distribution(*outputs)

    def vectors(self, image: Float[Array, "b H W c"], train: bool = False) -> Array:
        """Return the encoder's vectors. Raises GenaxError for a size that 4 does not divide."""
        check_size(image.shape[1], image.shape[2])
        return self.encoder(image, train)

    def encode(self, image: Float[Array, "b H W c"], train: bool = False) -> Int[Array, "b h w"]:
        """Return the numbers of an image's codes."""
        return self.codebook(self.vectors(image, train), train).index

    def decode(self, index: Int[Array, "b h w"], train: bool = False) -> Any:
        """Return p(x|z) of codes by their numbers. A number without a code gives NaN."""
        return self.likelihood_at(self.codebook.look_up(index), train)

    def __call__(self, image: Float[Array, "b H W c"], train: bool = False) -> Any:
        """Return p(x|z) at the image's own codes."""
        return self.likelihood_at(self.codebook(self.vectors(image, train), train).straight, train)


class Networks(nn.Module):
    """Networks of an autoencoder with a codebook: a `VQVAE`."""

    autoencoder: nn.Module


def check_size(*sides: int) -> None:
    """Raise GenaxError for images of which no whole number of codes is made."""
    if any(side % STRIDE for side in sides):
        raise GenaxError(
            f"images of {'x'.join(map(str, sides))} have no whole number of {STRIDE}x{STRIDE} "
            "pixels, each of which is one code; choose another config.size."
        )
