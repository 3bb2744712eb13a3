"""The generator of StyleGAN (Karras et al. 2019, arXiv:1812.04948), which grows while it trains.

It is that of the official TensorFlow code. Its discriminator is `ProGANDiscriminator` with blur.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from genax.gan.equalised import (
    HE,
    EqualisedConv,
    EqualisedDense,
    EqualisedUpsample,
)
from genax.gan.growing import SMALLEST, Share, blended, features_at, sizes_to
from genax.gan.mapping import truncated
from genax.gan.pixel_norm import pixel_norm
from genax.gan.style_inputs import noise_of
from genax.nn.convolution import nearest_upsample
from genax.nn.resample import binomial_blur

SLOPE = 0.2
EPSILON = 1e-8

# Of networks for any size of images.
SIZES: dict[str, dict[str, int]] = {
    # The official networks. At 1024x1024: 26,219,627 and 23,087,249 parameters.
    "paper": {
        "width": 16384,
        "max_width": 512,
        "latent_size": 512,
        "style_size": 512,
        "mapping_layers": 8,
    },
    # This project's own.
    "cpu": {
        "width": 1024,
        "max_width": 64,
        "latent_size": 64,
        "style_size": 64,
        "mapping_layers": 4,
    },
    "digits": {
        "width": 256,
        "max_width": 32,
        "latent_size": 16,
        "style_size": 16,
        "mapping_layers": 2,
    },
}


class StyleGANGenerator(nn.Module):
    """Generator whose latents become styles, which modulate each layer of a growing network.

    The collection "mean_style" has the running mean of styles, for truncation. It moves in
    training by the styles of each batch.

    image_size, channels, latent_size, width, max_width: see `ProGANGenerator`.
    style_size: size of a style.
    mapping_layers: dense layers from a latent to its style.
    style_decay: decay of the mean style in a step.
    """

    image_size: int = 1024
    channels: int = 3
    latent_size: int = 512
    style_size: int = 512
    mapping_layers: int = 8
    width: int = 16384
    max_width: int = 512
    style_decay: float = 0.995
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Make both networks and the mean style."""
        self.mapping = Mapping(self.style_size, self.mapping_layers, self.dtype)
        self.synthesis = Synthesis(self.channels, self.width, self.max_width, self.dtype)
        self.mean = self.variable("mean_style", "mean", jnp.zeros, (self.style_size,))

    @property
    def num_styles(self) -> int:
        """Number of the styles of an image of all blocks: two a resolution."""
        return 2 * len(sizes_to(self.image_size))

    def __call__(
        self,
        z: Float[Array, "b z"],
        size: int | None = None,
        share: Share = None,
        noise: Key[Array, " b"] | None = None,
        second: Float[Array, "b z"] | None = None,
        crossover: Int[Array, " b"] | None = None,
        truncation: float | Float[Array, " b"] = 1.0,
        truncated_layers: int | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images of `size` pixels, float32, which no function bounds.

        size, share: see `ProGANGenerator`.
        noise: a key for each image; None is no noise.
        second, crossover: latents whose styles replace those of `z` from layer `crossover` on
          (style mixing, section 3.1).
        truncation: see `truncated`.
        truncated_layers: how many layers it is for, from the smallest resolution on; None is all.
        """
        styles = self.styles(z, second, crossover, train)
        styles = truncated(styles, self.mean.value, truncation, truncated_layers)
        return self.synthesise(styles, noise, size, share)

    def mean_style(self) -> Float[Array, " d"]:
        """Return the running mean of styles."""
        return self.mean.value

    def styles(
        self,
        z: Float[Array, "b z"],
        second: Float[Array, "b z"] | None = None,
        crossover: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b layers d"]:
        """Return one style for each layer; in training the mean style moves by those of `z`."""
        style = self.mapping(z)
        if train and self.is_mutable_collection("mean_style") and not self.is_initializing():
            found = lax.stop_gradient(style).mean(0)
            self.mean.value = found + self.style_decay * (self.mean.value - found)
        styles = jnp.broadcast_to(style[:, None], (len(z), self.num_styles, self.style_size))
        if second is None or crossover is None:
            return styles
        first = jnp.arange(self.num_styles) < crossover[:, None]
        return jnp.where(first[..., None], styles, self.mapping(second)[:, None])

    def synthesise(
        self,
        styles: Float[Array, "b layers d"],
        noise: Key[Array, " b"] | None = None,
        size: int | None = None,
        share: Share = None,
    ) -> Float[Array, "b h w c"]:
        """Return images of one style a layer; styles beyond the layers in play are not used."""
        return self.synthesis(styles, noise, size or self.image_size, share)


class Mapping(nn.Module):
    """Dense layers that turn a latent into a style, at a hundredth of the learning rate.

    Biases are added to what has He's gain already; in StyleGAN2 they are multiplied by it too.
    """

    features: int
    layers: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z: Float[Array, "b z"]) -> Float[Array, "b d"]:
        """Return styles, float32."""
        x = pixel_norm(z.astype(self.dtype))
        for number in range(self.layers):
            dense = EqualisedDense(
                self.features, gain=HE, rate=0.01, dtype=self.dtype, name=f"dense_{number}"
            )
            x = nn.leaky_relu(dense(x), SLOPE)
        return x.astype(jnp.float32)


class Synthesis(nn.Module):
    """Blocks of two layers, each of which doubles the resolution, from a learned constant."""

    channels: int
    width: int
    max_width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        styles: Float[Array, "b layers d"],
        noise: Key[Array, " b"] | None,
        size: int,
        share: Share,
    ) -> Float[Array, "b h w c"]:
        """Return images, float32."""
        sizes = sizes_to(size)
        to_image = {
            here: EqualisedConv(self.channels, (1, 1), dtype=self.dtype, name=f"to_image_{here}")
            for here in sizes
        }
        x = before = jnp.zeros((len(styles), 0, 0, 0))
        for number, here in enumerate(sizes):
            before, features = x, features_at(here, self.width, self.max_width)
            block = Block(here, features, 2 * number, self.dtype, name=f"block_{here}")
            x = block(x, styles, noise)
            if self.is_initializing():
                to_image[here](x)  # has parameters, though it may never come in
        image = to_image[sizes[-1]](x)
        if share is not None:
            image = blended(image, nearest_upsample(to_image[sizes[-2]](before)), share)
        return image.astype(jnp.float32)


class Block(nn.Module):
    """The layers of one resolution; the smallest begins with the constant in place of its input.

    number: of its first layer.
    """

    size: int
    features: int
    number: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        styles: Float[Array, "b layers d"],
        noise: Key[Array, " b"] | None,
    ) -> Float[Array, "b H W f"]:
        """Return features."""
        if self.size == SMALLEST:
            shape = (SMALLEST, SMALLEST, self.features)
            constant = self.param("constant", nn.initializers.ones, shape)
            x = jnp.broadcast_to(constant.astype(self.dtype), (len(styles), *shape))
        else:
            up = EqualisedUpsample(
                self.features, gain=HE, use_bias=False, dtype=self.dtype, name="upsample"
            )
            x = binomial_blur(up(x))
        first, second = (
            Modulation(self.number + layer, self.dtype, name=f"modulation_{layer}")
            for layer in (0, 1)
        )
        conv = EqualisedConv(self.features, gain=HE, use_bias=False, dtype=self.dtype, name="conv")
        return second(conv(first(x, styles, noise)), styles, noise)


class Modulation(nn.Module):
    """Noise, bias and rectifier; then adaptive instance normalisation (section 2, eq. 1).

    number: of the layer, whose style it has, and which tells its noise from that of others.
    """

    number: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        styles: Float[Array, "b layers d"],
        noise: Key[Array, " b"] | None,
    ) -> Float[Array, "b h w c"]:
        """Return x with the statistics of its style."""
        features = x.shape[-1]
        strength = self.param("noise", nn.initializers.zeros, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        if noise is not None:
            shape = (*x.shape[1:3], 1)
            x = x + (strength * noise_of(noise, self.number, shape)).astype(self.dtype)
        x = nn.leaky_relu(x + bias.astype(self.dtype), SLOPE).astype(jnp.float32)
        centred = x - x.mean((1, 2), keepdims=True)
        variance = jnp.square(centred).mean((1, 2), keepdims=True)
        x = (centred * lax.rsqrt(variance + EPSILON)).astype(self.dtype)
        style = EqualisedDense(2 * features, dtype=self.dtype, name="style")
        scale, shift = jnp.split(style(styles[:, self.number])[:, None, None], 2, axis=-1)
        return x * (scale + 1) + shift
