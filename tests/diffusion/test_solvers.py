"""Solvers: as their papers and diffusers have them, and on data where the answer is known."""

from __future__ import annotations

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genax.core import GenaxError
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.process import fixed_large, fixed_small
from genax.diffusion.sampling import given_images, sample
from genax.diffusion.solvers import (
    Churn,
    ancestral,
    ddim,
    ddim_inversion,
    dpm_2,
    dpm_solver_2m,
    euler,
    flow_heun,
    heun,
    lms,
    pndm,
)
from genax.diffusion.spacings import exponential, flow, karras, leading, linspace, trailing
from genax.diffusion.variance_exploding import VarianceExploding
from genax.running.flops import equations
from tests.cli.command import call
from tests.compilation import USERS_OPTIONS
from tests.diffusion import direct
from tests.diffusion.side_by_side import (
    agree,
    agree_from_end_to_end,
    give_noise,
    in_float64,
    ours_of,
    ours_of_network,
    theirs_of,
    wavy,
)
from tests.diffusion.toys import (
    DEVIATION,
    MEAN,
    MORE_NOISE,
    NOISE,
    PROCESS,
    GaussianDenoiser,
    WavyDenoiser,
    gaussian_clean,
    run,
)
from tests.parity import require

EXPLODING = VarianceExploding()
SHAPE = (4, 4, 1)


def steps_of(solver, clip=True):
    return ours_of_network(solver, PROCESS, wavy, clip=clip)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("variance", [fixed_small, fixed_large])
def test_ancestral_agrees_with_diffusers_step_for_step(variance, clip, monkeypatch):
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="linear", variance_type=variance.__name__, clip_sample=clip
    )
    in_float64(scheduler)
    seen, times, samples = steps_of(ancestral(PROCESS, variance), clip)
    assert times == list(range(1000))[::-1]
    give_noise(scheduler, monkeypatch)
    # Both chains go on from our samples, so that rounding does not add up.
    for number, timestep in enumerate(scheduler.timesteps):
        x = torch.from_numpy(np.array(seen[number]))
        expected = scheduler.step(wavy(x, timestep), timestep, x).prev_sample.numpy()
        agree([[*seen[1:], samples][number]], [expected], 1e-5)


@pytest.mark.parametrize(
    ("eta", "clip", "spacing", "num_steps"),
    [
        (0.0, True, leading, 1000),
        (0.0, False, leading, 50),
        (1.0, True, leading, 7),
        (0.5, False, trailing, 100),
    ],
)
def test_ddim_agrees_with_diffusers_step_for_step(eta, clip, spacing, num_steps):
    torch, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="linear", clip_sample=clip, timestep_spacing=spacing.__name__
    )
    in_float64(scheduler)
    scheduler.set_timesteps(num_steps)
    seen, times, samples = steps_of(ddim(PROCESS, spacing(1000, num_steps), eta), clip)
    np.testing.assert_array_equal(times, scheduler.timesteps)
    for number, timestep in enumerate(scheduler.timesteps):
        x = torch.from_numpy(np.array(seen[number]))
        noise = torch.from_numpy(MORE_NOISE[number + 1]) if eta else None
        expected = scheduler.step(
            wavy(x, timestep),
            timestep,
            x,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=noise,
        )
        agree([[*seen[1:], samples][number]], [expected.prev_sample.numpy()], 1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 20])
def test_dpm_solver_agrees_with_diffusers_step_for_step(num_steps, monkeypatch):
    _, diffusers = require("torch", "diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule="linear", timestep_spacing="trailing"
    )
    in_float64(scheduler)
    scheduler.set_timesteps(num_steps)
    theirs = theirs_of(scheduler, monkeypatch, wavy)
    solver = dpm_solver_2m(PROCESS, trailing(1000, num_steps))
    agree_from_end_to_end(steps_of(solver, clip=False), theirs)


