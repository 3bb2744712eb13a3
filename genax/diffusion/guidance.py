"""Guidance: one output from several outputs of networks, with and without conditions.

A guide is a function, see `Guide`. One that calls other networks of the task, such as a classifier,
is an `OfNetworks`, which `sample` turns into such a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.core import GenaxError, pure
from genax.core.task import Batch
from genax.diffusion.conditions import nulled
from genax.diffusion.predictions import EPSILON, Prediction, at_times
from genax.diffusion.process import Process, expand, factors, network_times
from genax.nn.conditions import Condition, on_label

# (network, noisy, times, conditions) -> the output to use.
Guide = Callable[[Callable[..., Array], Array, Array, Mapping[str, Any]], Array]


@dataclass(frozen=True)
class OfNetworks:
    """Guide that calls other networks of the task.

    make: (nets, batch, noisy, times, conditions) -> guide. It makes pure functions of the networks,
      for which the noisy images and their times are examples.
    """

    make: Callable[[nn.Module, Batch, Array, Array, Mapping[str, Any]], Guide]


def bound(
    guide: Guide | OfNetworks,
    nets: nn.Module,
    batch: Batch,
    noisy: Array,
    times: Array,
    arguments: Mapping[str, Any],
) -> Guide:
    """Return the guide, with the networks that it calls."""
    if isinstance(guide, OfNetworks):
        return guide.make(nets, batch, noisy, times, arguments)
    return guide


def unguided(
    network: Callable[..., Array], noisy: Array, times: Array, arguments: Mapping[str, Any]
) -> Array:
    """Return the network's output with its conditions."""
    return network(noisy, times, **arguments)


def away_from(
    other: Float[Array, "b ..."],
    output: Float[Array, "b ..."],
    scale: float,
    times: Num[Array, " b"],
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    channels: int | None = None,
) -> Float[Array, "b ..."]:
    """Return other + scale * (output - other).

    interval: the least and the largest time at which to guide (Kynkaanniemi et al. 2024). The scale
      is 1 at other times. None means all times. Times are those of the process, also if it is
      respaced.
    rescale: how far the result's standard deviation, one for each image, is brought back to that of
      `output` (Lin et al. 2023, eq. 15 and 16): 0 not at all, 1 wholly.
    channels: channels that are guided. The others, such as learned variances, are those of
      `output`.
    Raises GenaxError for a rescale that is no share, and for an interval whose ends are exchanged.
    """
    if not 0 <= rescale <= 1 or (interval is not None and interval[0] > interval[1]):
        raise GenaxError(
            f"guidance: rescale={rescale} has to be from 0 to 1, and the interval {interval} the "
            "least and the largest time at which to guide."
        )
    if interval is None:
        strength: Any = scale
    else:
        guided = (interval[0] <= times) & (times <= interval[1])
        strength = expand(jnp.where(guided, scale, 1.0), output)
    count = output.shape[-1] if channels is None else channels
    given, kept = output[..., :count], output[..., count:]
    found = other[..., :count] + strength * (given - other[..., :count])
    if rescale:
        axes = tuple(range(1, given.ndim))
        spread = found.std(axes, keepdims=True)
        # An output that is the same everywhere has nothing to bring back.
        ratio = given.std(axes, keepdims=True) / jnp.where(spread > 0, spread, 1)
        found = rescale * found * jnp.where(spread > 0, ratio, 1) + (1 - rescale) * found
    return jnp.concatenate([found, kept], axis=-1) if kept.size else found


