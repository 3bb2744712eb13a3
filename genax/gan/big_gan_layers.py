"""Layers and residual blocks of BigGAN and BigGAN-deep, all with spectral norm.

They are those of ajbrock's BigGAN-PyTorch. A convolution of single pixels and a repetition or a
mean of pixels may change places, so shortcuts have theirs at the lower resolution.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.convolution import nearest_upsample
from genax.nn.norms import BatchNorm
from genax.nn.resample import average_downsample
from genax.nn.spectral_norm import SpectralConv, SpectralDense

Images = Float[Array, "b h w c"]
Features = Float[Array, "b H W f"]
Conditions = Float[Array, "b n"]
# Channels of a deep block for each of its 3x3 convolutions.
BOTTLENECK = 4


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with scale 1 + A c and bias B c of each example's condition c.

    Brock et al. 2019 (arXiv:1809.11096), appendix B. A and B have spectral norm.
    """

    epsilon: float = 1e-5
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, condition: Conditions, train: bool = False) -> Images:
        """Return x normalised, in the dtype of x."""
        dense = partial(
            SpectralDense,
            x.shape[-1],
            use_bias=False,
            epsilon=self.spectral_epsilon,
            dtype=self.dtype,
        )
        scale = 1 + dense(name="scale")(condition, train)
        bias = dense(name="bias")(condition, train)
        norm = BatchNorm(epsilon=self.epsilon, use_bias=False, use_scale=False, name="norm")
        y = norm(x, train) * scale[:, None, None] + bias[:, None, None]
        return y.astype(x.dtype)


class SelfAttention(nn.Module):
    """Attention of every pixel to blocks of pixels, added with a weight that starts at 0.

    Zhang et al. 2019 (arXiv:1805.08318), section 3, as in their code: keys and values are the
    largest of 2x2 pixels, queries and keys have an eighth of the channels, values half of them, and
    scores are not divided.
    """

    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, train: bool = False) -> Images:
        """Return x plus its attention output.

        Raises GenaxError for fewer than eight channels and for an odd size.
        """
        b, h, w, c = x.shape
        if c < 8 or h % 2 or w % 2:
            raise GenaxError(
                f"SelfAttention takes at least 8 channels and an even size, not {h}x{w}x{c}; "
                "choose another attention_at or a larger width."
            )

        def conv(features, name):
            return SpectralConv(
                features,
                (1, 1),
                use_bias=False,
                epsilon=self.spectral_epsilon,
                dtype=self.dtype,
                name=name,
            )

        def largest(y):
            return y.reshape(b, h // 2, 2, w // 2, 2, -1).max((2, 4)).reshape(b, h * w // 4, -1)

        query = conv(c // 8, "query")(x, train).reshape(b, h * w, -1)
        key = largest(conv(c // 8, "key")(x, train))
        value = largest(conv(c // 2, "value")(x, train))
        scores = jnp.einsum("btc,bsc->bts", query, key, preferred_element_type=jnp.float32)
        shares = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        y = jnp.einsum("bts,bsc->btc", shares, value).reshape(b, h, w, -1)
        weight = self.param("weight", nn.initializers.zeros, ())
        return x + weight.astype(self.dtype) * conv(c, "output")(y, train)


def _inner(channels: int) -> int:
    """Return the channels of a deep block's 3x3 convolutions."""
    if channels < BOTTLENECK:
        raise GenaxError(
            f"a block of BigGAN-deep has at least {BOTTLENECK} channels, not {channels}; choose a "
            "larger width."
        )
    return channels // BOTTLENECK


class GeneratorBlock(nn.Module):
    """Residual block that doubles the resolution: norm, ReLU and a 3x3 convolution, twice."""

    features: int
    epsilon: float = 1e-5
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, condition: Conditions, train: bool) -> Features:
        """Return the block's output."""
        norm = partial(ConditionalBatchNorm, self.epsilon, self.spectral_epsilon, self.dtype)
        conv = partial(SpectralConv, self.features, epsilon=self.spectral_epsilon, dtype=self.dtype)
        y = nn.relu(norm(name="norm_0")(x, condition, train))
        y = conv(upsample=True, name="conv_0")(y, train)
        y = nn.relu(norm(name="norm_1")(y, condition, train))
        y = conv(name="conv_1")(y, train)
        return y + nearest_upsample(conv(kernel_size=(1, 1), name="shortcut")(x, train))


class DeepGeneratorBlock(nn.Module):
    """Residual bottleneck: two 3x3 convolutions of a quarter of the channels.

    Brock et al. 2019, appendix B, figure 16. The shortcut drops the last channels.

    up: whether it doubles the resolution.
    """

    features: int
    up: bool = False
    epsilon: float = 1e-5
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, condition: Conditions, train: bool) -> Features:
        """Return the block's output."""
        norm = partial(ConditionalBatchNorm, self.epsilon, self.spectral_epsilon, self.dtype)
        inner, y = _inner(x.shape[-1]), x
        for number, (features, size, upsample) in enumerate(
            (
                (inner, (1, 1), False),
                (inner, (3, 3), self.up),
                (inner, (3, 3), False),
                (self.features, (1, 1), False),
            )
        ):
            y = nn.relu(norm(name=f"norm_{number}")(y, condition, train))
            conv = SpectralConv(
                features,
                size,
                upsample=upsample,
                epsilon=self.spectral_epsilon,
                dtype=self.dtype,
                name=f"conv_{number}",
            )
            y = conv(y, train)
        x = x[..., : self.features]
        return y + (nearest_upsample(x) if self.up else x)


class DiscriminatorBlock(nn.Module):
    """Residual block: ReLU and a 3x3 convolution, twice.

    down: whether it halves the resolution by means of 2x2 pixels.
    first: whether it begins at the image, without a ReLU.
    """

    features: int
    down: bool = False
    first: bool = False
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        """Return the block's output."""
        conv = partial(SpectralConv, self.features, epsilon=self.spectral_epsilon, dtype=self.dtype)
        y = conv(name="conv_0")(x if self.first else nn.relu(x), train)
        y = conv(name="conv_1")(nn.relu(y), train)
        if self.down:
            x, y = average_downsample(x), average_downsample(y)
        if self.down or x.shape[-1] != self.features:
            x = conv(kernel_size=(1, 1), name="shortcut")(x, train)
        return x + y


class DeepDiscriminatorBlock(nn.Module):
    """Residual bottleneck: two 3x3 convolutions of a quarter of its channels.

    The shortcut adds channels by a convolution of single pixels.

    down: whether it halves the resolution by means of 2x2 pixels.
    """

    features: int
    down: bool = False
    spectral_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Features:
        """Return the block's output."""
        conv = partial(SpectralConv, epsilon=self.spectral_epsilon, dtype=self.dtype)
        inner = _inner(self.features)
        y = conv(inner, (1, 1), name="conv_0")(nn.relu(x), train)
        y = conv(inner, name="conv_1")(nn.relu(y), train)
        y = nn.relu(conv(inner, name="conv_2")(nn.relu(y), train))
        if self.down:
            x, y = average_downsample(x), average_downsample(y)
        y = conv(self.features, (1, 1), name="conv_3")(y, train)
        if more := self.features - x.shape[-1]:
            more_channels = conv(more, (1, 1), name="shortcut")(x, train)
            x = jnp.concatenate([x, more_channels], axis=-1)
        return x + y