@pytest.mark.parametrize(
    ("corrected", "churn"),
    [
        (True, None),
        (True, Churn(40, 0.05, 50, 1.003)),
        (True, Churn(2.5, 0.5, 30)),
        (False, Churn(2.5, 0.5, 30)),
    ],
    ids=["heun", "imagenet", "some", "euler"],
)
@pytest.mark.parametrize("num_steps", [6, 18])
def test_heun_is_the_algorithm_of_edm(num_steps, corrected, churn):
    """Karras et al. 2022, algorithm 2 in float64; n steps are 2n - 1 evaluations."""
    sigmas = [*karras(num_steps), 0.0]
    calls, times = [], []

    def denoise(x, sigma):
        calls.append(np.array(x))
        times.append(sigma)
        return np.tanh(x / (1 + sigma))

    x = np.asarray(NOISE, np.float64) * sigmas[0]
    for number, (sigma, after) in enumerate(itertools.pairwise(sigmas), start=1):
        raised = sigma
        if churn and churn.smallest <= sigma <= churn.largest:
            raised = sigma + min(churn.amount / num_steps, math.sqrt(2) - 1) * sigma
            x = x + math.sqrt(raised**2 - sigma**2) * churn.noise * MORE_NOISE[number]
        slope = (x - denoise(x, raised)) / raised
        first = x + (after - raised) * slope
        if after and corrected:
            other = (first - denoise(first, after)) / after
            first = x + (after - raised) * (slope / 2 + other / 2)
        x = first
    solver = (heun if corrected else euler)(EXPLODING, karras(num_steps), churn)
    ours = ours_of(solver, lambda x, sigma: jnp.tanh(x / (1 + sigma)))
    assert len(times) == (2 * num_steps - 1 if corrected else num_steps)
    agree_from_end_to_end(ours, (calls, times, x), 1e-5, times_tolerance=0.0)


@pytest.mark.long
def test_churn_of_a_discrete_process_stays_within_it():
    """Noise rises to the last timestep at most, and samples keep the process's variance."""
    calls = []

    def denoise(noisy, time):
        jax.debug.callback(lambda *row: calls.append(row), time, noisy.std(), ordered=True)
        return gaussian_clean(PROCESS, noisy, time)

    solver = heun(PROCESS, trailing(1000, 50), Churn(20.0), end=0)
    noise = jax.random.normal(jax.random.key(0), (2000,))
    draw = partial(jax.random.normal, shape=(2000,))
    samples = jax.jit(lambda: solver(denoise, noise, lambda number: draw(jax.random.key(number))))()
    jax.effects_barrier()
    times, deviations = np.array(calls).T
    assert times.max() == 999
    at = jnp.asarray(times)
    signal, sigma = PROCESS.signal(at), PROCESS.sigma(at)
    np.testing.assert_allclose(deviations, jnp.hypot(signal * DEVIATION, sigma), rtol=0.1)
    assert samples.std() == pytest.approx(DEVIATION, rel=0.2)


class Uninvertible:
    """A process that cannot tell the time of an amount of noise."""

    def __init__(self, process):
        for name in ("sample_time", "signal", "sigma", "prior"):
            setattr(self, name, getattr(process, name))


@pytest.mark.parametrize(
    "solver", [dpm_2, partial(euler, churn=Churn(1)), partial(heun, churn=Churn(1))]
)
def test_refuses_a_process_that_finds_no_times(solver):
    with pytest.raises(GenaxError, match=r"Uninvertible has no method time_of\(ratios\)"):
        solver(Uninvertible(EXPLODING), karras(3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": -1},
        {"amount": 1, "noise": -1},
        {"amount": float("nan")},
        {"amount": 1, "smallest": 2, "largest": 1},
    ],
)
def test_refuses_wrong_churn(wrong):
    with pytest.raises(GenaxError, match="at least 0, and smallest at most largest"):
        Churn(**wrong)


@pytest.mark.parametrize("forward", [True, False], ids=["from-noise", "from-data"])
def test_ddim_and_its_inversion_are_a_round_trip(forward):
    """There and back again, with an error of first order."""
    images = NOISE if forward else MEAN + DEVIATION * NOISE
    denoise, errors = partial(gaussian_clean, PROCESS), []
    for num_steps in (100, 200):
        ways = [
            solver(PROCESS, trailing(1000, num_steps), end=0) for solver in (ddim, ddim_inversion)
        ]
        there, back = ways if forward else reversed(ways)

        def trip(there=there, back=back):
            middle = there(denoise, images, None)
            return middle, back(denoise, middle, None)

        middle, again = jax.jit(trip)()
        assert np.abs(middle - images).max() > 0.5
        errors.append(np.abs(again - images).max())
    assert errors[1] < 0.15
    assert 1.7 < errors[0] / errors[1] < 2.3, errors


