"""The likelihood of data under the probability flow, in bits per dimension."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core import GenaxError, Loss, example_keys, pure
from genax.core.task import Batch
from genax.diffusion import probability_flow
from genax.diffusion.dequantisation import dequantised
from genax.diffusion.predictions import EPSILON, Prediction, at_times, predict_clean
from genax.diffusion.probability_flow import velocity
from genax.diffusion.process import Process
from genax.nn.conditions import Condition, unconditional

# The method of diffrax and its evaluations of the network in a step: that of scipy's RK45, with
# which Song et al. 2021 measured.
METHOD, STAGES = "Dopri5", 6


def ode_bits_per_dim(
    nets: nn.Module,
    batch: Batch,
    process: Process,
    prediction: Prediction = EPSILON,
    condition: Condition = unconditional,
    smallest_time: float = 1e-5,
    largest_time: float = 1.0,
    num_levels: int | None = 256,
    probes: int | None = 1,
    tolerance: float = 1e-5,
    max_steps: int = 2_000,
) -> Loss:
    """Negative log likelihood by the probability flow (Song et al. 2021, section 4.3 and eq. 39).

    Values are bits per dimension, [b]. The flow takes data, at `smallest_time`, to noise, and the
    change of volume is the integral of its divergence. It serves any process in continuous time:
    score SDEs and flow matching alike. All examples share the steps of the solver, which bound the
    error of each of them.

    The result's metrics are "dopri5_evaluations" (of the network, once for each step's stage),
    "tolerance" and "probes" (0 for the exact divergence). Values are NaN if `max_steps` do not
    suffice.

    batch["image"]: [b, h, w, c] in [-1, 1].
    condition: further arguments of the denoiser.
    smallest_time: the paper's is 1e-5. The data is taken for a draw of the process at this time.
    largest_time: the data there is taken for noise of the process's `prior`.
    num_levels: a pixel's evenly spaced levels. They are dequantised: level k becomes uniform in
      [k, k + 1] / num_levels, scaled to [-1, 1], and the result is the bits of the levels. None
      gives the density of the images as they are.
    probes: random vectors of -1 and 1, one set for the whole solve, whose mean product with the
      Jacobian estimates the divergence (Hutchinson). None is the exact divergence, which costs as
      much as one probe a dimension.
    tolerance: bound of a step's error, relative and absolute. Below 1e-6 it is lost in float32.
    max_steps: bound of the number of steps.
    Raises GenaxError without diffrax and for settings that measure nothing.
    """
    if not 0 < smallest_time < largest_time or not tolerance > 0:
        raise GenaxError(
            f"ode_bits_per_dim: smallest_time={smallest_time} and largest_time={largest_time} have "
            f"to rise from a number above 0 (at 0 there is no noise), and tolerance={tolerance} "
            "has to be above 0."
        )
    if (probes is not None and probes < 1) or (num_levels is not None and num_levels < 2):
        raise GenaxError(
            f"ode_bits_per_dim: probes={probes} must be at least 1 or None, and "
            f"num_levels={num_levels} at least 2 or None."
        )
    diffrax = probability_flow.diffrax()
    image = batch["image"]
    if num_levels is not None:
        image = dequantised(nets, batch, num_levels)
    size = image[0].size
    arguments = condition(nets, batch)
    directions, scale = _directions(nets, batch, image, probes)
    times = jnp.full(len(image), smallest_time)
    network = at_times(pure(nets.denoiser, image, times, **arguments), process, prediction)

    def flow(time, noisy):
        times = jnp.full(len(noisy), time)
        output = network(noisy, times, **arguments)
        return velocity(
            process, time, noisy, predict_clean(process, prediction, output, noisy, times)
        )

    def slopes(time, state, _):
        velocity, push = jax.linearize(lambda x: flow(time, x), state[0])

        def along(direction):
            return (direction * push(direction)).reshape(len(image), -1).sum(-1)

        # The Jacobian's products with one direction at a time need the memory of one network.
        return velocity, scale * lax.map(along, directions).sum(0)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slopes),
        getattr(diffrax, METHOD)(),
        smallest_time,
        largest_time,
        None,
        (image, jnp.zeros(len(image))),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance, norm=_largest),
        max_steps=max_steps,
        throw=False,
    )
    noise, change = (values[-1] for values in solution.ys)
    deviation = process.prior(jnp.full(1, largest_time))
    density = jax.scipy.stats.norm.logpdf(noise, scale=deviation)
    nats = -(density.reshape(len(image), -1).sum(-1) + change) / size
    bits = nats / math.log(2) + (0.0 if num_levels is None else math.log2(num_levels / 2))
    bits = jnp.where(solution.result == diffrax.RESULTS.successful, bits, jnp.nan)
    aux = {
        f"{METHOD.lower()}_evaluations": STAGES * solution.stats["num_steps"] + 1.0,
        "tolerance": tolerance,
        "probes": float(probes or 0),
    }
    return Loss(bits, aux=aux)


def _directions(
    nets: nn.Module, batch: Batch, image: Float[Array, "b ..."], probes: int | None
) -> tuple[Float[Array, "probes b ..."], float]:
    """Return vectors, and the factor of the sum of their products with the Jacobian."""
    if probes is None:
        basis = jnp.eye(image[0].size).reshape(-1, 1, *image.shape[1:])
        return jnp.broadcast_to(basis, (len(basis), *image.shape)), 1.0
    keys = example_keys(nets, batch)

    def rademacher(key):
        return jax.random.rademacher(key, (probes, *image.shape[1:]), image.dtype)

    return jax.vmap(rademacher, out_axes=1)(keys), 1 / probes


def _largest(state: tuple[Array, Array]) -> Float[Array, ""]:
    """Return the largest root mean square of the errors of an example and of its volume."""
    pixels, change = state
    squares = jnp.square(pixels).reshape(len(pixels), -1).mean(-1)
    return jnp.sqrt(jnp.maximum(squares.max(), jnp.square(change).max()))
