"""The networks of BigGAN and BigGAN-deep (Brock et al. 2019, arXiv:1809.11096).

They are those of ajbrock's BigGAN-PyTorch, whose authors' own code is not published. All kernels
have spectral norm and begin orthogonal, biases at 0. The generator's norms get the class through
one table of embeddings, which has no spectral norm, and a part of the latent: one for each block,
or in BigGAN-deep all of it for all blocks. The discriminator's score is projected onto an embedding
of the class (Miyato & Koyama 2018, arXiv:1802.05637).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn.initializers import orthogonal
from jaxtyping import Array, Float, Int

from genax.core.errors import GenaxError
from genax.gan.big_gan_layers import (
    DeepDiscriminatorBlock,
    DeepGeneratorBlock,
    DiscriminatorBlock,
    GeneratorBlock,
    SelfAttention,
)
from genax.gan.dcgan import resolutions
from genax.nn.labels import check_label, embed_labels
from genax.nn.norms import BatchNorm
from genax.nn.spectral_norm import SpectralConv, SpectralDense, SpectralEmbed

# Blocks of BigGAN-deep for each resolution.
DEPTH = 2
_PUBLISHED: dict[str, Any] = {"width": 96, "label_size": 128, "attention_at": 64, "deep": False}
_DEEP = _PUBLISHED | {"width": 128, "latent_size": 128, "deep": True}
_MULTIPLIERS = {
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
# `multipliers` are channels by `width` at each resolution, the smallest first.
SIZES: dict[str, dict[str, Any]] = {
    # Parameters with 1,000 classes: 70,433,988 of the generator, 87,982,370 of the discriminator.
    "128": _PUBLISHED | {"image_size": 128, "latent_size": 120, "multipliers": _MULTIPLIERS[128]},
    # 82,235,844 and 99,225,890.
    "256": _PUBLISHED | {"image_size": 256, "latent_size": 140, "multipliers": _MULTIPLIERS[256]},
    "512": _PUBLISHED | {"image_size": 512, "latent_size": 160, "multipliers": _MULTIPLIERS[512]},
    # 50,244,484 and 34,590,210. With the spare channels of the authors' weights the generator has
    # 50,388,609.
    "deep128": _DEEP | {"image_size": 128, "multipliers": _MULTIPLIERS[128]},
    # 55,736,708 (55,880,833) and 38,247,426.
    "deep256": _DEEP | {"image_size": 256, "multipliers": _MULTIPLIERS[256]},
    # With spare channels 56,163,905.
    "deep512": _DEEP | {"image_size": 512, "multipliers": _MULTIPLIERS[512]},
    # This project's own.
    "small": {
        "image_size": 28,
        "width": 24,
        "latent_size": 60,
        "label_size": 32,
        "multipliers": (4, 2, 1),
        "attention_at": 14,
        "deep": False,
    },
    "digits": {
        "image_size": 8,
        "width": 24,
        "latent_size": 16,
        "label_size": 16,
        "multipliers": (2, 1),
        "attention_at": 0,
        "deep": False,
    },
}


def levels(image_size: int, multipliers: tuple[int, ...], attention_at: int) -> list[int]:
    """Return the resolutions of a network, the smallest first.

    Raises GenaxError if multipliers are not one for each, if they rise, or if no resolution is
    `attention_at`.
    """
    sizes = resolutions(image_size)
    if len(sizes) != len(multipliers):
        raise GenaxError(
            f"BigGAN of {image_size}x{image_size} has the resolutions {sizes}, but "
            f"{len(multipliers)} multipliers {tuple(multipliers)}; give one for each."
        )
    if sorted(multipliers, reverse=True) != list(multipliers):
        raise GenaxError(
            f"multipliers={tuple(multipliers)} rise with the resolution; BigGAN's blocks keep or "
            "lower the number of channels."
        )
    if attention_at and attention_at not in sizes[1:]:
        raise GenaxError(
            f"BigGAN has no blocks at attention_at={attention_at}; choose one of {sizes[1:]}, or 0 "
            "for no attention."
        )
    return sizes


class BigGANGenerator(nn.Module):
    """Generator: a dense layer, then blocks that each double the resolution.

    width: channels of the layer before the image.
    latent_size: size of a latent. Without `deep` the resolutions divide it into parts.
    label_size: size of the embedding of a class.
    multipliers: channels by `width` at each resolution, the smallest first.
    attention_at: the resolution with self-attention; 0 means none.
    deep: whether blocks are those of BigGAN-deep.
    spare_channels: whether the last convolution has `width` channels, of which the first are the
      image, as in the authors' weights.
    num_classes: classes of the labels; None means no labels.
    """

    image_size: int = 128
    channels: int = 3
    width: int = 96
    latent_size: int = 120
    label_size: int = 128
    multipliers: tuple[int, ...] = _MULTIPLIERS[128]
    attention_at: int = 64
    deep: bool = False
    spare_channels: bool = False
    epsilon: float = 1e-5
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "b z"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        """Return images in [-1, 1], float32.

        Raises GenaxError for sizes that do not fit, and for a latent that does not divide.
        """
        check_label(self, label)
        sizes = levels(self.image_size, self.multipliers, self.attention_at)
        first, conditions = self._conditions(z.astype(self.dtype), label, sizes)
        shared: dict[str, Any] = {"dtype": self.dtype}
        widths = [self.width * multiplier for multiplier in self.multipliers]
        project = SpectralDense(
            sizes[0] ** 2 * widths[0], epsilon=self.spectral_epsilon, name="project", **shared
        )
        x = project(first, train).reshape(len(z), sizes[0], sizes[0], widths[0])
        shared |= {"epsilon": self.epsilon, "spectral_epsilon": self.spectral_epsilon}
        for number, (size, features, condition) in enumerate(
            zip(sizes[1:], widths[1:], conditions, strict=True)
        ):
            if self.deep:
                for step in range(DEPTH):
                    last = step == DEPTH - 1
                    block = DeepGeneratorBlock(
                        features if last else x.shape[-1],
                        up=last,
                        name=f"block_{number}_{step}",
                        **shared,
                    )
                    x = block(x, condition, train)
            else:
                x = GeneratorBlock(features, name=f"block_{number}", **shared)(x, condition, train)
            if size == self.attention_at:
                x = SelfAttention(self.spectral_epsilon, self.dtype, name="attention")(x, train)
        x = nn.relu(BatchNorm(epsilon=self.epsilon, name="norm")(x, train))
        image = SpectralConv(
            max(self.width, self.channels) if self.spare_channels else self.channels,
            epsilon=self.spectral_epsilon,
            dtype=self.dtype,
            name="image",
        )
        return jnp.tanh(image(x, train)[..., : self.channels].astype(jnp.float32))

    def _conditions(
        self, z: Float[Array, "b z"], label: Int[Array, " b"] | None, sizes: list[int]
    ) -> tuple[Array, list[Array]]:
        """Return the inputs of the first layer and of each resolution's blocks."""
        known = []
        if label is not None:
            known = [embed_labels(self, label, self.label_size, orthogonal())]
        if self.deep:
            whole = jnp.concatenate([z, *known], axis=-1)
            return whole, [whole] * (len(sizes) - 1)
        if self.latent_size % len(sizes):
            raise GenaxError(
                f"BigGAN of the resolutions {sizes} cannot share out latent_size="
                f"{self.latent_size} evenly; choose a multiple of {len(sizes)}."
            )
        first, *rest = jnp.split(z, len(sizes), axis=-1)
        return first, [jnp.concatenate([part, *known], axis=-1) for part in rest]