def test_images_of_a_batch_are_turned_into_noise():
    images = MEAN + DEVIATION * np.asarray(jax.random.normal(jax.random.key(0), (64, 8, 8, 1)))
    function = partial(
        sample,
        solver=ddim_inversion(PROCESS, leading(1000, 100)),
        process=PROCESS,
        shape=(8, 8, 1),
        clip_denoised=False,
        start=given_images,
    )
    noise = run(function, GaussianDenoiser(), {"index": np.arange(64), "image": images})
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(1, rel=0.05)
    assert np.corrcoef(noise.ravel(), images.ravel())[0, 1] > 0.99
    clipping = partial(function, clip_denoised=True)
    with pytest.raises(GenaxError, match="noise in clean images cannot be told after clipping"):
        run(clipping, GaussianDenoiser(), {"index": np.arange(64), "image": images})


@pytest.mark.parametrize("solver", [euler, flow_heun, ddim])
def test_there_may_be_no_signal_at_the_first_time(solver):
    """Noise of a straight path goes to the data of its Gaussian."""
    process, times = LinearFlow(), flow(100)
    assert times[0] == 1
    denoise = partial(gaussian_clean, process)
    samples = jax.jit(lambda: solver(process, times)(denoise, NOISE, None))()
    np.testing.assert_allclose(samples, MEAN + DEVIATION * NOISE, atol=0.02)


