"""The network of NCSN: a RefineNet with dilated convolutions, conditioned on the noise level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from genax.core.errors import GenaxError
from genax.nn.convolution import Conv
from genax.nn.initializers import fan_in_uniform
from genax.nn.rematerialise import rematerialise

# PyTorch's initial weights, uniform within 1 / sqrt(fan in). Biases begin at 0 here, but in the
# same range there.
_FAN_IN = fan_in_uniform()


class RefineNet(nn.Module):
    """Score network of Song & Ermon 2019, appendix A, as in their public code.

    Four residual stages, the last two with dilated convolutions in place of smaller images, and a
    cascade of four refinement blocks back to full resolution. Every norm has scales of its own for
    each noise level. The sizes of the paper are 128 channels for CIFAR-10 (30,117,635 parameters)
    and 64 for MNIST (7,638,657).

    Parameters are float32, computation is in `dtype`, the output is float32.

    num_levels: number of noise levels.
    remat: see `rematerialise`.
    """

    channels: int = 128
    num_levels: int = 10
    dtype: Any = jnp.float32
    remat: str = "none"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], timesteps: Num[Array, " b"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Return the output of the `Prediction` that the network is trained on.

        x: noisy images.
        timesteps: [b], whole numbers of noise levels. One without a row gives NaN.
        train: without effect.
        Raises GenaxError for images of odd height or width and, outside of jit, for a level that
        does not exist.
        """
        self._check(x, timesteps)
        # A negative number would count from the end.
        level = timesteps.astype(jnp.int32)
        level = jnp.where(level < 0, self.num_levels, level)
        norm = partial(InstanceNormPlus, self.num_levels)
        make = partial(rematerialise, policy=self.remat)
        residual = partial(make(ConditionalResidualBlock), norm, dtype=self.dtype)
        refine = partial(make(RefineBlock), norm, dtype=self.dtype)
        conv = partial(Conv, kernel_init=_FAN_IN, dtype=self.dtype)
        narrow, wide = self.channels, 2 * self.channels

        y = conv(narrow, name="conv_in")(x)
        stages = []
        for number, (features, dilation) in enumerate(
            ((narrow, None), (wide, None), (wide, 2), (wide, 4))
        ):
            name = f"stage_{number}"
            y = residual(features, dilation, reduce=number > 0, name=f"{name}_residual_0")(y, level)
            y = residual(features, dilation, name=f"{name}_residual_1")(y, level)
            stages.append(y)
        y = refine(wide, name="refine_3")([stages[3]], level)
        y = refine(wide, name="refine_2")([stages[2], y], level)
        y = refine(narrow, name="refine_1")([stages[1], y], level)
        y = refine(narrow, output_blocks=3, name="refine_0")([stages[0], y], level)
        y = nn.elu(norm(name="norm_out")(y, level))
        return conv(x.shape[-1], name="conv_out")(y).astype(jnp.float32)

    def _check(self, x: Array, timesteps: Array) -> None:
        if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
            raise GenaxError(
                f"RefineNet got images of shape {x.shape}; it needs [b, h, w, c] with even h and "
                "w: resize or pad them."
            )
        if isinstance(timesteps, jax.core.Tracer):
            return
        numbers = np.asarray(timesteps)
        wrong = numbers[(numbers < 0) | (numbers >= self.num_levels)]
        if wrong.size:
            raise GenaxError(
                f"RefineNet(num_levels={self.num_levels}) got level {wrong[0]}: levels are 0 to "
                f"{self.num_levels - 1}."
            )


class InstanceNormPlus(nn.Module):
    """Conditional instance normalisation++: Song & Ermon 2019, appendix A.1.

    gamma (instance norm of x + alpha * channel means, normalised over the channels) + beta, with
    gamma, alpha and beta of each noise level. The means, which an instance norm takes away, stay
    relative to each other.
    """

    num_levels: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], level: Num[Array, " b"]
    ) -> Float[Array, "b h w c"]:
        """Return the normalised x in the dtype of x. Statistics are float32."""
        channels = x.shape[-1]

        def row(name, init):
            table = self.param(name, init, (self.num_levels, channels))
            return table.at[level].get(mode="fill", fill_value=jnp.nan)[:, None, None]

        near_one = partial(_normal_about, 1.0, 0.02)
        gamma, alpha = row("scale", near_one), row("mean_scale", near_one)
        beta = row("bias", nn.initializers.zeros)
        values = x.astype(jnp.float32)
        mean = values.mean((1, 2), keepdims=True)
        variance = jnp.square(values - mean).mean((1, 2), keepdims=True)
        between = mean - mean.mean(-1, keepdims=True)
        # The variance between channels is the unbiased one, as in the public code.
        spread = jnp.square(between).sum(-1, keepdims=True) / (channels - 1)
        relative = between * lax.rsqrt(spread + self.epsilon)
        y = (values - mean) * lax.rsqrt(variance + self.epsilon) + alpha * relative
        return (gamma * y + beta).astype(x.dtype)


