"""The networks of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), as in StyleGAN2-ADA's code."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from genax.core.errors import GenaxError
from genax.gan.equalised import EqualisedConv, EqualisedDense
from genax.gan.growing import features_at, sizes_to
from genax.gan.mapping import MappingNetwork, leaky, truncated
from genax.gan.minibatch_deviation import minibatch_deviation
from genax.gan.modulated import ModulatedConv
from genax.gan.style_inputs import noise_of
from genax.nn.resample import fir_blur, fir_downsample, fir_upsample

# How layers of different resolution are joined (figure 7 of the paper).
ARCHITECTURES = ("plain", "skip", "residual")
HALF = math.sqrt(0.5)

FULL = {"latent_size": 512, "style_size": 512, "max_width": 512}
# Parameters of generator and discriminator: those of NVlabs/stylegan2-ada-pytorch, without noise
# and filters, which are constants there.
SIZES: dict[str, dict[str, int]] = {
    # Config F of the paper: 30,370,060 and 29,012,513.
    "1024": FULL | {"image_size": 1024, "width": 32_768, "mapping_layers": 8},
    "512": FULL | {"image_size": 512, "width": 32_768, "mapping_layers": 8},
    # Half the width: 24,767,458 and 24,001,089.
    "256": FULL | {"image_size": 256, "width": 16_384, "mapping_layers": 8},
    # StyleGAN2-ADA's configuration for CIFAR-10.
    "cifar10": FULL | {"image_size": 32, "width": 32_768, "mapping_layers": 2},
    # This project's own.
    "cpu": {
        "image_size": 32,
        "width": 1_024,
        "max_width": 64,
        "mapping_layers": 4,
        "latent_size": 64,
        "style_size": 64,
    },
    "digits": {
        "image_size": 8,
        "width": 256,
        "max_width": 64,
        "mapping_layers": 2,
        "latent_size": 32,
        "style_size": 32,
    },
}


def check_architecture(architecture: str) -> None:
    """Raise GenaxError for an unknown way to join layers."""
    if architecture not in ARCHITECTURES:
        raise GenaxError(
            f"StyleGAN2 has no architecture {architecture!r}; choose {', '.join(ARCHITECTURES)}."
        )


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU.

    number: of the layer, which tells its noise from that of others.
    gain: of the result.
    """

    features: int
    number: int
    upsample: bool = False
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        style: Float[Array, "b d"],
        noise: Key[Array, " b"] | None,
    ) -> Float[Array, "b H W f"]:
        """Return the layer's feature maps; without noise if there is no key."""
        conv = ModulatedConv(self.features, upsample=self.upsample, dtype=self.dtype, name="conv")
        x = conv(x, style)
        strength = self.param("noise", nn.initializers.zeros, ())
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if noise is not None:
            drawn = noise_of(noise, self.number, (*x.shape[1:3], 1))
            x = x + (strength * drawn).astype(x.dtype)
        return leaky(x + bias.astype(x.dtype), self.gain)


class ToImage(nn.Module):
    """Modulated 1x1 convolution to the channels of an image, without demodulation."""

    channels: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], style: Float[Array, "b d"]
    ) -> Float[Array, "b h w channels"]:
        """Return a part of the image, float32."""
        conv = ModulatedConv(
            self.channels, kernel_size=1, demodulate=False, dtype=self.dtype, name="conv"
        )
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return conv(x, style).astype(jnp.float32) + bias


