"""The networks of PacGAN's two tasks of mode coverage, as in the authors' code."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import normal, truncated_normal
from jaxtyping import Array, Float

from genax.nn.convolution import Conv
from genax.nn.convolve import convolve
from genax.nn.norms import BatchNorm

STD = 0.02


class PointGenerator(nn.Module):
    """Generator of points: dense layers with BatchNorm and ReLU, then an affine map.

    hidden: features of the layers.
    """

    hidden: Sequence[int] = (400, 400, 400, 400)
    latent_size: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b z"], train: bool = False) -> Float[Array, "b 2"]:
        """Return points, float32."""
        for number, features in enumerate(self.hidden):
            dense = nn.Dense(features, use_bias=False, kernel_init=normal(STD), dtype=self.dtype)
            z = nn.relu(BatchNorm(name=f"norm_{number}")(dense(z), train))
        points = nn.Dense(2, kernel_init=normal(STD), dtype=self.dtype, name="points")
        return points(z).astype(jnp.float32)


class StackedGenerator(nn.Module):
    """Generator of small images: a dense layer and three transposed 3x3 convolutions.

    Metz et al. 2017 (arXiv:1611.02163), appendix D.

    image_size: height and width, which three halvings bring to the first map.
    """

    image_size: int = 28
    channels: int = 3
    latent_size: int = 256
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b z"], train: bool = False) -> Float[Array, "b h w c"]:
        """Return images in [-1, 1], float32."""
        sizes = [self.image_size]
        while len(sizes) < 4:
            sizes.insert(0, -(-sizes[0] // 2))
        dense = nn.Dense(
            64 * sizes[0] ** 2, kernel_init=normal(STD), dtype=self.dtype, name="project"
        )
        x = dense(z).reshape(len(z), sizes[0], sizes[0], 64)
        for number, (size, features) in enumerate(zip(sizes[1:], (32, 16, 8), strict=True)):
            x = nn.relu(BatchNorm(name=f"norm_{number}")(x, train))
            x = TransposedConv3(size, features, self.dtype, name=f"upsample_{number}")(x)
        x = nn.relu(BatchNorm(name="norm_3")(x, train))
        image = Conv(
            self.channels, kernel_init=truncated_normal(STD), dtype=self.dtype, name="image"
        )
        return jnp.tanh(image(x).astype(jnp.float32))


class TransposedConv3(nn.Module):
    """Transpose of TensorFlow's 3x3 convolution of stride 2, from images of `size` pixels.

    Zeros stand between the pixels, and a 3x3 convolution goes over them, whose gradients are fast
    on a CPU, unlike those that JAX derives of a dilated one.
    """

    size: int
    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b size size features"]:
        """Return the transposed convolution of x, whose height is size / 2, rounded up."""
        b, h, w, c = x.shape
        kernel = self.param("kernel", normal(STD), (3, 3, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        spread = jnp.zeros((b, h, 2, w, 2, c), x.dtype).at[:, :, 0, :, 0].set(x)
        # TensorFlow pads an even size at its end only.
        before = 2 - self.size % 2
        pads = (before, self.size + 2 - before - 2 * h)
        y = convolve(
            spread.reshape(b, 2 * h, 2 * w, c), kernel.astype(x.dtype), padding=(pads, pads)
        )
        return y + bias.astype(x.dtype)


class StackedDiscriminator(nn.Module):
    """Discriminator of small images: three 3x3 convolutions of stride 2, then a weighted sum.

    discriminator_width: channels of the first layer, 2 or 4 in the paper; they double twice.
    normalise: whether each convolution is followed by BatchNorm, as published.
    """

    discriminator_width: int = 2
    normalise: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, " b"]:
        """Return the logits of being real, float32."""
        x = x.astype(self.dtype)
        for number in range(3):
            conv = Conv(
                self.discriminator_width * 2**number,
                strides=(2, 2),
                kernel_init=truncated_normal(STD),
                dtype=self.dtype,
                name=f"downsample_{number}",
            )
            x = conv(x)
            if self.normalise:
                x = BatchNorm(name=f"norm_{number}")(x, train)
            x = nn.leaky_relu(x, 0.3)
        score = nn.Dense(1, kernel_init=normal(STD), dtype=self.dtype, name="score")
        return score(x.reshape(len(x), -1))[:, 0].astype(jnp.float32)