def _normal_about(mean: float, deviation: float, key: Array, shape, dtype=jnp.float32) -> Array:
    return mean + deviation * jax.random.normal(key, shape, dtype)


class ConditionalResidualBlock(nn.Module):
    """Norm, ELU, convolution, twice, added to a shortcut.

    norm: called with a name, then on (x, level).
    features: output channels, those of the input unless `reduce` is set.
    dilation: of the convolutions. None means plain ones.
    reduce: change the number of channels, and halve the size if there is no dilation. The shortcut
      is then a convolution too.
    """

    norm: Callable[..., nn.Module]
    features: int
    dilation: int | None = None
    reduce: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], level: Num[Array, " b"]
    ) -> Float[Array, "b H W f"]:
        """Return the sum."""
        apart = (self.dilation or 1,) * 2
        conv = partial(Conv, dilation=apart, kernel_init=_FAN_IN, dtype=self.dtype)
        pooled = self.reduce and self.dilation is None
        inner = x.shape[-1] if self.reduce else self.features
        y = nn.elu(self.norm(name="norm_0")(x, level))
        y = conv(inner, name="conv_0")(y)
        y = nn.elu(self.norm(name="norm_1")(y, level))
        y = conv(self.features, name="conv_1")(y)
        if self.reduce:
            size = (1, 1) if pooled else (3, 3)
            x = conv(self.features, size, name="shortcut")(x)
        return pool_by_two(x) + pool_by_two(y) if pooled else x + y


def pool_by_two(x: Float[Array, "b h w c"]) -> Float[Array, "b H W c"]:
    """Return the mean of each 2x2 pixels."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


class RefineBlock(nn.Module):
    """Adaptive convolutions of each input, their sum, chained pooling, output convolutions.

    Lin et al. 2017 (RefineNet), fig. 3, with a norm before each convolution and means in place of
    maxima.

    norm: see `ConditionalResidualBlock`.
    output_blocks: number of residual blocks at the end.
    """

    norm: Callable[..., nn.Module]
    features: int
    output_blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Sequence[Float[Array, "b _h _w _c"]], level: Num[Array, " b"]
    ) -> Float[Array, "b h w f"]:
        """Return the refined features, of the size of the first input."""
        adapted = [
            self._residuals(y, level, 2, f"adapt_{number}") for number, y in enumerate(inputs)
        ]
        y = adapted[0]
        if len(adapted) > 1:
            fused = [self._conv(z, level, f"fuse_{i}", bias=True) for i, z in enumerate(adapted)]
            y = sum(stretch(z, *fused[0].shape[1:3]) for z in fused)
        y = path = nn.elu(y)
        for number in range(2):
            path = mean_around(self.norm(name=f"pool_{number}_norm")(path, level))
            path = self._plain(f"pool_{number}_conv")(path)
            y = y + path
        return self._residuals(y, level, self.output_blocks, "output")

    def _plain(self, name, bias=False):
        make = partial(Conv, self.features, use_bias=bias)
        return make(kernel_init=_FAN_IN, dtype=self.dtype, name=name)

    def _conv(self, x, level, name, bias=False):
        return self._plain(f"{name}_conv", bias)(self.norm(name=f"{name}_norm")(x, level))

    def _residuals(self, x, level, count, name):
        """Apply residual blocks of two convolutions each, all of the input's width."""
        for block in range(count):
            y = x
            for number in range(2):
                place = f"{name}_{block}_{number}"
                y = nn.elu(self.norm(name=f"{place}_norm")(y, level))
                make = partial(Conv, x.shape[-1], use_bias=False, kernel_init=_FAN_IN)
                y = make(dtype=self.dtype, name=f"{place}_conv")(y)
            x = x + y
        return x


def mean_around(x: Float[Array, "b h w c"], size: int = 5) -> Float[Array, "b h w c"]:
    """Return the mean of the square of so many pixels around each pixel, with zeros outside."""
    return nn.avg_pool(x, (size, size), padding="SAME")


def stretch(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b H W c"]:
    """Interpolate linearly to another size, with the centres of the corner pixels in place."""
    for axis, size in ((1, height), (2, width)):
        if x.shape[axis] != size:
            weights = jnp.asarray(_between(x.shape[axis], size), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis), precision="highest"), 0, axis)
    return x


def _between(old: int, new: int) -> np.ndarray:
    """Return the weights [new, old] of linear interpolation."""
    places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)))
