"""Minibatch deviation: the formula, and the same groups on every layout of a batch."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Loss, Phase, Stage, Task, init_state, make_step, pure, tree
from genax.gan.minibatch_deviation import minibatch_deviation
from genax.gan.penalties import unit_slope
from tests.contracts import harness

RNG = np.random.default_rng(0)
ELEMENT = {"image": jax.ShapeDtypeStruct((2, 2, 3), jnp.float32)}
BATCH = {"image": np.float32(RNG.normal(size=(16, 2, 2, 3)))}


def directly(x, group_size):
    """The channel, one image and one feature at a time."""
    x, count = np.asarray(x, np.float64), len(x)
    apart = count // group_size
    channel = np.zeros(x.shape[:-1])
    for number in range(count):
        members = [m for m in range(count) if m % apart == number % apart]
        assert len(members) == group_size
        deviations = [
            np.sqrt(
                np.mean([(x[m][place] - x[members][(..., *place)].mean()) ** 2 for m in members])
                + 1e-8
            )
            for place in np.ndindex(x.shape[1:])
        ]
        channel[number] = np.mean(deviations)
    return channel


@pytest.mark.parametrize(("count", "group_size"), [(8, 4), (12, 4), (4, 4), (6, 3), (16, 2)])
def test_the_formula(count, group_size):
    x = jnp.asarray(RNG.normal(size=(count, 2, 3, 2)), jnp.float32)
    found = minibatch_deviation(x, group_size)
    np.testing.assert_array_equal(found[..., :-1], x)
    np.testing.assert_allclose(found[..., -1], directly(x, group_size), rtol=1e-5)


def test_a_batch_of_fewer_images_than_a_group_is_one_group():
    x = jnp.asarray(RNG.normal(size=(3, 2, 2, 2)), jnp.float32)
    np.testing.assert_array_equal(minibatch_deviation(x, 16), minibatch_deviation(x, 3))


def test_members_of_a_group_are_not_neighbours():
    """Two images that differ, in a batch that repeats them next to each other."""
    x = jnp.repeat(jnp.asarray([[[[1.0]]], [[[-2.0]]]]), 4, axis=0)
    assert float(minibatch_deviation(x, 2)[..., -1].max()) == pytest.approx(
        abs(float(x[0, 0, 0, 0] - x[4, 0, 0, 0])) / 2, rel=1e-5
    )
    np.testing.assert_allclose(minibatch_deviation(x[:4], 2)[..., -1], 1e-4, rtol=1e-3)


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = minibatch_deviation(jnp.tanh(nn.Dense(4)(image)))
        return nn.Dense(1)(jnp.tanh(nn.Dense(4)(x)).reshape(len(x), -1))[:, 0]


class Networks(nn.Module):
    discriminator: nn.Module


def loss(nets, batch):
    """A score, and a slope through the deviation of all other images."""
    image = batch["image"]
    slope = unit_slope(pure(nets.discriminator, image), image, 10.0)
    return {"score": Loss(nets.discriminator(image)), "slope": Loss(slope)}


def task():
    phase = Phase("discriminator", loss, ("discriminator",), optax.sgd(0.1))
    return Task(Networks(Discriminator()), [Stage([phase])])


def stepped(layout, accumulate):
    strategy = harness.LAYOUTS[layout].strategy(task())
    start = init_state(task(), harness.SEED, ELEMENT)
    step = strategy.compile(make_step(task(), 0, accumulate), start, stacked=False)
    with harness.fresh_compilation():
        batch = strategy.put(BATCH, stacked=False)
        state, metrics = step(harness.placed(harness.on_host(start), strategy), batch)
    return tree.flatten(harness.on_host(state).params), harness.on_host(metrics)


@pytest.fixture(scope="module")
def reference():
    return stepped("jit", 1)


@pytest.mark.parametrize(
    ("layout", "accumulate"),
    [
        ("jit", 4),
        ("pmap", 2),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("jit", 2), ("sharded", 1), ("sharded", 4), ("pmap", 1), ("pmap", 4))
        ),
    ],
)
def test_groups_are_those_of_the_global_batch_on_every_layout(layout, accumulate, reference):
    params, metrics = stepped(layout, accumulate)
    for path, leaf in params.items():
        np.testing.assert_allclose(leaf, reference[0][path], 1e-5, 1e-6, err_msg=path)
    for name, value in metrics.items():
        np.testing.assert_allclose(value, reference[1][name], 1e-5, err_msg=name)


def test_a_batch_that_groups_do_not_divide():
    with pytest.raises(GenaxError, match=r"groups of 4 images, which do not divide the 6"):
        minibatch_deviation(jnp.zeros((6, 2, 2, 1)))


def test_microbatches_that_groups_do_not_divide():
    """The images of a group would lie in several microbatches, so it is refused."""
    state = jax.eval_shape(lambda: init_state(task(), 0, ELEMENT))
    with pytest.raises(GenaxError, match=r"groups of 4 images, which do not divide the 2"):
        jax.eval_shape(make_step(task(), 0, 8), state, BATCH)
