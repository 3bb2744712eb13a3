"""Predictor-corrector and Langevin sampling: diffusers' steps, the papers' code, known data."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy.stats import norm

from genax.core import GenaxError
from genax.core.mesh import make_mesh
from genax.core.nets import BATCH_AXIS
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import CLEAN
from genax.diffusion.sampling import sample
from genax.diffusion.solvers.langevin import annealed_langevin
from genax.diffusion.solvers.predictor_corrector import (
    coefficients,
    euler_maruyama,
    predictor_corrector,
)
from genax.diffusion.variance_exploding import GeometricExploding, NoiseLevels
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from tests.diffusion.side_by_side import (
    agree,
    ours_of,
    theirs_of_score_sde_ve,
    theirs_of_score_sde_vp,
)
from tests.diffusion.toys import DEVIATION, MEAN, MORE_NOISE, NOISE, gaussian_clean
from tests.parity import require

SHAPE = (4, 4, 1)
STEPS = pytest.mark.parametrize("num_steps", [10, 25, 50])
VP = VariancePreserving(smallest_time=1e-3)


def bent(x):
    """A bounded function of jax's, numpy's and torch's arrays."""
    return x / (1 + x**2) ** 0.5


def states_of(solver):
    seen, _, samples = ours_of(solver, lambda x, time: bent(x))
    return [*seen, samples]


@pytest.fixture
def torch_float64():
    """Let torch compute tables in float64, since float32 loses digits in 1 - signal^2."""
    (torch,) = require("torch")
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@STEPS
@pytest.mark.usefixtures("torch_float64")
def test_agrees_with_score_sde_ve_step_for_step(num_steps, monkeypatch):
    _, diffusers = require("torch", "diffusers")
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=1348.0)
    seen, _, samples = theirs_of_score_sde_ve(
        scheduler, num_steps, monkeypatch, lambda x, sigma: (bent(x) - x) / sigma**2
    )
    # The scheduler steps through these sigmas, whose times are 1 to 0 and not 1 to 1e-5.
    process = GeometricExploding(0.01, 1348.0)
    times = np.linspace(1, 0, num_steps)
    ours = states_of(predictor_corrector(process, times, snr=0.15))
    agree(ours, [*seen, samples], 1e-4)


@STEPS
@pytest.mark.usefixtures("torch_float64")
def test_agrees_with_score_sde_vp_step_for_step(num_steps, monkeypatch):
    require("torch", "diffusers")
    from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

    def epsilon(x, t):
        total = np.exp(-0.1 * float(t) - 19.9 * float(t) ** 2 / 2)
        return (x - total**0.5 * bent(x)) / (1 - total) ** 0.5

    seen, _, samples = theirs_of_score_sde_vp(
        ScoreSdeVpScheduler(), num_steps, monkeypatch, epsilon
    )
    solver = predictor_corrector(
        VP, np.linspace(1, 1e-3, num_steps), predictor=euler_maruyama, corrections=0
    )
    agree(states_of(solver), [*seen, samples], 1e-4)


def test_the_chain_of_ddpm_with_corrections_is_that_of_the_paper():
    """Song et al. 2021, algorithms 3 and 5, with DDPM's betas, in float64."""
    num_steps, snr = 20, 0.01
    times = np.arange(num_steps, 0, -1) / num_steps
    integral = 0.1 * times + 19.9 * times**2 / 2
    totals = np.exp(-integral)
    x, draws = np.array(NOISE, np.float64), iter(MORE_NOISE[1:].astype(np.float64))

    def mean_norm(x):
        return np.linalg.norm(x.reshape(len(x), -1), axis=1).mean()

    for number, total in enumerate(totals):
        beta = 1 - total / np.append(totals, 1.0)[number + 1]
        for _ in range(2):
            score, z = (np.sqrt(total) * bent(x) - x) / (1 - total), next(draws)
            size = 2 * (1 - beta) * (snr * mean_norm(z) / mean_norm(score)) ** 2
            x = x + size * score + np.sqrt(2 * size) * z
        score = (np.sqrt(total) * bent(x) - x) / (1 - total)
        mean = (2 - np.sqrt(1 - beta)) * x + beta * score
        x = mean + np.sqrt(beta) * next(draws)
    solver = predictor_corrector(VariancePreserving(), times, snr=snr, corrections=2)
    states = states_of(solver)
    assert len(states) == 3 * num_steps + 1
    agree([states[-1]], [mean], 1e-4)


