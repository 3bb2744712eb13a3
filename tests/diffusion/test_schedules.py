"""Schedules and respacing, by their formulas in float64, and as diffusers and their authors do."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import CLEAN, EPSILON, V, with_variance
from genax.diffusion.process import DiscreteProcess, learned_range, look_up, network_times
from genax.diffusion.respacing import in_sections, respaced
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import (
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
    zero_terminal_snr,
)
from genax.diffusion.solvers import ancestral, ddim
from genax.diffusion.spacings import leading, trailing
from tests.diffusion.toys import PROCESS, WavyDenoiser, run
from tests.parity import require

SCHEDULES = {
    "linear": linear_betas,
    "scaled_linear": partial(scaled_linear_betas, start=1e-4, end=0.02),
    "squaredcos_cap_v2": cosine_betas,
    "sigmoid": sigmoid_betas,
}
ZERO = DiscreteProcess(zero_terminal_snr(linear_betas()))


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_agree_with_diffusers(name):
    _, diffusers = require("torch", "diffusers")
    for num in (1000, 40):
        betas = diffusers.DDPMScheduler(num, beta_schedule=name).betas
        ours = SCHEDULES[name](num)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, betas, rtol=2e-5, atol=1e-7)


def test_the_cosine_schedule_by_its_formula():
    """Nichol & Dhariwal 2021, eq. 17, with betas of at most 0.999."""
    betas = cosine_betas(100)
    product = [np.cos((t / 100 + 0.008) / 1.008 * np.pi / 2) ** 2 for t in range(101)]
    expected = [min(1 - product[t + 1] / product[t], 0.999) for t in range(100)]
    np.testing.assert_allclose(betas, expected, rtol=1e-12)
    assert betas[-1] == 0.999


def test_linear_ends_are_scaled_only_if_asked():
    assert linear_betas(100)[[0, -1]].tolist() == [1e-4, 0.02]
    assert DiscreteProcess(linear_betas(100)).alphas_cumprod[-1] > 0.36
    np.testing.assert_allclose(linear_betas(100, scaled=True)[[0, -1]], [1e-3, 0.2])
    assert DiscreteProcess(linear_betas(100, scaled=True)).alphas_cumprod[-1] < 1e-4
    np.testing.assert_array_equal(linear_betas(1000, scaled=True), linear_betas())
    with pytest.raises(GenaxError, match="between 0 and 1"):
        DiscreteProcess(linear_betas(10, scaled=True))


def test_zero_terminal_snr_leaves_no_signal_and_the_first_step():
    """Lin et al. 2023, algorithm 1, as diffusers computes it in float32."""
    assert ZERO.alphas_cumprod[-1] == 0
    assert ZERO.betas[0] == pytest.approx(1e-4, rel=1e-9)
    assert float(ZERO.signal(jnp.array([999]))[0]) == 0
    [diffusers] = require("diffusers")
    theirs = diffusers.DDPMScheduler(rescale_betas_zero_snr=True).betas.numpy()
    np.testing.assert_allclose(ZERO.betas, theirs, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("prediction", [EPSILON, with_variance(EPSILON)])
def test_noise_cannot_be_predicted_without_signal(prediction):
    batch = {"image": np.zeros((2, 4, 4, 1), np.float32), "index": np.arange(2)}
    loss = partial(denoising_loss, process=ZERO, prediction=prediction)
    draw = partial(sample, process=ZERO, prediction=prediction, shape=(4, 4, 1))
    for function in (loss, partial(draw, solver=ddim(ZERO, trailing(1000, 3)))):
        with pytest.raises(GenaxError, match=r"zero terminal SNR.*predict v or the clean image"):
            run(function, WavyDenoiser(), batch)


@pytest.mark.parametrize("prediction", [CLEAN, V])
def test_other_predictions_need_no_signal(prediction):
    batch = {"image": np.zeros((2, 4, 4, 1), np.float32), "index": np.arange(2)}
    loss = partial(denoising_loss, process=ZERO, prediction=prediction)
    assert np.isfinite(run(loss, WavyDenoiser(), batch).values).all()
    for solver in (ddim(ZERO, trailing(1000, 3)), ancestral(ZERO)):
        draw = partial(sample, process=ZERO, prediction=prediction, shape=(4, 4, 1), solver=solver)
        assert np.isfinite(run(draw, WavyDenoiser(), batch)).all()


def test_respacing_is_that_of_its_authors():
    """The loop of their SpacedDiffusion, in float64."""
    kept = leading(1000, 40)
    spaced = respaced(PROCESS, kept)
    last, betas, numbers = 1.0, [], []
    for number, product in enumerate(np.cumprod(1.0 - PROCESS.betas)):
        if number in set(kept.tolist()):
            betas.append(1 - product / last)
            last = product
            numbers.append(number)
    np.testing.assert_allclose(spaced.betas, betas, rtol=1e-12)
    np.testing.assert_array_equal(spaced.numbers, numbers)
    np.testing.assert_allclose(spaced.alphas_cumprod, PROCESS.alphas_cumprod[numbers], rtol=1e-12)
    again = respaced(spaced, [0, 2, 39])
    np.testing.assert_array_equal(again.numbers, np.array(numbers)[[0, 2, 39]])
    whole = respaced(PROCESS, range(1000))
    np.testing.assert_allclose(whole.betas, PROCESS.betas, rtol=1e-9)


def test_a_section_has_evenly_spaced_timesteps():
    """What their space_timesteps gives for 300 timesteps and "10,15,20", and for one section."""
    kept = in_sections(300, [10, 15, 20])
    assert len(kept) == 45
    np.testing.assert_array_equal(kept[::-1][:10], [0, 11, 22, 33, 44, 55, 66, 77, 88, 99])
    np.testing.assert_array_equal(kept[[0, 19, 20, 34, 35]], [299, 200, 199, 100, 99])
    np.testing.assert_array_equal(in_sections(1000, [4]), [999, 666, 333, 0])
    np.testing.assert_array_equal(in_sections(10, [2, 1, 1]), [7, 4, 3, 0])
    for counts in ([0], [11], []):
        with pytest.raises(GenaxError, match=r"choose between 1 and 10|no counts are given"):
            in_sections(10, counts)


def test_the_network_gets_the_original_timesteps():
    seen: list = []

    class Watched(nn.Module):
        @nn.compact
        def __call__(self, x, timesteps, train=False):
            one = self.param("one", nn.initializers.ones, ())
            jax.debug.callback(lambda t: seen.append(np.asarray(t)), timesteps, ordered=True)
            return one * jnp.sin(x)

    spaced = respaced(PROCESS, [0, 10, 500, 999])
    draw = partial(sample, process=spaced, shape=(2, 2, 1), solver=ancestral(spaced))
    run(draw, Watched(), {"index": np.arange(2)}).block_until_ready()
    jax.effects_barrier()
    np.testing.assert_array_equal(seen, [[999] * 2, [500] * 2, [10] * 2, [0] * 2])
    times = jnp.arange(3)
    assert network_times(PROCESS, times) is times
    between = network_times(spaced, jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(between, [5, 500])


@pytest.mark.parametrize("kept", [[], [3, 3], [0, 1000], [-1, 5], [0.5], [[1]]])
def test_timesteps_that_cannot_be_kept_are_refused(kept):
    with pytest.raises(GenaxError, match="whole numbers from 0 to 999"):
        respaced(PROCESS, np.array(kept))
    with pytest.raises(GenaxError, match="2 numbers for 1000 timesteps"):
        DiscreteProcess(PROCESS.betas, numbers=np.arange(2))


@pytest.mark.parametrize("wrong", [1000, -1])
def test_timesteps_outside_the_schedule_are_refused(wrong):
    for table in (PROCESS.signal, PROCESS.sigma):
        with pytest.raises(GenaxError, match=f"timestep {wrong}: its timesteps are 0 to 999"):
            table(jnp.array([5, wrong]))
        # What no exception can say says NaN.
        assert np.isnan(jax.jit(table)(jnp.array([5, wrong]))).tolist() == [False, True]
        with pytest.raises(GenaxError, match=r"timestep .*: its timesteps are 0 to 999"):
            table(jnp.array([0.5, wrong]))
    with pytest.raises(GenaxError, match="float32: its timesteps are the whole numbers"):
        look_up(PROCESS.betas, jnp.array([0.5]))


def test_more_steps_than_the_schedule_has_are_refused():
    spaced = respaced(PROCESS, leading(1000, 50))
    with pytest.raises(GenaxError, match="51 sampling steps of a process of 50 timesteps"):
        ddim(spaced, leading(spaced.num_timesteps, 51))
    with pytest.raises(GenaxError, match="times from 0 to 49"):
        ddim(spaced, leading(1000, 10))


def test_ends_of_learned_variances_are_the_fixed_ones():
    """Nichol & Dhariwal 2021, eq. 15, and the clipped posterior of their code."""
    low, high = learned_range(PROCESS)
    np.testing.assert_array_equal(high, PROCESS.betas)
    np.testing.assert_array_equal(low[1:], PROCESS.posterior_variance[1:])
    assert low[0] == PROCESS.posterior_variance[1]
