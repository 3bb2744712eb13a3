"""Optimal transport between the images and the noise of a batch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy.optimize import linear_sum_assignment

from genax.core import GenaxError
from genax.core.mesh import make_mesh
from genax.core.nets import BATCH_AXIS, seeing
from genax.diffusion.coupling import optimal_transport
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import VELOCITY
from tests.diffusion.toys import WavyDenoiser, run

RNG = np.random.default_rng(0)
CLEAN, NOISE = (jnp.asarray(x, jnp.float32) for x in RNG.normal(size=(2, 16, 2, 3, 1)))


def flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def test_the_order_is_that_of_least_distance():
    """torchcfm's OTPlanSampler: squared Euclidean distances, equal weights, the exact plan."""
    distances = np.square(flat(CLEAN)[:, None] - flat(NOISE)[None]).sum(-1)
    _, columns = linear_sum_assignment(distances)
    found = jax.jit(optimal_transport)(CLEAN, NOISE)
    np.testing.assert_array_equal(found, np.asarray(NOISE)[columns])
    assert len(set(columns)) == 16
    assert np.any(columns != np.arange(16))


@pytest.mark.parametrize("layout", ["jit", "pmap"])
def test_the_batch_is_the_global_one_on_several_devices(layout):
    alone, devices = jax.jit(optimal_transport)(CLEAN, NOISE), jax.devices()[:4]
    if layout == "jit":
        spread = NamedSharding(make_mesh("data=4", devices), PartitionSpec("data"))
        found = jax.jit(optimal_transport, in_shardings=(spread, spread))(CLEAN, NOISE)
    else:
        parts = (x.reshape(4, 4, *x.shape[1:]) for x in (CLEAN, NOISE))
        found = jax.pmap(optimal_transport, axis_name=BATCH_AXIS, devices=devices)(*parts)
    np.testing.assert_array_equal(np.reshape(found, alone.shape), alone)


def test_microbatches_are_refused():
    with seeing("microbatch"), pytest.raises(GenaxError, match=r"config\.accumulate=1"):
        optimal_transport(CLEAN, NOISE)


def test_a_loss_with_coupled_noise_has_less_noisy_targets():
    batch = {"image": CLEAN, "index": jnp.arange(16)}
    loss = partial(denoising_loss, process=LinearFlow(), prediction=VELOCITY)
    plain = run(loss, WavyDenoiser(), batch).values.mean()
    coupled = run(partial(loss, coupling=optimal_transport), WavyDenoiser(), batch).values.mean()
    assert coupled < 0.8 * plain
