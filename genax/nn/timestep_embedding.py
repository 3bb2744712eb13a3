"""Embeddings of the diffusion time."""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float, Num

from genax.core.errors import GenaxError
from genax.nn.initializers import fan_avg_uniform


def sinusoidal_embedding(
    timesteps: Num[Array, " b"],
    features: int,
    max_period: float = 10000.0,
    frequency_shift: int = 1,
    cosine_first: bool = False,
) -> Float[Array, "b features"]:
    """Sinusoids of geometrically spaced frequencies (Vaswani et al. 2017, section 3.5).

    [sin(t w_0) .. sin(t w_k), cos(t w_0) .. cos(t w_k)], w_i = max_period^(-i / (half - shift)).

    timesteps: [b], in steps.
    features: numbers per timestep, half of them sines.
    max_period: the longest period divided by 2 pi, in steps, if frequency_shift is 1.
    frequency_shift: the shift above: 1 in DDPM and the Transformer's code, 0 in ADM and DiT.
    cosine_first: put the cosines first, as ADM and DiT do.
    Raises GenaxError if features is odd or too small for the shift.
    """
    half = features // 2
    if features % 2 or half <= frequency_shift:
        raise GenaxError(
            f"sinusoidal_embedding: features={features} must be an even number above "
            f"{2 * frequency_shift}, half of it sines and half cosines."
        )
    # In the order of PyTorch's implementations: a late timestep multiplies each rounding.
    numbers = np.arange(half, dtype=np.float32)
    exponents = np.float32(-math.log(max_period)) * numbers / np.float32(half - frequency_shift)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    halves = (jnp.sin(angles), jnp.cos(angles))
    return jnp.concatenate(halves[::-1] if cosine_first else halves, axis=-1)


class FourierFeatures(nn.Module):
    """Sines, then cosines, of a number times random frequencies (Tancik et al. 2020, section 5).

    The frequencies are drawn once, from N(0, scale^2), and never trained. They are the variable
    "frequencies" of the collection "fourier", so checkpoints keep them.

    features: number of frequencies.
    """

    features: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, x: Float[Array, " b"], train: bool = False) -> Float[Array, "b twice"]:
        """Return sin(2 pi f x) and cos(2 pi f x) for the frequencies f."""

        def draw():
            return self.scale * jax.random.normal(self.make_rng("params"), (self.features,))

        frequencies = self.variable("fourier", "frequencies", draw).value
        angles = x.astype(jnp.float32)[:, None] * frequencies * 2 * math.pi
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class TimestepEmbedding(nn.Module):
    """Two dense layers over sinusoids: the conditioning vector of DDPM's U-Net, ADM and DiT.

    The result is not activated.

    features: width of the sinusoids.
    hidden: width of both dense layers.
    max_period, frequency_shift, cosine_first: see `sinusoidal_embedding`.
    fourier_scale: scale of random frequencies, as many as `features`, that take the sinusoids'
      place, as in NCSN++. None means sinusoids.
    """

    features: int
    hidden: int
    max_period: float = 10000.0
    frequency_shift: int = 1
    cosine_first: bool = False
    fourier_scale: float | None = None
    kernel_init: Initializer = fan_avg_uniform()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        timesteps: Num[Array, " b"],
        train: bool = False,
        augmentation: Float[Array, "b n"] | None = None,
    ) -> Float[Array, "b hidden"]:
        """Return the embedding of timesteps [b], in steps.

        augmentation: labels of augmented images, which a layer without biases maps to the
          sinusoids' width and which are added to these, as in EDM's networks.
        """
        if self.fourier_scale is not None:
            fourier = FourierFeatures(self.features, self.fourier_scale, name="fourier")
            sinusoids = fourier(timesteps)
        else:
            sinusoids = sinusoidal_embedding(
                timesteps, self.features, self.max_period, self.frequency_shift, self.cosine_first
            )
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=self.kernel_init)
        if augmentation is not None:
            labels = dense(sinusoids.shape[-1], use_bias=False, name="augmentation")
            sinusoids = sinusoids + labels(augmentation)
        hidden = nn.silu(dense(self.hidden, name="dense_0")(sinusoids))
        return dense(self.hidden, name="dense_1")(hidden)