SOLVERS = {
    "ancestral": lambda times: ancestral(PROCESS, timesteps=times),
    "ddim": lambda times: ddim(PROCESS, times, 0.5),
    "pndm": lambda times: pndm(PROCESS, times),
    "lms": lambda times: lms(PROCESS, times),
    "euler": lambda times: euler(PROCESS, times, Churn(1)),
    "heun": lambda times: heun(PROCESS, times, Churn(1)),
    "dpm_2": lambda times: dpm_2(PROCESS, times),
    "flow_heun": lambda times: flow_heun(PROCESS, times),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_no_product_has_the_default_precision_of_a_device(name):
    """A TPU multiplies float32 arrays with 8 bits unless it is told otherwise."""
    solver = SOLVERS[name](leading(1000, 7))
    denoise = lambda noisy, time: jnp.tanh(noisy)  # noqa: E731
    program = jax.make_jaxpr(lambda: solver(denoise, NOISE, lambda number: NOISE))()
    found = {
        equation.params["precision"]
        for equation in equations(program.jaxpr)
        if equation.primitive.name == "dot_general"
    }
    assert found <= {(lax.Precision.HIGHEST, lax.Precision.HIGHEST)}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_is_one_loop_whatever_the_number_of_steps(name):
    """The denoising function is traced as often, in as many operations."""
    found = []
    for num_steps in (7, 70):
        calls = []

        def denoise(noisy, time, calls=calls):
            calls.append(time)
            return jnp.tanh(noisy)

        solver = SOLVERS[name](leading(1000, num_steps))
        program = jax.make_jaxpr(
            lambda solver=solver: solver(denoise, NOISE, lambda number: NOISE)
        )()
        loops = sum(equation.primitive.name == "scan" for equation in program.eqns)
        found.append((len(calls), loops, len(program.eqns)))
    assert found[0] == found[1]
    assert found[0][1] == 1


FEW, MANY = leading(1000, 7), trailing(1000, 50)


@pytest.mark.long
@pytest.mark.parametrize(
    ("solver", "written_out", "clip"),
    [
        (ancestral(PROCESS), direct.ancestral_sampler, True),
        (ddim(PROCESS, FEW, 0.7), partial(direct.ddim_sampler, timesteps=FEW, eta=0.7), False),
        (ddim(PROCESS, MANY), partial(direct.ddim_sampler, timesteps=MANY, eta=0.0), True),
    ],
    ids=["ancestral", "ddim-noise", "ddim"],
)
def test_solvers_and_the_loops_written_out_are_equal_to_the_bit(solver, written_out, clip):
    common = {"process": PROCESS, "shape": SHAPE, "clip_denoised": clip}
    batch = {"index": np.arange(3)}
    ours, theirs = (
        run(partial(draw, **common), WavyDenoiser(), batch, options=USERS_OPTIONS)
        for draw in (partial(sample, solver=solver), written_out)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_a_solver_of_ones_own_is_a_function():
    def one_step(denoise, noise, draw):
        return denoise(noise, 999) + 0.1 * draw(1)

    function = partial(sample, solver=one_step, process=PROCESS, shape=SHAPE, clip_denoised=False)
    samples = run(function, GaussianDenoiser(), {"index": np.arange(64)})
    assert samples.mean() == pytest.approx(MEAN, abs=0.02)
    assert samples.std() == pytest.approx(0.1, rel=0.1)


def test_euler_is_ddim_without_noise():
    timesteps = trailing(1000, 20)
    *_, one = steps_of(euler(PROCESS, timesteps))
    *_, other = steps_of(ddim(PROCESS, timesteps))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("solver", "process", "steps", "order"),
    [
        (euler, EXPLODING, (50, 100, 200), 1),
        (heun, EXPLODING, (20, 40, 80), 2),
        (ddim, PROCESS, (50, 100, 200), 1),
        (euler, PROCESS, (50, 100, 200), 1),
        (dpm_solver_2m, EXPLODING, (80, 160, 320), 2),
    ],
)
def test_error_falls_at_the_order_of_the_solver(solver, process, steps, order):
    """On Gaussian data the exact flow keeps each pixel's number of deviations from the mean."""
    errors = []
    for num_steps in steps:
        times = karras(num_steps, 1e-3) if process is EXPLODING else trailing(1000, num_steps)
        first = jnp.asarray(times[:1])
        signal, sigma, prior = (f(first)[0] for f in (process.signal, process.sigma, process.prior))
        solve = partial(solver(process, times), partial(gaussian_clean, process))
        samples = jax.jit(solve, static_argnums=1)(NOISE, None)
        spread = np.sqrt((signal * DEVIATION) ** 2 + sigma**2)
        exact = MEAN + DEVIATION * (prior * NOISE - signal * MEAN) / spread
        errors.append(np.abs(samples - exact).max())
    assert errors[0] < 0.1
    for coarse, fine in itertools.pairwise(errors):
        assert 0.85 * 2**order < coarse / fine < 1.15 * 2**order, errors


@pytest.mark.long
@pytest.mark.parametrize(
    "solver",
    [
        ancestral(PROCESS, fixed_small),
        ancestral(PROCESS, fixed_large),
        ddim(PROCESS, leading(1000, 250), eta=1.0),
    ],
)
def test_samples_have_the_distribution_of_the_data(solver):
    function = partial(sample, solver=solver, process=PROCESS, shape=(8, 8, 1), clip_denoised=False)
    images = run(function, GaussianDenoiser(), {"index": np.arange(64)})
    assert images.shape == (64, 8, 8, 1)
    assert images.mean() == pytest.approx(MEAN, abs=0.02)
    assert images.std() == pytest.approx(DEVIATION, rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize("solver", [ancestral(PROCESS), ddim(PROCESS, leading(1000, 10), eta=1.0)])
def test_a_sample_depends_on_its_index_only(solver):
    function = partial(sample, solver=solver, process=PROCESS, shape=SHAPE)
    many = run(function, WavyDenoiser(), {"index": np.arange(5)})
    few = run(function, WavyDenoiser(), {"index": np.array([3, 1])})
    np.testing.assert_allclose(few, many[jnp.array([3, 1])], atol=1e-5)
    assert not np.allclose(many[0], many[1])
    assert not np.allclose(few, run(function, WavyDenoiser(), {"index": np.array([3, 1])}, seed=1))


@pytest.mark.parametrize("spacing", [leading, trailing])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 333, 999, 1000])
def test_spacings_fall_within_range(spacing, num_steps):
    timesteps = spacing(1000, num_steps)
    assert len(timesteps) == num_steps
    assert np.all(np.diff(timesteps) < 0)
    assert timesteps[-1] >= 0
    assert timesteps[0] < 1000
    if spacing is trailing:
        assert timesteps[0] == 999


def test_sigmas_are_those_of_edm():
    """Karras et al. 2022, eq. 5, by its formula."""
    rising, count = 1 / 7, 18
    expected = [
        (80**rising + i / (count - 1) * (0.002**rising - 80**rising)) ** 7 for i in range(count)
    ]
    np.testing.assert_allclose(karras(18), expected, rtol=1e-12)
    for wrong in ({"num_steps": 1}, {"num_steps": 9, "smallest": 0.0}):
        with pytest.raises(GenaxError, match="at least 2 steps"):
            karras(**wrong)


def test_linspace_has_both_ends():
    np.testing.assert_array_equal(linspace(1000, 4), [999, 666, 333, 0])
    np.testing.assert_allclose(linspace(1000, 5, whole=False), [999, 749.25, 499.5, 249.75, 0])


def test_leading_with_an_offset():
    np.testing.assert_array_equal(leading(1000, 4, offset=1), [751, 501, 251, 1])
    for offset in (-1, 1):
        with pytest.raises(GenaxError, match=f"offset={offset} leads to timesteps"):
            leading(1000, 1000, offset)


