"""Inception-v3 of the FID (Szegedy et al. 2016, arXiv:1512.00567): 2048 pooled features."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Maps = Float[Array, "b _ _ _"]
Layers = tuple[tuple[int, tuple[int, int]], ...]
EPSILON = 1e-3

ONE, THREE, FIVE, TALL, WIDE = (1, 1), (3, 3), (5, 5), (7, 1), (1, 7)
TRIPLE = ((64, ONE), (96, THREE), (96, THREE))
# Settings of the first nine blocks.
BLOCKS: list[dict[str, Any]] = [
    *(
        {"single": ((64, ONE),), "towers": (((48, ONE), (64, FIVE)), TRIPLE), "pool": features}
        for features in (32, 64, 64)
    ),
    {"single": ((384, THREE),), "towers": (TRIPLE,), "stride": 2},
    *(
        {
            "single": ((192, ONE),),
            "towers": (
                ((c, ONE), (c, WIDE), (192, TALL)),
                ((c, ONE), (c, TALL), (c, WIDE), (c, TALL), (192, WIDE)),
            ),
            "pool": 192,
        }
        for c in (128, 160, 160, 192)
    ),
    {
        "towers": (
            ((192, ONE), (320, THREE)),
            ((192, ONE), (192, WIDE), (192, TALL), (192, THREE)),
        ),
        "stride": 2,
    },
]


class Layer(nn.Module):
    """Convolution without a bias, normalisation by stored statistics, ReLU.

    padding: "SAME" or "VALID".
    """

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return the layer's activations."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        beta = self.param("beta", nn.initializers.zeros, (self.features,))
        mean = self.param("mean", nn.initializers.zeros, (self.features,))
        variance = self.param("var", nn.initializers.ones, (self.features,))
        y = lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        return nn.relu((y - mean) * lax.rsqrt(variance + EPSILON) + beta)


class Tower(nn.Module):
    """Layers one after another, the last with a stride.

    layers: features and kernel of each.
    pool: whether the mean of 3 x 3 pixels comes before them.
    """

    layers: Layers
    stride: int = 1
    pool: bool = False

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return the last layer's activations."""
        x = pooled(x, "average") if self.pool else x
        for number, (features, kernel) in enumerate(self.layers):
            stride = self.stride if number == len(self.layers) - 1 else 1
            padding = "SAME" if stride == 1 else "VALID"
            x = Layer(features, kernel, stride, padding, name=numbered("conv", number))(x)
        return x


class Mixed(nn.Module):
    """Towers side by side, whose activations are joined.

    single: features and kernel of a layer of its own before them.
    towers: the layers of each.
    pool: features of a last tower, whose input is pooled; 0 is none. A block with a stride ends in
      the maximum of its input instead.
    """

    towers: tuple[Layers, ...]
    single: Layers = ()
    pool: int = 0
    stride: int = 1

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return what the towers return, along the channels."""
        padding = "SAME" if self.stride == 1 else "VALID"
        found = [
            Layer(features, kernel, self.stride, padding, name="conv")(x)
            for features, kernel in self.single
        ]
        for number, layers in enumerate(self.towers):
            found.append(Tower(layers, self.stride, name=numbered("tower", number))(x))
        if self.pool:
            name = numbered("tower", len(self.towers))
            found.append(Tower(((self.pool, (1, 1)),), pool=True, name=name)(x))
        if self.stride > 1:
            found.append(nn.max_pool(x, (3, 3), (2, 2)))
        return jnp.concatenate(found, axis=-1)


class Split(nn.Module):
    """The last blocks, in which two towers end in a pair of layers side by side.

    pool: "average" or "max". The network that the FID was defined by has a maximum in its last
    block.
    """

    pool: str

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        """Return what all towers return, along the channels."""
        one = Layer(384, name="tower_conv")(x)
        other = Layer(448, name="tower_1_conv")(x)
        other = Layer(384, (3, 3), name="tower_1_conv_1")(other)
        found = [Layer(320, name="conv")(x)]
        for name, y in (("tower", one), ("tower_1", other)):
            found.append(Layer(384, (1, 3), name=f"{name}_mixed_conv")(y))
            found.append(Layer(384, (3, 1), name=f"{name}_mixed_conv_1")(y))
        found.append(Layer(192, name="tower_2_conv")(pooled(x, self.pool)))
        return jnp.concatenate(found, axis=-1)


class InceptionV3(nn.Module):
    """The network up to its last pooling.

    Modules are named as in the file of its weights. 299 x 299 pixels are the size it was trained
    on; it takes any from 75 x 75.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        """Return the features of images in [-1, 1]."""
        x = Layer(32, (3, 3), 2, "VALID", name="conv")(x)
        x = Layer(32, (3, 3), padding="VALID", name="conv_1")(x)
        x = Layer(64, (3, 3), name="conv_2")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        x = Layer(80, name="conv_3")(x)
        x = Layer(192, (3, 3), padding="VALID", name="conv_4")(x)
        x = nn.max_pool(x, (3, 3), (2, 2))
        for number, block in enumerate(BLOCKS):
            x = Mixed(**block, name=numbered("mixed", number))(x)
        x = Split("average", name="mixed_9")(x)
        return Split("max", name="mixed_10")(x).mean((1, 2))


def pooled(x: Maps, kind: str) -> Maps:
    """Return the mean or the maximum over 3 x 3 pixels, of those that are in the image."""
    if kind == "max":
        return nn.max_pool(x, (3, 3), padding="SAME")
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def numbered(name: str, number: int) -> str:
    """Return the name of a module: "mixed", "mixed_1", ..."""
    return f"{name}_{number}" if number else name
