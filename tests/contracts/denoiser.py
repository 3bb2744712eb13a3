"""A denoiser in continuous time, with labels that are dropped, a weighting and averaged weights.

One network has a decay for one part and a warm-up for all.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from genax.core import Phase, Stage, Task
from genax.diffusion.conditions import dropped
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.variance_exploding import VarianceExploding
from genax.diffusion.weightings import min_snr
from genax.nn.conditions import on_label
from genax.nn.ema import ema_warmup
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
CLASSES = 10
DECAYS = {"denoiser/Dense_0": 0.5, "denoiser": ema_warmup(0.9)}
ELEMENT = {
    "image": jax.ShapeDtypeStruct(IMAGE, jnp.float32),
    "label": jax.ShapeDtypeStruct((), jnp.int32),
}


class Denoiser(MLP):
    """Layers over the noisy image, its time and its label."""

    def __call__(self, noisy, times, train=False, label=None):
        given = jax.nn.one_hot(label, CLASSES + 1)
        pixels = noisy.reshape(len(noisy), -1)
        return super().__call__(jnp.concatenate([pixels, jnp.log(times)[:, None], given], axis=1))


class PlainDenoiser(MLP):
    """Layers over the noisy image, its time, its label and labels of its augmentation, if given."""

    def __call__(self, noisy, times, train=False, label=None, augmentation=None):
        parts = [noisy.reshape(len(noisy), -1), jnp.tanh(times)[:, None]]
        if label is not None:
            parts.append(jax.nn.one_hot(label, CLASSES))
        if augmentation is not None:
            parts.append(augmentation)
        return super().__call__(jnp.concatenate(parts, axis=1))


def make(dtype: Any = jnp.float32) -> Task:
    loss = partial(
        denoising_loss,
        process=VarianceExploding(),
        condition=dropped(on_label, 0.3, label=CLASSES),
        weighting=min_snr(),
    )
    phase = Phase("denoiser", loss, ("denoiser",), optax.adam(1e-2))
    return Task(Networks(Denoiser(IMAGE, dtype=dtype)), [Stage([phase])], ema=DECAYS)
