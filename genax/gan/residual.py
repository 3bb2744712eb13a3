"""The residual networks of WGAN-GP (Gulrajani et al. 2017, arXiv:1704.00028), appendix F.

They are those of the official code: a generator with BatchNorm, nearest upsampling, and a critic
without normalisation that means over pixels. All weights are uniform, twice the variance of Glorot
& Bengio before a ReLU (He), theirs in shortcuts and at the image. The official generator normalises
by its batch also when it is sampled; here samples take the running statistics.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.core.task import Batch
from genax.gan.dcgan import resolutions
from genax.gan.game import Augment, Round, unchanged
from genax.nn.convolution import Conv, Upsample, nearest_upsample
from genax.nn.initializers import fan_avg_uniform
from genax.nn.labels import check_label
from genax.nn.norms import BatchNorm
from genax.nn.resample import average_downsample

HE, GLOROT = fan_avg_uniform(2.0), fan_avg_uniform(1.0)

SIZES: dict[str, dict[str, int]] = {
    # 1,204,483 parameters of the generator, 1,053,825 of the critic; with ten classes 1,218,307
    # and 1,055,115.
    "cifar10": {"image_size": 32, "width": 128, "latent_size": 128},
    # This project's own.
    "small": {"image_size": 28, "width": 32, "latent_size": 64},
    "digits": {"image_size": 8, "width": 24, "latent_size": 16},
}


class ClassBatchNorm(nn.Module):
    """BatchNorm, whose scale and bias belong to the label if there is one.

    Dumoulin et al. 2017 (arXiv:1610.07629), eq. 5. A label without a row gives NaN.
    """

    num_classes: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], label: Int[Array, " b"] | None, train: bool
    ) -> Float[Array, "b h w c"]:
        """Return x normalised, in the dtype of x."""
        if self.num_classes is None or label is None:
            return BatchNorm(name="norm")(x, train)
        shape = (self.num_classes, x.shape[-1])
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        # A negative number would count from the end.
        row = jnp.where(label < 0, self.num_classes, label)
        scale, bias = (
            table.at[row].get(mode="fill", fill_value=jnp.nan)[:, None, None]
            for table in (scale, bias)
        )
        y = BatchNorm(use_bias=False, use_scale=False, name="norm")(x, train)
        return (y * scale + bias).astype(x.dtype)


class UpBlock(nn.Module):
    """Residual block that doubles the resolution: norm, ReLU and a 3x3 convolution, twice."""

    features: int
    num_classes: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], label: Int[Array, " b"] | None, train: bool
    ) -> Float[Array, "b 2*h 2*w features"]:
        """Return the block's output."""
        y = nn.relu(ClassBatchNorm(self.num_classes, name="norm_0")(x, label, train))
        y = Upsample(self.features, HE, self.dtype, name="upsample")(y)
        y = nn.relu(ClassBatchNorm(self.num_classes, name="norm_1")(y, label, train))
        y = Conv(self.features, kernel_init=HE, dtype=self.dtype, name="conv")(y)
        # A convolution of single pixels and the repetition of pixels may change places.
        shortcut = Conv(
            self.features, (1, 1), kernel_init=GLOROT, dtype=self.dtype, name="shortcut"
        )
        return nearest_upsample(shortcut(x)) + y


class CriticBlock(nn.Module):
    """Residual block without normalisation: ReLU and a 3x3 convolution, twice.

    down: whether it halves the resolution by means of 2x2 pixels.
    first: whether it begins at the image, without a ReLU, and with means before its shortcut.
    """

    features: int
    down: bool = False
    first: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W features"]:
        """Return the block's output."""
        inner = self.features if self.first else x.shape[-1]
        y = x if self.first else nn.relu(x)
        y = Conv(inner, kernel_init=HE, dtype=self.dtype, name="conv_0")(y)
        y = Conv(self.features, kernel_init=HE, dtype=self.dtype, name="conv_1")(nn.relu(y))
        if not self.down:
            return x + y
        # Means of pixels and a convolution of single pixels may change places.
        shortcut = Conv(
            self.features, (1, 1), kernel_init=GLOROT, dtype=self.dtype, name="shortcut"
        )
        return shortcut(average_downsample(x)) + average_downsample(y)


class ResidualGenerator(nn.Module):
    """Generator: a dense layer, then blocks that each double the resolution.

    width: channels of all layers.
    num_classes: classes of the labels, which choose each block's scales and biases; None means no
      labels.
    """

    image_size: int = 32
    channels: int = 3
    width: int = 128
    latent_size: int = 128
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
        sizes = resolutions(self.image_size)
        dense = nn.Dense(
            sizes[0] ** 2 * self.width, kernel_init=GLOROT, dtype=self.dtype, name="project"
        )
        x = dense(z).reshape(len(z), sizes[0], sizes[0], self.width)
        for number in range(len(sizes) - 1):
            block = UpBlock(self.width, self.num_classes, self.dtype, name=f"block_{number}")
            x = block(x, label, train)
        x = nn.relu(BatchNorm(name="norm")(x, train))
        image = Conv(self.channels, kernel_init=GLOROT, dtype=self.dtype, name="image")
        return jnp.tanh(image(x).astype(jnp.float32))


class ResidualCritic(nn.Module):
    """Critic: two blocks that halve the resolution, two that keep it, and a mean over pixels.

    width: channels of all layers.
    num_classes: classes that it also tells (ACGAN, Odena et al. 2017, arXiv:1610.09585); None means
      none.
    """

    width: int = 128
    dtype: jnp.dtype = jnp.float32
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        label: Int[Array, " b"] | None = None,
        train: bool = False,
        classify: bool = False,
    ) -> Array:
        """Return the scores, float32 [b], which do not depend on the label.

        classify: return the logits of the classes in their place, [b, num_classes].
        """
        for number in range(4):
            block = CriticBlock(
                self.width, number < 2, not number, self.dtype, name=f"block_{number}"
            )
            x = block(x)
        x = nn.relu(x).mean((1, 2))
        score = nn.Dense(1, kernel_init=GLOROT, dtype=self.dtype, name="score")(x)
        if self.num_classes is None:
            return score[:, 0].astype(jnp.float32)
        classes = nn.Dense(self.num_classes, kernel_init=GLOROT, dtype=self.dtype, name="classes")
        found = classes(x)
        return (found if classify else score[:, 0]).astype(jnp.float32)


def class_error(
    nets: nn.Module,
    batch: Batch,
    found: Round,
    weight: float = 1.0,
    of: str = "real",
    augment: Augment = unchanged,
) -> Float[Array, " b"]:
    """weight times the cross-entropy of the label in what the critic takes images for.

    Odena et al. 2017, eq. 3. The critic minimises that of real images, as in the official code of
    WGAN-GP, and the generator that of its fakes, whose labels are those of the batch.

    of: "real" or "fakes".
    augment: what the critic sees of images, see `play`.
    """
    images = augment(nets, batch)(batch["image"] if of == "real" else found.fakes)
    logits = nets.discriminator(images, train=True, classify=True)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=-1)
    return -weight * chosen[:, 0]
