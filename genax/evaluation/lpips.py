"""The learned perceptual distance of two images, LPIPS (Zhang et al. 2018, arXiv:1801.03924).

Version 0.1 of the authors' package `lpips`: features of a network that was trained on ImageNet, and
a weight for each of their channels that was learned from people's judgments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv

Maps = Float[Array, "b _ _ _"]
Images = Float[Array, "b h w c"]

# Mean and deviation of the images that the features were trained on, of RGB in [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGGFeatures(nn.Module):
    """Layers of 3x3 convolutions in stages that each halve the resolution.

    Simonyan & Zisserman 2015 (arXiv:1409.1556), table 1, column D, without its linear layers.

    stages: channels of each layer of each stage.
    """

    stages: Sequence[Sequence[int]] = VGG16
    dtype: jnp.dtype = jnp.float32

    @property
    def least_side(self) -> int:
        """Pixels of the smallest image that all stages see."""
        return 2 ** (len(self.stages) - 1)

    @nn.compact
    def __call__(self, x: Maps, train: bool = False) -> list[Maps]:
        """Return the last feature maps of each stage."""
        conv = partial(Conv, kernel_init=nn.initializers.he_normal(), dtype=self.dtype)
        found: list[Maps] = []
        number = 0
        for stage, widths in enumerate(self.stages):
            x = nn.max_pool(x, (2, 2), (2, 2)) if stage else x
            for features in widths:
                x = nn.relu(conv(features, name=f"conv_{number}")(x))
                number += 1
            found.append(x)
        return found


class AlexNetFeatures(nn.Module):
    """The five convolutions of AlexNet, in the form of torchvision (Krizhevsky 2014).

    arXiv:1404.5997, one column, without the linear layers.
    """

    dtype: jnp.dtype = jnp.float32

    @property
    def least_side(self) -> int:
        """Pixels of the smallest image that all layers see."""
        return 31

    @nn.compact
    def __call__(self, x: Maps, train: bool = False) -> list[Maps]:
        """Return the feature maps of each convolution."""
        conv = partial(Conv, kernel_init=nn.initializers.he_normal(), dtype=self.dtype)
        first = conv(64, (11, 11), strides=(4, 4), padding=((2, 2), (2, 2)), name="conv_0")
        found = [nn.relu(first(x))]
        pooled = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
        found.append(nn.relu(conv(192, (5, 5), name="conv_1")(pooled(found[-1]))))
        found.append(nn.relu(conv(384, name="conv_2")(pooled(found[-1]))))
        found.append(nn.relu(conv(256, name="conv_3")(found[-1])))
        found.append(nn.relu(conv(256, name="conv_4")(found[-1])))
        return found


class LPIPS(nn.Module):
    """Distance of images by features whose weights are given; untrained, those of a random network.

    With weights of 1 for all channels, which are the initial ones, it is the paper's distance
    without learned weights.

    features: images -> feature maps of several layers.
    """

    features: nn.Module

    @nn.compact
    def __call__(self, x: Images, y: Images, train: bool = False) -> Float[Array, " b"]:
        """Return the distance of each pair, float32: eq. 1.

        Feature maps are made unit vectors at each pixel. Weighted squares of their differences are
        summed over channels, averaged over pixels and summed over layers.

        x, y: in [-1, 1], grey or RGB.
        Raises GenaxError for images that are too small for the features.
        """
        least = self.features.least_side
        if min(x.shape[1:3]) < least:
            raise GenaxError(
                f"images of {x.shape[1]}x{x.shape[2]} are too small for "
                f"{type(self.features).__name__}, which needs sides of at least {least}; resize "
                "them, or choose other features."
            )
        found = [self.features(standardised(images)) for images in (x, y)]
        total = jnp.zeros(len(x))
        for number, (one, other) in enumerate(zip(*found, strict=True)):
            weight = self.param(f"head_{number}", nn.initializers.ones, (one.shape[-1],))
            difference = jnp.square(unit(one) - unit(other)) @ weight
            total += difference.mean((1, 2))
        return total


def standardised(images: Images) -> Maps:
    """Return images as the features were trained to see them; grey is repeated three times."""
    images = jnp.broadcast_to(images, (*images.shape[:3], len(SHIFT)))
    return (images - jnp.array(SHIFT)) / jnp.array(SCALE)


def unit(maps: Maps) -> Maps:
    """Return feature maps whose channels are a unit vector at each pixel, float32.

    Where all channels are 0 they stay so, and have no slope: that of a root is infinite there.
    """
    maps = maps.astype(jnp.float32)
    squares = jnp.square(maps).sum(-1, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return maps / (length + EPSILON)


# By the name that a setting has: the features of 2,470,848 and 14,716,160 parameters, heads
# included, and a small network without weights of anyone's.
FEATURES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "alex": AlexNetFeatures,
        "vgg": VGGFeatures,
        "untrained": partial(VGGFeatures, ((16, 16), (32, 32))),
    }
)