def test_coefficients_of_the_equations():
    """Song et al. 2021, eq. 9, 11 and 12."""
    t = np.linspace(0.01, 1, 9)
    beta = 0.1 + 19.9 * t
    at = jnp.asarray(t, jnp.float32)
    for process, drift, growth in (
        (VariancePreserving(), -beta / 2, beta),
        (
            SubVariancePreserving(),
            -beta / 2,
            beta * (1 - np.exp(-2 * 0.1 * t - 19.9 * t**2)),
        ),
        (GeometricExploding(), 0 * t, (0.02 * 5000**t) ** 2 * 2 * np.log(5000)),
    ):
        found = coefficients(process, at)
        np.testing.assert_allclose(found[0], drift, rtol=1e-4)
        np.testing.assert_allclose(found[1], growth, rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("process", "snr", "predictor"),
    [
        (GeometricExploding(), 0.1, None),
        (VariancePreserving(), 0.05, None),
        (SubVariancePreserving(), 0.05, euler_maruyama),
    ],
    ids=["ve", "vp", "sub-vp"],
)
def test_samples_have_the_distribution_of_the_data(process, snr, predictor):
    extra = {"predictor": predictor} if predictor else {}
    solver = predictor_corrector(process, np.linspace(1, 1e-3, 300), snr=snr, **extra)

    def normal(number):
        return jax.random.normal(jax.random.fold_in(jax.random.key(1), number), (400, *SHAPE))

    denoise = partial(gaussian_clean, process)
    samples = jax.jit(lambda: solver(denoise, normal(0), normal))()
    assert samples.mean() == pytest.approx(MEAN, abs=0.02)
    assert samples.std() == pytest.approx(DEVIATION, rel=0.06)


def test_annealed_langevin_is_that_of_the_papers_code():
    """anneal_Langevin_dynamics of Song & Ermon 2019, on images in [0, 1], in float64."""
    sigmas = np.exp(np.linspace(np.log(1.0), np.log(0.01), 10))

    def score(x, sigma):
        return ((bent(2 * x - 1) + 1) / 2 - x) / sigma**2

    x = norm.cdf(np.asarray(NOISE, np.float64))
    draws = iter(MORE_NOISE[1:].astype(np.float64))
    for sigma in sigmas:
        size = 2e-5 * (sigma / sigmas[-1]) ** 2
        for _ in range(7):
            x = x + size * score(x, sigma) + np.sqrt(size * 2) * next(draws)
    ours = states_of(annealed_langevin(NoiseLevels(), steps_per_level=7))
    assert len(ours) == 71
    agree([ours[-1]], [2 * x - 1], 1e-4)


class Smooth(nn.Module):
    """Expected clean samples that change slowly, so that rounding does not grow."""

    @nn.compact
    def __call__(self, x, times, train=False):
        return self.param("one", nn.initializers.ones, ()) * bent(x)


@pytest.mark.parametrize("layout", [pytest.param("jit", marks=pytest.mark.long), "pmap"])
def test_the_corrections_of_a_batch_are_the_same_on_several_devices(layout):
    process = GeometricExploding()
    solver = predictor_corrector(process, np.linspace(1, 1e-3, 8), snr=0.2)
    function = partial(
        sample,
        solver=solver,
        process=process,
        shape=SHAPE,
        prediction=CLEAN,
        clip_denoised=False,
    )
    apply = nn.apply(function, Networks(Smooth()))

    def draw(index):
        variables = {"params": {"denoiser": {"one": jnp.float32(1.0)}}}
        return apply(variables, {"index": index}, rngs={"example": jax.random.key(0)})

    index = jnp.arange(8)
    alone = jax.jit(draw)(index)
    if layout == "jit":
        mesh = make_mesh("data=2", jax.devices()[:2])
        spread = NamedSharding(mesh, PartitionSpec("data"))
        found = jax.jit(draw, in_shardings=spread, out_shardings=spread)(index)
        assert len(found.sharding.device_set) == 2
    else:
        parts = jax.pmap(draw, axis_name=BATCH_AXIS, devices=jax.devices()[:2])
        found = parts(index.reshape(2, 4)).reshape(8, *SHAPE)
    np.testing.assert_allclose(found, alone, atol=1e-4 * np.abs(alone).max())
    # A step of a part of the batch is another one, so the test would notice it.
    part = jax.jit(draw)(index[:4])
    assert np.abs(part - alone[:4]).max() > 1e-2 * np.abs(alone).max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: predictor_corrector(VP, np.array([1.0, 0.5]), snr=0.0), "snr=0.0"),
        (lambda: predictor_corrector(VP, np.array([1.0, 0.5]), corrections=-1), "corrections=-1"),
        (lambda: predictor_corrector(VP, np.array([0.5, 1.0])), "fall from noise to data"),
        (lambda: euler_maruyama(VP, np.array([0.5, 0.1])), "evenly spaced from 1 on"),
        (lambda: euler_maruyama(VP, np.array([1.0, 0.9, 0.1])), "evenly spaced from 1 on"),
        (lambda: annealed_langevin(NoiseLevels(), 0.0), "step_size=0.0"),
        (lambda: annealed_langevin(NoiseLevels(), steps_per_level=0), "steps_per_level=0"),
    ],
)
def test_refuses(make, said):
    with pytest.raises(GenaxError, match=said):
        make()