def test_exponential_has_equal_ratios():
    np.testing.assert_allclose(exponential(3, 0.1, 10.0), [10, 1, 0.1])
    with pytest.raises(GenaxError, match="at least 2 steps"):
        exponential(1, 0.1, 10.0)


def test_times_of_a_flow_are_shifted_towards_the_noise():
    """Esser et al. 2024, eq. 23."""
    np.testing.assert_allclose(flow(4), [1, 0.75, 0.5, 0.25])
    even = flow(9, smallest=0.001)
    np.testing.assert_allclose(flow(9, 3.0, 0.001), 3 * even / (1 + 2 * even))
    for wrong in ((0,), (3, 0.0), (3, 1.0, 0.0), (3, 1.0, 1.5), (3, -1.0)):
        with pytest.raises(GenaxError, match="a shift above 0"):
            flow(*wrong)


@pytest.mark.parametrize("times", [[], [1, 1], [1, 2], [[3, 2]]])
@pytest.mark.parametrize("solver", [ddim, euler, heun, dpm_solver_2m])
def test_refuses_times_that_do_not_fall(solver, times):
    with pytest.raises(GenaxError, match="fall from noise to data"):
        solver(PROCESS, np.array(times))


@pytest.mark.parametrize(
    ("times", "end"), [([1000, 3], None), ([999.5, 3.0], None), ([3, -1], None), ([5, 3], -1)]
)
@pytest.mark.parametrize("solver", [euler, ddim, heun, lms, dpm_2, flow_heun])
def test_refuses_times_that_a_discrete_process_lacks(solver, times, end):
    with pytest.raises(GenaxError, match="times from 0 to 999"):
        solver(PROCESS, np.array(times), end=end)


def test_the_chain_has_whole_timesteps():
    with pytest.raises(GenaxError, match="whole numbers"):
        ancestral(PROCESS, timesteps=np.array([3.0, 1.5]))


@pytest.mark.parametrize("solver", [euler, ddim, heun, lms, dpm_2, flow_heun])
def test_refuses_an_end_above_the_last_time(solver):
    with pytest.raises(GenaxError, match="not above the last of the times"):
        solver(PROCESS, np.array([5, 3]), end=4)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), float("inf")])
def test_refuses_more_noise_than_there_is(eta):
    with pytest.raises(GenaxError, match=f"eta={eta} has to be from 0 to 1"):
        ddim(PROCESS, leading(1000, 10), eta)


@pytest.mark.parametrize("eta", [-0.5, 1.5])
def test_noise_is_checked_when_an_experiment_is_built(eta, tmp_path):
    settings = ("--config.dataset=digits", f"--config.ddim_eta={eta}", f"--workdir={tmp_path}")
    said = call("train", "experiments/diffusion/ddpm.py:digits", *settings).refusal()
    assert f"config.ddim_eta={eta}" in said
    assert not list(tmp_path.iterdir())


def test_the_runge_kutta_steps_need_steps():
    with pytest.raises(GenaxError, match="skip_prk_steps=True"):
        pndm(PROCESS, leading(1000, 3))


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_few_steps_of_pndm(num_steps):
    solver = pndm(PROCESS, trailing(1000, num_steps), skip_prk_steps=True)
    *_, samples = steps_of(solver)
    assert np.isfinite(samples).all()


@pytest.mark.parametrize("solver", [heun, lms, dpm_2, partial(pndm, skip_prk_steps=True)])
def test_refuses_to_divide_by_a_signal_that_is_not_there(solver):
    with pytest.raises(GenaxError, match=r"no signal at time 1\.0"):
        solver(LinearFlow(), flow(3))


@pytest.mark.parametrize("solver", [euler, ddim, heun, flow_heun])
def test_refuses_a_time_without_noise(solver):
    with pytest.raises(GenaxError, match=r"no noise at time 0\.0"):
        solver(LinearFlow(), np.array([0.9, 0.5, 0.0]))


@pytest.mark.parametrize("order", [0, 5])
def test_refuses_orders_that_lms_does_not_have(order):
    with pytest.raises(GenaxError, match="a whole number from 1 to 4"):
        lms(PROCESS, leading(1000, 3), order)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_refuses_steps_that_the_process_does_not_have(num_steps):
    with pytest.raises(GenaxError, match="between 1 and 1000"):
        leading(1000, num_steps)