class Synthesis(nn.Module):
    """Synthesis network, from one style a layer to an image: see `StyleGAN2Generator`."""

    image_size: int
    channels: int
    width: int
    max_width: int
    architecture: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, styles: Float[Array, "b layers d"], noise: Key[Array, " b"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Return images, float32."""
        features = features_at(4, self.width, self.max_width)
        constant = self.param("constant", nn.initializers.normal(1.0), (4, 4, features))
        x = jnp.broadcast_to(constant.astype(self.dtype), (len(styles), *constant.shape))
        residual = self.architecture == "residual"
        image: Array | None = None
        number = 0
        for size in sizes_to(self.image_size):
            features = features_at(size, self.width, self.max_width)
            shortcut: Array | None = None
            if size > 4:
                if residual:
                    narrow = EqualisedConv(
                        features, (1, 1), use_bias=False, dtype=self.dtype, name=f"shortcut_{size}"
                    )
                    shortcut = fir_upsample(narrow(x)) * HALF
                up = SynthesisLayer(
                    features, number, upsample=True, dtype=self.dtype, name=f"upsample_{size}"
                )
                x = up(x, styles[:, number], noise)
                number += 1
            gain = 1.0 if shortcut is None else HALF
            layer = SynthesisLayer(
                features, number, gain=gain, dtype=self.dtype, name=f"layer_{size}"
            )
            x = layer(x, styles[:, number], noise)
            number += 1
            if shortcut is not None:
                x = x + shortcut
            if self.architecture == "skip" or size == self.image_size:
                to_image = ToImage(self.channels, self.dtype, name=f"image_{size}")
                part = to_image(x, styles[:, number])
                image = part if image is None else fir_upsample(image) + part
        assert image is not None  # the last size always has a part
        return image


class StyleGAN2Generator(nn.Module):
    """Generator of images from latents: a mapping network, then synthesis from one style a layer.

    The collection "mean_style" has the running mean of styles, for truncation. It moves in
    training by the styles of each batch.

    image_size: height (and width) of the images, a power of two.
    channels: channels of the images.
    latent_size: size of a latent.
    style_size: size of a style.
    mapping_layers: layers of the mapping network.
    width: channels of a layer times its resolution.
    max_width: bound of the channels of a layer.
    num_classes: labels; None is none.
    architecture: how layers of different resolution are joined, see `ARCHITECTURES`.
    style_decay: decay of the mean style in a step.
    """

    image_size: int
    channels: int = 3
    latent_size: int = 512
    style_size: int = 512
    mapping_layers: int = 8
    width: int = 32_768
    max_width: int = 512
    num_classes: int | None = None
    architecture: str = "skip"
    style_decay: float = 0.995
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check_architecture(self.architecture)
        sizes_to(self.image_size)
        super().__post_init__()

    def setup(self):
        """Make both networks and the running mean."""
        self.mapping = MappingNetwork(self.style_size, self.mapping_layers, self.num_classes)
        self.synthesis = Synthesis(
            self.image_size,
            self.channels,
            self.width,
            self.max_width,
            self.architecture,
            self.dtype,
        )
        self.mean = self.variable("mean_style", "mean", jnp.zeros, (self.style_size,), jnp.float32)

    def mean_style(self) -> Float[Array, " d"]:
        """Return the running mean of styles."""
        return self.mean.value

    @property
    def num_styles(self) -> int:
        """Number of the styles of an image: two a resolution, and one for the last image."""
        return 2 * len(sizes_to(self.image_size))

    def __call__(
        self,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        noise: Key[Array, " b"] | None = None,
        second: Float[Array, "b z"] | None = None,
        crossover: Int[Array, " b"] | None = None,
        truncation: float | Float[Array, "..."] = 1.0,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images, float32, about in [-1, 1].

        noise: a key for each image; None is no noise.
        second, crossover: latents whose styles replace those of `z` from layer `crossover` on
          (style mixing).
        truncation: see `truncated`.
        """
        styles = self.styles(z, label, second, crossover, train)
        return self.synthesise(truncated(styles, self.mean_style(), truncation), noise)

    def styles(
        self,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        second: Float[Array, "b z"] | None = None,
        crossover: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b layers d"]:
        """Return one style for each layer; in training the mean style moves by those of `z`."""
        style = self.mapping(z, label)
        if train and self.is_mutable_collection("mean_style") and not self.is_initializing():
            found = jax.lax.stop_gradient(style).mean(0)
            self.mean.value = found + self.style_decay * (self.mean.value - found)
        styles = jnp.broadcast_to(style[:, None], (len(z), self.num_styles, self.style_size))
        if second is None or crossover is None:
            return styles
        first = jnp.arange(self.num_styles) < crossover[:, None]
        return jnp.where(first[..., None], styles, self.mapping(second, label)[:, None])

    def synthesise(
        self, styles: Float[Array, "b layers d"], noise: Key[Array, " b"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Return images of one style a layer."""
        return self.synthesis(styles, noise)


class DownLayer(nn.Module):
    """Blur, strided 3x3 convolution, bias and leaky ReLU."""

    features: int
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W f"]:
        """Halve the resolution."""
        conv = EqualisedConv(
            self.features, strides=(2, 2), padding="VALID", dtype=self.dtype, name="conv"
        )
        return leaky(conv(fir_blur(x, 2)), self.gain)


class StyleGAN2Discriminator(nn.Module):
    """Discriminator that scores images.

    width, max_width: see `StyleGAN2Generator`.
    num_classes: labels; None is none. With labels a score is the product of features with the
      mapped label.
    architecture: how layers of different resolution are joined, see `ARCHITECTURES`.
    group_size: images in a group of the minibatch deviation.
    label_layers: layers of the mapping network of labels.
    """

    width: int = 32_768
    max_width: int = 512
    num_classes: int | None = None
    architecture: str = "residual"
    group_size: int = 4
    label_layers: int = 8
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        check_architecture(self.architecture)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, " b"]:
        """Return the logits of being real, float32."""
        sizes = sizes_to(image.shape[1])
        residual, skip = self.architecture == "residual", self.architecture == "skip"
        image, x = image.astype(self.dtype), None

        def conv(features, name, size=3, **fields):
            return EqualisedConv(features, (size, size), dtype=self.dtype, name=name, **fields)

        def widened(size):
            """Return the image as features, added to those of the layers before."""
            features = features_at(size, self.width, self.max_width)
            y = leaky(conv(features, f"image_{size}", 1)(image))
            return y if x is None else x + y

        for size in reversed(sizes[1:]):
            features = features_at(size, self.width, self.max_width)
            narrower = features_at(size // 2, self.width, self.max_width)
            if x is None or skip:
                x = widened(size)
            if skip:
                image = fir_downsample(image)
            y = leaky(conv(features, f"layer_{size}")(x))
            gain = HALF if residual else 1.0
            y = DownLayer(narrower, gain, self.dtype, name=f"downsample_{size}")(y)
            if residual:
                shortcut = conv(narrower, f"shortcut_{size}", 1, use_bias=False)
                y = y + shortcut(fir_downsample(x)) * HALF
            x = y
        if x is None or skip:
            x = widened(4)
        features = features_at(4, self.width, self.max_width)
        x = minibatch_deviation(x, self.group_size)
        x = leaky(conv(features, "layer_4")(x)).astype(jnp.float32)
        x = leaky(EqualisedDense(features, name="features")(x.reshape(len(x), -1)))
        if not self.num_classes:
            return EqualisedDense(1, name="score")(x)[:, 0]
        mapped = MappingNetwork(features, self.label_layers, self.num_classes, name="mapping")(
            None, label
        )
        return (EqualisedDense(features, name="score")(x) * mapped).sum(-1) / math.sqrt(features)
