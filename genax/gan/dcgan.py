"""The networks of DCGAN (Radford et al. 2015), in the form of PyTorch's examples.

They have transposed and strided 4x4 convolutions without bias, BatchNorm everywhere but at the
image, ReLU in the generator and leaky ReLU in the discriminator. The paper's figure 1 draws the
same layers. Its original code uses 5x5 kernels.

With classes both networks get a label, as in Mirza & Osindero 2014 (arXiv:1411.1784): the generator
beside the latent, the discriminator as one more channel for each class.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.labels import check_label, one_hot
from genax.nn.norms import BatchNorm
from genax.nn.transposed_convolution import TransposedConv

WEIGHT_STD = 0.02  # section 4: all weights from a normal distribution of this deviation

# The width is that of the layers next to the image; it doubles with every halving of it.
SIZES: dict[str, dict[str, int]] = {
    # pytorch/examples, dcgan: 3,576,704 parameters of a generator of RGB, 2,765,568 of its
    # discriminator.
    "pytorch": {"image_size": 64, "width": 64, "latent_size": 100},
    # arXiv:1511.06434, figure 1 (1024-512-256-128): 12,658,432 and 11,036,160 parameters.
    "paper": {"image_size": 64, "width": 128, "latent_size": 100},
    # This project's own.
    "mnist": {"image_size": 28, "width": 32, "latent_size": 64},
    "digits": {"image_size": 8, "width": 16, "latent_size": 16},
}


def scaled_normal(mean: float) -> Initializer:
    """Normal distribution around `mean` with the standard deviation of all DCGAN's weights."""
    noise = nn.initializers.normal(WEIGHT_STD)

    def initial(key, shape, dtype=None, out_sharding=None):
        return mean + noise(key, shape, dtype or jnp.float32, out_sharding)

    return initial


def resolutions(image_size: int) -> list[int]:
    """Return the doubling sizes from the smallest feature map to the image.

    For example, 64 gives [4, 8, 16, 32, 64] and 28 gives [7, 14, 28].

    image_size: height (and width) of the image, in pixels.
    Raises GenaxError for a size that no doubling of 4 to 7 reaches.
    """
    sizes = [image_size]
    while sizes[0] > 7 and sizes[0] % 2 == 0:
        sizes.insert(0, sizes[0] // 2)
    if not 4 <= sizes[0] <= 7 or len(sizes) < 2:
        raise GenaxError(
            f"images of {image_size}x{image_size} cannot be made by doubling: choose an even size "
            "that is 4, 5, 6 or 7 times a power of two, such as 28, 32 or 64."
        )
    return sizes


class DCGANGenerator(nn.Module):
    """Generator of images from latents: a projection, then layers that each double the resolution.

    image_size: height (and width) of the images, in pixels.
    channels: channels of the images.
    width: channels of the layer before the image. They double at each halving of the resolution.
    latent_size: size of a latent.
    num_classes: classes of the labels; None means no labels.
    """

    image_size: int = 64
    channels: int = 3
    width: int = 64
    latent_size: int = 100
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images in [-1, 1], float32."""
        check_label(self, label)
        if label is not None:
            z = jnp.concatenate([z, one_hot(self, label)], axis=-1)
        sizes = resolutions(self.image_size)
        widths = [self.width * 2**level for level in reversed(range(len(sizes) - 1))]
        normalise = partial(BatchNorm, scale_init=scaled_normal(1.0))

        # A transposed convolution over a single pixel is a matrix product.
        shape = (sizes[0], sizes[0], z.shape[-1], widths[0])
        kernel = self.param("project", scaled_normal(0.0), shape)
        x = jnp.einsum("bz,hwzc->bhwc", z.astype(self.dtype), kernel.astype(self.dtype))
        for level, features in enumerate((*widths[1:], self.channels)):
            x = nn.relu(normalise(name=f"norm_{level}")(x, train))
            upsample = TransposedConv(
                features, scaled_normal(0.0), self.dtype, name=f"upsample_{level}"
            )
            x = upsample(x, train)
        return jnp.tanh(x.astype(jnp.float32))


class DCGANDiscriminator(nn.Module):
    """Discriminator that scores images: layers that each halve the resolution, then a weighted sum.

    width: channels of the first layer. They double at each halving of the resolution.
    num_classes: classes of the labels; None means no labels.
    """

    width: int = 64
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
        features: bool = False,
    ) -> Array:
        """Return the logits of being real, float32 [b]. The loss applies the sigmoid.

        features: return the last feature maps in their place.
        """
        sizes = resolutions(x.shape[1])
        check_label(self, label)
        x = x.astype(self.dtype)
        if label is not None:
            planes = one_hot(self, label)[:, None, None, :]
            planes = jnp.broadcast_to(planes, (*x.shape[:3], planes.shape[-1]))
            x = jnp.concatenate([x, planes], axis=-1)
        for level in range(len(sizes) - 1):
            downsample = Conv(
                self.width * 2**level,
                (4, 4),
                strides=(2, 2),
                padding=((1, 1), (1, 1)),
                use_bias=False,
                kernel_init=scaled_normal(0.0),
                dtype=self.dtype,
                name=f"downsample_{level}",
            )
            x = downsample(x)
            if level:
                norm = BatchNorm(scale_init=scaled_normal(1.0), name=f"norm_{level}")
                x = norm(x, train)
            x = nn.leaky_relu(x, 0.2)

        if features:
            return x.astype(jnp.float32)
        kernel = self.param("score", scaled_normal(0.0), (*x.shape[1:], 1))
        return jnp.einsum("bhwc,hwcf->b", x, kernel.astype(self.dtype)).astype(jnp.float32)