def classifier_free(
    scale: float,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    channels: int | None = None,
    **null: Any,
) -> Guide:
    """Classifier-free guidance: output without + scale * (output with - output without) conditions.

    The network is called once, on a batch of both halves. Learned variances are not guided.

    scale: strength of the guidance. 1 means no guidance, 0 drops the conditions. The w of Ho &
      Salimans 2022, eq. 6, is scale - 1.
    interval, rescale: see `away_from`.
    channels: channels of the image that are guided, None for all. The code of DiT (Peebles & Xie
      2023) guides 3 of 4.
    null: for each condition that guidance strengthens, the value that it had in training if it was
      dropped. Other conditions are the same in both halves.
    Raises GenaxError without a null value, and for one of no condition.
    """
    if not null:
        raise GenaxError(
            "classifier_free: no null value is given, without which the output has no condition to "
            "drop; name it as in training, such as label=unet.null_label."
        )

    def guide(network, noisy, times, arguments):
        both = jax.tree.map(
            lambda *halves: jnp.concatenate(halves), dict(arguments), nulled(arguments, null)
        )
        outputs = network(
            jnp.tile(noisy, (2,) + (1,) * (noisy.ndim - 1)), jnp.tile(times, 2), **both
        )
        given, absent = jnp.split(outputs, 2)
        # Channels beyond those of the image are learned variances.
        count = noisy.shape[-1] if channels is None else channels
        return away_from(absent, given, scale, times, interval, rescale, count)

    return guide


def autoguidance(
    scale: float,
    process: Process,
    prediction: Prediction = EPSILON,
    network: str = "guide",
    interval: tuple[float, float] | None = None,
) -> OfNetworks:
    """Guidance away from a worse network (Karras et al. 2024): worse + scale * (output - worse).

    The worse network is smaller or less trained, on the same conditions. Its own variances, if it
    has learned them, are not used.

    scale: strength of the guidance. 1 means none.
    process, prediction: those of both networks.
    network: name of the worse network among the task's.
    interval: see `away_from`.
    """

    def make(nets, batch, noisy, times, arguments):
        worse = at_times(
            pure(_named(nets, network), noisy, network_times(process, times), **arguments),
            process,
            prediction,
        )

        def guide(network, noisy, times, arguments):
            output, other = (f(noisy, times, **arguments) for f in (network, worse))
            return away_from(other, output, scale, times, interval, channels=noisy.shape[-1])

        return guide

    return OfNetworks(make)


def classifier_guidance(
    scale: float,
    process: Process,
    prediction: Prediction = EPSILON,
    classifier: str | Callable[[Array, Array], Array] = "guide",
    wanted: Condition = on_label,
) -> OfNetworks:
    """Guidance by the gradient of log p(label | noisy image) of a classifier of noisy images.

    The predicted noise is lowered by scale * sigma * gradient (Dhariwal & Nichol 2021, algorithm
    2), and other predictions by what that means for them. So the clean image moves by scale *
    sigma^2 / signal * gradient, and clipping comes afterwards. Algorithm 1 of the paper moves the
    mean of an ancestral step by scale * variance * gradient; with this function the mean moves by
    scale * beta / sqrt(1 - beta) * gradient. Learned variances are not guided.

    scale: factor of the gradient.
    process, prediction: those of the denoiser.
    classifier: name of a network of the task, (noisy, times) -> logits, or such a function of
      arrays that are given. It gets the times that the denoiser gets.
    wanted: gives the "label" of each image. The denoiser itself need not get labels.
    """

    def make(nets, batch, noisy, times, arguments):
        call = classifier
        if isinstance(call, str):
            call = pure(_named(nets, call), noisy, network_times(process, times))
        label = wanted(nets, batch)["label"]

        def log_probability(noisy, times):
            logs = jax.nn.log_softmax(call(noisy, network_times(process, times)))
            return jnp.take_along_axis(logs, label[:, None], axis=-1).sum()

        def guide(network, noisy, times, arguments):
            output = network(noisy, times, **arguments)
            signal, sigma = factors(process, times, noisy)
            slope = scale * sigma * jax.grad(log_probability)(noisy, times)
            # A target is linear in the clean image and the noise, and the noisy image stays.
            # Without signal the classifier sees noise, and no clean image moves.
            ratio = jnp.where(signal > 0, sigma / jnp.where(signal > 0, signal, 1), 0)
            slope = jnp.where(signal > 0, slope, 0)
            move = prediction.target(ratio * slope, -slope, signal, sigma)
            return output.at[..., : noisy.shape[-1]].add(move)

        return guide

    return OfNetworks(make)


def _named(nets: nn.Module, name: str) -> nn.Module:
    network = getattr(nets, name, None)
    if not isinstance(network, nn.Module):
        raise GenaxError(
            f"guidance calls the network {name!r}, which the task does not have: name it among "
            "the task's networks, such as GuidedNetworks(denoiser, guide)."
        )
    return network
