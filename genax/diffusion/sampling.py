"""Samples of a denoiser, drawn by a solver around one denoising function.

A sample depends only on the seed and its index, not on how many are drawn beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.core import example_keys, pure
from genax.core.task import Batch
from genax.diffusion.guidance import Guide, unguided
from genax.diffusion.predictions import EPSILON, Prediction, at_times, predict_clean
from genax.diffusion.process import Process
from genax.nn.conditions import Condition, unconditional

# (noisy samples, one time for all of them) -> the clean samples to expect from them. A network of
# two times, such as one of average velocities, gets the second one as the argument `end`.
Denoise = Callable[..., Float[Array, "n ..."]]
# The number of a draw, from 1 on -> fresh standard normal noise for every sample.
Draw = Callable[[Num[Array, ""] | int], Float[Array, "n ..."]]
# (denoise, standard normal noise, draw) -> samples. A solver calls `denoise` as often as it likes
# and keeps what history it likes. `Process.prior` says how much of the noise there is at a time.
Solver = Callable[[Denoise, Float[Array, "n ..."], Draw], Float[Array, "n ..."]]


def sample(
    nets: nn.Module,
    batch: Batch,
    solver: Solver,
    process: Process,
    shape: Sequence[int],
    prediction: Prediction = EPSILON,
    clip_denoised: bool = True,
    guide: Guide = unguided,
    condition: Condition = unconditional,
    network: str = "denoiser",
) -> Float[Array, "n ..."]:
    """Return one sample for each element of batch["index"].

    solver: makes samples from noise, see `Solver`.
    process: the process that the network was trained on.
    shape: shape of one sample.
    prediction: the output that the network was trained for.
    clip_denoised: clip the solver's input to [-1, 1], the range of images.
    guide: makes one output from the network's outputs with and without conditions.
    condition: further arguments of the network.
    network: name of the denoiser among the task's networks.
    """
    keys = example_keys(nets, batch)
    arguments = condition(nets, batch)
    count = keys.shape[0]

    def draw(number):
        def normal(key):
            return jax.random.normal(jax.random.fold_in(key, number), tuple(shape))

        return jax.vmap(normal)(keys)

    noise = draw(0)
    denoiser = pure(getattr(nets, network), noise, jax.vmap(process.sample_time)(keys), **arguments)

    network_at = at_times(denoiser, process, prediction)

    def denoise(noisy, time, end=None):
        times = jnp.full(count, time)
        given = arguments if end is None else {**arguments, "end": jnp.full(count, end)}
        output = guide(network_at, noisy, times, given)
        return predict_clean(process, prediction, output, noisy, times, clip_denoised)

    return solver(denoise, noise, draw)
