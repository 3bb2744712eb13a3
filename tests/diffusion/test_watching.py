"""Solvers that are watched: they call back in order, show states, and return the same samples."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.process import learned_range
from genax.diffusion.sampling import Denoiser, sample
from genax.diffusion.solvers import Churn, ancestral, ddim, euler, flow_heun, heun, lms, pndm
from genax.diffusion.spacings import flow, karras, leading
from genax.diffusion.variance_exploding import VarianceExploding
from genax.diffusion.watching import filmed, with_progress
from genax.evaluation.pictures import film_strip
from tests.diffusion.toys import NOISE, PROCESS, GaussianDenoiser, run

EXPLODING = VarianceExploding()
LEADING, KARRAS, FLOW = leading(1000, 6), karras(6), flow(6)
SOLVERS = {
    "ancestral": (ancestral(PROCESS, timesteps=LEADING), PROCESS, LEADING),
    "ddim": (ddim(PROCESS, LEADING, eta=0.5), PROCESS, LEADING),
    "pndm": (pndm(PROCESS, LEADING), PROCESS, LEADING),
    "pndm-skip": (pndm(PROCESS, LEADING, skip_prk_steps=True), PROCESS, LEADING),
    "euler": (euler(EXPLODING, KARRAS), EXPLODING, KARRAS),
    "heun": (heun(EXPLODING, KARRAS), EXPLODING, KARRAS),
    "churn": (heun(EXPLODING, KARRAS, Churn(3.0)), EXPLODING, KARRAS),
    "lms": (lms(EXPLODING, KARRAS), EXPLODING, KARRAS),
    "flow_heun": (flow_heun(LinearFlow(), FLOW), LinearFlow(), FLOW),
}

# The others run with all tests.
DAILY = ("ancestral", "heun", "pndm")
NAMES = [
    pytest.param(name, marks=() if name in DAILY else pytest.mark.long, id=name) for name in SOLVERS
]


def solved(solver):
    """The compiled solver, whose noise and denoising function are known."""

    def denoise(noisy, time):
        return jnp.tanh(noisy / (1 + time))

    return jax.jit(lambda: solver(denoise, NOISE, lambda number: jnp.roll(NOISE, number)))


@pytest.mark.parametrize("name", NAMES)
def test_progress_comes_once_a_step_in_order(name):
    solver, _, times = SOLVERS[name]
    calls = []
    watched = solved(with_progress(solver, times, lambda *call: calls.append(call)))
    expected = [(step, 6) for step in range(1, 7)]
    for repeat in (1, 2):
        samples = watched()
        jax.effects_barrier()
        assert calls == expected * repeat
    assert watched._cache_size() == 1
    np.testing.assert_allclose(samples, solved(solver)(), rtol=1e-5, atol=1e-6)


def test_no_progress_leaves_the_solver_as_it_is():
    solver = SOLVERS["ddim"][0]
    assert with_progress(solver, LEADING, None) is solver


def test_progress_moves_a_bar():
    solver, _, times = SOLVERS["heun"]
    with tqdm(total=len(times), disable=None) as bar:
        seen = []

        def progress(step, total):
            bar.update(step - bar.n)
            seen.append(bar.n)

        solved(with_progress(solver, times, progress))()
        jax.effects_barrier()
    assert seen == [0] * 6 if bar.disable else list(range(1, 7))


def test_progress_of_samples_on_several_devices():
    """A batch that lies on four devices calls back as often as one on one device."""
    calls = []
    solver = with_progress(SOLVERS["euler"][0], KARRAS, lambda *call: calls.append(call[0]))
    mesh = jax.make_mesh((4,), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    noise = jax.device_put(jnp.ones((8, 2, 2, 1)), rows)
    samples = jax.jit(lambda noise: solver(lambda x, time: jnp.tanh(x), noise, None))(noise)
    samples.block_until_ready()
    jax.effects_barrier()
    assert calls == list(range(1, 7))


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_film_shows_the_last_state_of_each_time_and_the_samples(name, clean):
    solver, process, times = SOLVERS[name]
    chosen, seen = times[[0, 2, 5]], []

    def denoise(noisy, time):
        expected = jnp.tanh(noisy / (1 + time))
        jax.debug.callback(lambda *row: seen.append(row), time, noisy, expected, ordered=True)
        return expected

    states = jax.jit(
        lambda: filmed(solver, process, chosen, clean)(
            denoise, NOISE, lambda number: jnp.roll(NOISE, number)
        )
    )()
    jax.effects_barrier()
    assert states.shape == (2, 4, 4, 4, 1)
    for number, least in enumerate(np.float32(chosen)):
        time, noisy, expected = [row for row in seen if row[0] >= least][-1]
        at = jnp.asarray(time)[None]
        scale = jnp.sqrt(process.signal(at) ** 2 + process.sigma(at) ** 2)
        shown = expected if clean else noisy / scale
        np.testing.assert_allclose(states[:, number], shown, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(states[:, -1], solved(solver)(), rtol=1e-5, atol=1e-6)


def test_a_chain_with_learned_variances_is_watched():
    chain = ancestral(PROCESS, learned_range, LEADING)
    denoise = Denoiser(lambda noisy, time, end=None: (jnp.tanh(noisy), jnp.full(noisy.shape, 0.3)))
    calls = []
    watched = with_progress(chain, LEADING, lambda *call: calls.append(call))
    draw = partial(jnp.roll, NOISE)
    samples, states = jax.jit(
        lambda: (
            watched(denoise, NOISE, draw),
            filmed(chain, PROCESS, LEADING)(denoise, NOISE, draw),
        )
    )()
    jax.effects_barrier()
    assert len(calls) == 6
    np.testing.assert_allclose(states[:, -1], samples, rtol=1e-6)


def test_a_sampler_of_films():
    film = filmed(ddim(PROCESS, LEADING), PROCESS, LEADING[::2])
    function = partial(sample, solver=film, process=PROCESS, shape=(8, 8, 1))
    states = run(function, GaussianDenoiser(), {"index": np.arange(3)})
    assert states.shape == (3, 4, 8, 8, 1)
    # Noise in the first column, samples in the last.
    assert states[:, 0].std() > 0.8
    assert states[:, -1].std() < 0.5
    picture = film_strip(np.asarray(states))
    assert picture.size == (4 * 66 + 2, 3 * 66 + 2)
    tile = np.asarray(picture)[2:66, 2 + 3 * 66 : 3 * 66 + 66, 0]
    shown = np.rint((np.asarray(states[0, 3, ..., 0]).clip(-1, 1) + 1) * 127.5)
    np.testing.assert_array_equal(tile[::8, ::8], shown)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8, 1), (2, 3, 8, 8, 2)])
def test_refuses_what_is_no_film(shape):
    with pytest.raises(GenaxError, match="it draws"):
        film_strip(np.zeros(shape, np.float32))
