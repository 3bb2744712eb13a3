"""A network with frozen random frequencies and pyramids of its input and output."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genax.core import Phase, Stage, Task
from genax.diffusion.losses import denoising_loss
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import EPSILON
from genax.diffusion.variance_exploding import VarianceExploding

ELEMENT = {"image": jax.ShapeDtypeStruct((4, 4, 2), jnp.float32)}
# Levels of noise are seen by their logarithms.
LEVELS = replace(
    EPSILON, inputs=lambda noisy, times, signal, sigma: (noisy / (1 + sigma), jnp.log(times))
)


def make(dtype: Any = jnp.float32) -> Task:
    network = NCSNpp(
        *(8, (1, 2), 1, (2,)), dropout=0.0, fourier_scale=1.0, output_pyramid=True, dtype=dtype
    )
    loss = partial(denoising_loss, process=VarianceExploding(), prediction=LEVELS)
    phase = Phase("denoiser", loss, ("denoiser",), optax.adam(1e-3))
    return Task(Networks(network), [Stage([phase])], ema={"denoiser": 0.9})