class BigGANDiscriminator(nn.Module):
    """Discriminator: blocks that each halve the resolution, a sum over pixels, and a score.

    width, multipliers, attention_at, deep: as in the generator.
    num_classes: classes of the labels; None means no labels.
    """

    width: int = 96
    multipliers: tuple[int, ...] = _MULTIPLIERS[128]
    attention_at: int = 64
    deep: bool = False
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> Float[Array, " b"]:
        """Return the scores, float32. Raises GenaxError for sizes that do not fit."""
        check_label(self, label)
        sizes = levels(x.shape[1], self.multipliers, self.attention_at)
        shared: dict[str, Any] = {"epsilon": self.spectral_epsilon, "dtype": self.dtype}
        blocks: dict[str, Any] = {"spectral_epsilon": self.spectral_epsilon, "dtype": self.dtype}
        widths = [self.width * multiplier for multiplier in reversed(self.multipliers)]
        x = x.astype(self.dtype)
        if self.deep:
            x = SpectralConv(widths[0], name="image", **shared)(x, train)
            widths = widths[1:]
        for number, features in enumerate(widths):
            down = number < len(sizes) - 1
            if self.deep:
                for step in range(DEPTH):
                    deep = DeepDiscriminatorBlock(
                        features, down=not step, name=f"block_{number}_{step}", **blocks
                    )
                    x = deep(x, train)
            else:
                block = DiscriminatorBlock(
                    features, down, first=not number, name=f"block_{number}", **blocks
                )
                x = block(x, train)
            if down and x.shape[1] == self.attention_at:
                x = SelfAttention(name="attention", **blocks)(x, train)
        x = nn.relu(x).sum((1, 2))
        score = SpectralDense(1, name="score", **shared)(x, train)[:, 0]
        if label is not None and self.num_classes is not None:
            labels = SpectralEmbed(self.num_classes, x.shape[-1], name="labels", **shared)
            score = score + (labels(label, train) * x).sum(-1)
        return score.astype(jnp.float32)
