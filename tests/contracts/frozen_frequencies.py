"""A denoiser with random frequencies that are a collection: kept, and never trained or averaged."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genax.core import Phase, Stage, Task
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.timestep_embedding import FourierFeatures
from tests.contracts.layers import MLP

IMAGE = (4, 4, 2)
ELEMENT = {"image": jax.ShapeDtypeStruct(IMAGE, jnp.float32)}


class Denoiser(nn.Module):
    """Layers over the noisy image and sinusoids of its level of noise."""

    dtype: Any

    @nn.compact
    def __call__(self, noisy, times, train=False):
        sinusoids = FourierFeatures(4, scale=1.0)(jnp.log(times))
        pixels = noisy.reshape(len(noisy), -1)
        return MLP(IMAGE, dtype=self.dtype)(jnp.concatenate([pixels, sinusoids], axis=1))


def make(dtype: Any = jnp.float32) -> Task:
    loss = partial(denoising_loss, process=VarianceExploding())
    phase = Phase("denoiser", loss, ("denoiser",), optax.adam(1e-3))
    return Task(Networks(Denoiser(dtype)), [Stage([phase])], ema={"denoiser": 0.9})
