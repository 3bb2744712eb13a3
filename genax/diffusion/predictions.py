"""Predictions: what the network gets, and what its output means: noise, the clean image or v."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Array, Float

from genax.diffusion.process import Process, expand

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
    """

    target: Target
    clean: Clean
    inputs: Inputs = as_they_are


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


def at_times(
    network: Callable[..., Array], process: Process, prediction: Prediction
) -> Callable[..., Array]:
    """Return the network as a function of noisy images, the process's times and conditions.

    A second time of the process, `end`, is scaled like the first.
    """

    def inputs(noisy, times):
        signal, sigma = (expand(f(times), noisy) for f in (process.signal, process.sigma))
        return prediction.inputs(noisy, times, signal, sigma)

    def call(noisy, times, end=None, **arguments):
        if end is not None:
            arguments["end"] = inputs(noisy, end)[1]
        return network(*inputs(noisy, times), **arguments)

    return call


def predict_clean(
    process: Process,
    prediction: Prediction,
    output: Float[Array, "b ..."],
    noisy: Float[Array, "b ..."],
    timesteps: Array,
    clip: bool = False,
) -> Float[Array, "b ..."]:
    """Return the clean image that an output stands for. For EPSILON, Ho et al. 2020, eq. 15.

    clip: clip to [-1, 1], the range of images, as the paper's code does when sampling.
    """
    signal, sigma = (expand(f(timesteps), noisy) for f in (process.signal, process.sigma))
    clean = prediction.clean(output, noisy, signal, sigma)
    return clean.clip(-1.0, 1.0) if clip else clean


def noise_of(
    process: Process, clean: Float[Array, "b ..."], noisy: Float[Array, "b ..."], timesteps: Array
) -> Float[Array, "b ..."]:
    """Return the noise that turns `clean` into `noisy`."""
    signal, sigma = (expand(f(timesteps), noisy) for f in (process.signal, process.sigma))
    return (noisy - signal * clean) / sigma
