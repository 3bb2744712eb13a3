"""Samples of a denoiser, drawn by a solver around one denoising function.

A sample depends only on the seed and its index, not on how many are drawn beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.core import GenaxError, example_keys, pure
from genax.core.task import Batch
from genax.diffusion.clipping import Clip
from genax.diffusion.guidance import Guide, OfNetworks, bound, unguided
from genax.diffusion.predictions import (
    EPSILON,
    Prediction,
    at_times,
    predict_clean,
    split_variance,
)
from genax.diffusion.process import Process
from genax.nn.conditions import Condition, unconditional

Time = Num[Array, ""] | int | float
# (noisy samples, one time for all of them) -> the clean samples to expect from them. A network of
# two times, such as one of average velocities, gets the second one as the argument `end`.
Denoise = Callable[..., Float[Array, "n ..."]]
# The same -> the clean samples and what the network learned of the variance, or None: its fraction
# of the way between the two ends that `learned_range` gives.
WithVariance = Callable[..., tuple[Float[Array, "n ..."], Float[Array, "n ..."] | None]]
# The number of a draw, from 1 on -> fresh standard normal noise for every sample.
Draw = Callable[[Num[Array, ""] | int], Float[Array, "n ..."]]
# (denoise, standard normal noise, draw) -> samples. A solver calls `denoise` as often as it likes
# and keeps what history it likes. `Process.prior` says how much of the noise there is at a time.
Solver = Callable[[Denoise, Float[Array, "n ..."], Draw], Float[Array, "n ..."]]


@dataclass(frozen=True)
class Denoiser:
    """A `Denoise` that also tells the learned variance to a solver that asks for it.

    with_variance: see `WithVariance`.
    clips: whether clean samples are clipped.
    """

    with_variance: WithVariance
    clips: bool = False

    def __call__(
        self, noisy: Float[Array, "n ..."], time: Time, end: Time | None = None
    ) -> Float[Array, "n ..."]:
        """Return the clean samples to expect."""
        return self.with_variance(noisy, time, end)[0]


def clean_and_fraction(
    denoise: Denoise, noisy: Float[Array, "n ..."], time: Num[Array, ""]
) -> tuple[Float[Array, "n ..."], Float[Array, "n ..."]]:
    """Return the clean samples to expect and the learned fraction of the variance.

    Raises GenaxError if no variance was learned.
    """
    clean, fraction = (
        denoise.with_variance(noisy, time) if isinstance(denoise, Denoiser) else (None, None)
    )
    if clean is None or fraction is None:
        raise GenaxError(
            "the solver takes learned variances, but the prediction has none: sample with the "
            "prediction `with_variance` that the network was trained on, or choose fixed variances."
        )
    return clean, fraction


def sample(
    nets: nn.Module,
    batch: Batch,
    solver: Solver,
    process: Process,
    shape: Sequence[int],
    prediction: Prediction = EPSILON,
    clip_denoised: bool | Clip = True,
    guide: Guide | OfNetworks = unguided,
    condition: Condition = unconditional,
    network: str = "denoiser",
    start: Callable[[Batch], Float[Array, "n ..."]] | None = None,
) -> Float[Array, "n ..."]:
    """Return one sample for each element of batch["index"].

    solver: makes samples from noise, see `Solver`.
    process: the process that the network was trained on.
    shape: shape of one sample.
    prediction: the output that the network was trained for.
    clip_denoised: clip the solver's input to [-1, 1], the range of images; or a function that does
      so in another way, such as `dynamic_threshold` returns.
    guide: makes one output from outputs of networks, see `genax.diffusion.guidance`.
    condition: further arguments of the network.
    network: name of the denoiser among the task's networks.
    start: what the solver starts from, such as `given_images` for `ddim_inversion`. None is noise.
    """
    keys = example_keys(nets, batch)
    arguments = condition(nets, batch)
    count = keys.shape[0]

    def draw(number):
        def normal(key):
            return jax.random.normal(jax.random.fold_in(key, number), tuple(shape))

        return jax.vmap(normal)(keys)

    noise = draw(0)
    examples = noise, jax.vmap(process.sample_time)(keys)
    denoiser = pure(getattr(nets, network), *examples, **arguments)
    network_at = at_times(denoiser, process, prediction)
    guided = bound(guide, nets, batch, *examples, arguments)

    def denoise(noisy, time, end=None):
        times = jnp.full(count, time)
        given = arguments if end is None else {**arguments, "end": jnp.full(count, end)}
        output = guided(network_at, noisy, times, given)
        clean = predict_clean(process, prediction, output, noisy, times, clip_denoised)
        return clean, split_variance(prediction, output, noisy)[1]

    made = Denoiser(denoise, bool(clip_denoised))
    return solver(made, noise if start is None else start(batch), draw)


def given_images(batch: Batch) -> Float[Array, "n ..."]:
    """Return the images of a batch, for a solver that turns data into noise."""
    return batch["image"]
