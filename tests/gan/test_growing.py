"""Progressive growing: its periods, what is trained in them, and how images fade in."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, Loss, tree
from genax.core.data import Shard
from genax.core.step import init_state
from genax.gan.growing import Period, blended, faded_loss, growth_of, periods
from genax.running import sampling
from genax.running.run import stage_data
from genax.settings.overrides import override
from tests.experiments import config_of, load

RNG = np.random.default_rng(0)
SCHEDULE = {
    "image_size": 16,
    "first_size": 4,
    "stable_images": 100,
    "fade_images": 60,
    "batch_size": 10,
    "learning_rate": 1.0,
}


def test_the_official_schedule():
    """Each resolution but the first fades in, then stays; the last one stays until the end."""
    found = [(p.size, p.fades, p.steps) for p in periods(**SCHEDULE)]
    assert found == [(4, False, 10), (8, True, 6), (8, False, 10), (16, True, 6), (16, False, None)]


def test_lengths_are_counted_in_images():
    """Half a batch is a step, so that a period shows at least as many images as it should."""
    found = periods(**SCHEDULE | {"batch_sizes": (40, 20), "learning_rates": (2.0, 3.0)})
    assert [p.batch_size for p in found] == [40, 20, 20, 10, 10]
    assert [p.steps for p in found] == [3, 3, 5, 6, None]
    assert [p.learning_rate for p in found] == [1.0, 2.0, 2.0, 3.0, 3.0]


def test_a_later_first_resolution():
    assert [p.size for p in periods(**SCHEDULE | {"first_size": 8})] == [8, 16, 16]
    assert [p.steps for p in periods(**SCHEDULE | {"first_size": 16})] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 28},
        {"first_size": 6},
        {"first_size": 32},
        {"batch_sizes": (1, 2, 3, 4)},
        {"learning_rates": (1.0,) * 4},
    ],
)
def test_schedules_that_are_refused(wrong):
    with pytest.raises(GenaxError, match=r"do not grow from 4x4|growing from"):
        periods(**SCHEDULE | wrong)


def test_a_share_grows_from_one_nth_to_one():
    period = Period(8, True, 4, 10, 1.0)
    shares = [float(period.share({"step": step})) for step in range(4)]
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert replace(period, fades=False).share({"step": 0}) is None


def test_real_images_fade_in_like_fakes():
    image = jnp.asarray(RNG.normal(size=(2, 8, 8, 1)), jnp.float32)
    seen = lambda nets, batch: Loss(batch["image"])  # noqa: E731
    at = partial(faded_loss, nn.Module(), loss=seen)
    period = Period(8, True, 4, 10, 1.0)
    half = at({"image": image, "step": 1}, period=period).values
    pooled = np.asarray(image).reshape(2, 4, 2, 4, 2, 1).mean((2, 4))
    old = jnp.asarray(pooled.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(half, (image + old) / 2, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(at({"image": image, "step": 3}, period=period).values, image, 1e-6)
    stable = replace(period, fades=False)
    np.testing.assert_array_equal(at({"image": image, "step": 1}, period=stable).values, image)
    np.testing.assert_array_equal(blended(image, old, jnp.float32(0)), old)


def small(**settings):
    """The experiment of digits, which fades from 4 to 8 pixels after two steps."""
    module = load("experiments/gan/pro_gan.py")
    own = {"width": 64, "max_width": 8, "latent_size": 4, "coverage_samples": 0, "batch_size": 8}
    own |= {"stable_images": 16, "fade_images": 32} | settings
    config = override(config_of(module, "digits"), {key: str(x) for key, x in own.items()})
    return module.build(config), config


@pytest.fixture(scope="module")
def task():
    return small()[0].task


def test_what_a_period_trains(task):
    elements = tuple(data.element for data in stage_data(small()[0]))
    assert [element["image"].shape[0] for element in elements] == [4, 8, 8]
    state = jax.eval_shape(partial(init_state, task, 0, elements))
    for stage, shown in enumerate([["4"], ["4", "8"], ["8"]]):
        for phase in task.stages[stage].phases:
            trained = tree.select(state.params, phase.trains)
            own = [path for path in trained if "image_" in path]
            assert sorted({path.split("/")[1].rpartition("_")[2] for path in own}) == shown
            blocks = {path.split("/")[1] for path in trained if "/block_" in path}
            assert blocks == {"block_4", "block_8"} if stage else {"block_4"}
            assert all(path.startswith(phase.name) for path in trained)


@pytest.mark.long
def test_images_have_the_size_of_the_last_resolution(task):
    """Each pixel stands four times in the first stage. Both resolutions show in mid fade."""
    elements = tuple(data.element for data in stage_data(small()[0]))
    state = jax.jit(partial(init_state, task, 0, elements))()
    values = sampling.variables(state)
    drawn = {
        step: sampling.sample(task, task.samplers["images"], values, 3, step=step)
        for step in (0, 3, 6)
    }
    assert all(images.shape == (3, 8, 8, 1) for images in drawn.values())
    np.testing.assert_array_equal(drawn[0][:, ::2, ::2], drawn[0][:, 1::2, 1::2])
    np.testing.assert_allclose(drawn[3], (drawn[0] + drawn[6]) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": 28}, "28x28 do not grow from 4x4"),
        ({"num_classes": 10}, "ProGANGenerator takes no labels"),
        ({"batch_size": 6}, "group_size=4 does not divide the 6 images .* at 4x4"),
        ({"batch_sizes": (8, 10)}, "group_size=4 does not divide the 10 images .* at 8x8"),
    ],
)
def test_settings_that_are_refused(settings, sentence):
    with pytest.raises(GenaxError, match=sentence):
        small(**settings)


def test_data_of_another_size_than_the_networks():
    module = load("experiments/gan/pro_gan.py")
    config = config_of(module, "digits")
    growth = growth_of(override(config, {"image_size": "16"}))
    data = small()[0].data[-1]
    with pytest.raises(GenaxError, match="8x8 pixels, but networks grow to 16x16"):
        growth.data(data)


def test_stages_of_one_resolution_share_their_data():
    datas = stage_data(small()[0])
    assert datas[1] is datas[2]
    first = next(datas[0].train(4, 0, Shard()))
    whole = next(datas[1].train(4, 0, Shard()))
    np.testing.assert_array_equal(first["id"], whole["id"])
    means = whole["image"].reshape(4, 4, 2, 4, 2, 1).mean((2, 4))
    np.testing.assert_allclose(first["image"], means, atol=1e-6)
