"""Predictions: what the network gets, and what its output means: noise, the clean image or v."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.diffusion.clipping import Clip, clipped
from genax.diffusion.process import DiscreteProcess, Process, factors, network_times

# (clean, noise, signal, sigma) -> the output that the network is trained for.
Target = Callable[[Array, Array, Array, Array], Array]
# (output, noisy, signal, sigma) -> the clean image that the output stands for.
Clean = Callable[[Array, Array, Array, Array], Array]
# (noisy, times [b], signal, sigma) -> the noisy image and the times that the network gets.
Inputs = Callable[[Array, Array, Array, Array], tuple[Array, Array]]


def as_they_are(noisy: Array, times: Array, signal: Array, sigma: Array) -> tuple[Array, Array]:
    """Return the noisy image and the process's times."""
    return noisy, times


def scaled_times(factor: float) -> Inputs:
    """Return inputs whose times are `factor` times those of the process.

    Embeddings of timesteps expect times up to about 1000.
    """
    return lambda noisy, times, signal, sigma: (noisy, factor * times)


@dataclass(frozen=True)
class Prediction:
    """Target of regression, the way back from it to the clean image, and the network's inputs.

    All functions get signal and sigma in a shape that multiplies images.

    target: see `Target`.
    clean: see `Clean`.
    inputs: see `Inputs`. It scales the noisy image, or the times to those of an embedding.
    learns_variance: whether the second half of the output's channels says how large the variance
      of a reverse step is, see `with_variance`.
    """

    target: Target
    clean: Clean
    inputs: Inputs = as_they_are
    learns_variance: bool = False


EPSILON = Prediction(
    target=lambda clean, noise, signal, sigma: noise,
    clean=lambda output, noisy, signal, sigma: (noisy - sigma * output) / signal,
)
CLEAN = Prediction(
    target=lambda clean, noise, signal, sigma: clean,
    clean=lambda output, noisy, signal, sigma: output,
)
# Salimans & Ho 2022, section 4, for processes with signal^2 + sigma^2 = 1.
V = Prediction(
    target=lambda clean, noise, signal, sigma: signal * noise - sigma * clean,
    clean=lambda output, noisy, signal, sigma: signal * noisy - sigma * output,
)
# The noise in continuous time from 0 to 1, with the times of the code of Song et al. 2021.
CONTINUOUS_EPSILON = replace(EPSILON, inputs=scaled_times(999.0))
# The velocity of `LinearFlow` from clean image to noise; any process has the same target.
VELOCITY = Prediction(
    target=lambda clean, noise, signal, sigma: noise - clean,
    clean=lambda output, noisy, signal, sigma: (noisy - sigma * output) / (signal + sigma),
    inputs=scaled_times(1000.0),
)


# The mean velocity between two times. A network's derivative by a time that is scaled up is large
# and hard to learn from, so times are those of the process, as in the code of Geng et al. 2025.
AVERAGE_VELOCITY = replace(VELOCITY, inputs=as_they_are)


def with_variance(prediction: Prediction) -> Prediction:
    """Return the prediction of a network that also learns variances.

    Its output has twice the channels of the image (Nichol & Dhariwal 2021, section 3.1). Values of
    the second half are -1 for the first end of `learned_range` and 1 for the other.
    """
    return replace(prediction, learns_variance=True)


EPSILON_AND_VARIANCE = with_variance(EPSILON)


def negated(prediction: Prediction) -> Prediction:
    """Return the prediction of a network whose output has the other sign."""
    return replace(
        prediction,
        target=lambda *arguments: -prediction.target(*arguments),
        clean=lambda output, *arguments: prediction.clean(-output, *arguments),
    )


def split_variance(
    prediction: Prediction, output: Float[Array, "b ..."], noisy: Float[Array, "b ..."]
) -> tuple[Float[Array, "b ..."], Float[Array, "b ..."] | None]:
    """Return the output without its variances, and their fractions of the way between two ends.

    The fractions are None if the prediction has none. See `genax.diffusion.process.between`.
    Raises GenaxError for an output of another number of channels.
    """
    channels = noisy.shape[-1] * (1 + prediction.learns_variance)
    if output.shape[-1] != channels:
        how = "with" if prediction.learns_variance else "without"
        raise GenaxError(
            f"the network's output has {output.shape[-1]} channels; for images of "
            f"{noisy.shape[-1]} and a prediction {how} learned variance it has to have {channels}: "
            "set the network's out_channels, or take the prediction `with_variance`."
        )
    if not prediction.learns_variance:
        return output, None
    output, fraction = jnp.split(output, 2, axis=-1)
    return output, (fraction + 1) / 2


def check_prediction(process: Process, prediction: Prediction) -> None:
    """Raise GenaxError if a time without signal leaves the clean image unknown.

    That is so for EPSILON and a process of `zero_terminal_snr`: noise alone is its own noise.
    """
    if not isinstance(process, DiscreteProcess) or process.alphas_cumprod[-1] > 0:
        return
    with jax.ensure_compile_time_eval():
        known = bool(jnp.isfinite(prediction.clean(*jnp.array([1.0, 0.0, 0.0, 1.0]))))
    if not known:
        raise GenaxError(
            "the last timestep of the process has no signal (zero terminal SNR), where a network "
            "that predicts noise does not tell the clean image: predict v or the clean image."
        )


def at_times(
    network: Callable[..., Array], process: Process, prediction: Prediction
) -> Callable[..., Array]:
    """Return the network as a function of noisy images, the process's times and conditions.

    If another time of the process is given as `end`, the network gets `interval`, the difference of
    the two scaled times.
    Raises GenaxError for a prediction that the process does not allow, see `check_prediction`.
    """
    check_prediction(process, prediction)

    def inputs(noisy, times):
        signal, sigma = factors(process, times, noisy)
        return prediction.inputs(noisy, network_times(process, times), signal, sigma)

    def call(noisy, times, end=None, **arguments):
        if end is not None:
            arguments["interval"] = inputs(noisy, times)[1] - inputs(noisy, end)[1]
        return network(*inputs(noisy, times), **arguments)

    return call


def predict_clean(
    process: Process,
    prediction: Prediction,
    output: Float[Array, "b ..."],
    noisy: Float[Array, "b ..."],
    timesteps: Array,
    clip: bool | Clip = False,
) -> Float[Array, "b ..."]:
    """Return the clean image that an output stands for. For EPSILON, Ho et al. 2020, eq. 15.

    clip: clip to [-1, 1], the range of images, as the paper's code does when sampling; or a
      function, such as `dynamic_threshold` returns. What is not finite becomes NaN.
    """
    signal, sigma = factors(process, timesteps, noisy)
    output, _ = split_variance(prediction, output, noisy)
    clean = prediction.clean(output, noisy, signal, sigma)
    # Noise alone does not tell the clean image, and clipping would make an image of an infinity.
    return clipped(jnp.where(jnp.isfinite(clean), clean, jnp.nan), clip)
