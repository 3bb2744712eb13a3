"""Averages of parameters and collections, of each kind."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, Stage, ema
from genax.nn.ema import ema_half_life, ema_late, ema_warmup
from tests.parity import require

PARAMS = {"a": {"w": jnp.array([1.0, 2.0])}, "b": {"w": jnp.array([4.0])}, "c": {"w": jnp.ones(1)}}
COLLECTIONS = {"stats": {"a": {"mean": jnp.zeros(2)}}, "count": {"a": jnp.zeros((), jnp.int32)}}
STEPS = 40


def test_an_average_moves_towards_the_parameters():
    decays = {"a": 0.9, "b": lambda step: 0.5}
    averages = ema.start(decays, PARAMS, {})
    assert set(averages) == {"a/w", "b/w"}
    moved = {name: {"w": net["w"] + 1} for name, net in PARAMS.items()}
    averages = ema.advance(decays, averages, moved, {}, jnp.int32(0))
    np.testing.assert_allclose(averages["a/w"], [1.1, 2.1], rtol=1e-6)
    np.testing.assert_allclose(averages["b/w"], [4.5])
    inserted = ema.averaged({"params": moved}, averages)["params"]
    np.testing.assert_allclose(inserted["b"]["w"], [4.5])
    np.testing.assert_allclose(inserted["c"]["w"], [2.0])


def test_a_pattern_names_a_collection():
    """What no pattern names is used as it is."""
    decays = {"**": 0.0, "stats/a": 0.75}
    averages = ema.start(decays, PARAMS, COLLECTIONS)
    assert set(averages) == {"a/w", "b/w", "c/w", "stats/a/mean"}
    moved = {"stats": {"a": {"mean": jnp.array([4.0, 8.0])}}, "count": {"a": jnp.int32(3)}}
    averages = ema.advance(decays, averages, PARAMS, moved, jnp.int32(0))
    used = ema.averaged({"params": PARAMS, **moved}, averages)
    np.testing.assert_array_equal(used["stats"]["a"]["mean"], [1.0, 2.0])
    assert used["count"]["a"] == 3


def test_a_counter_has_no_average():
    with pytest.raises(GenaxError, match="names count/a of int32, which has no average"):
        ema.start({"count": 0.9}, PARAMS, COLLECTIONS)


def test_the_first_pattern_decides():
    decays = {"a/w": 0.0, "a": 1.0}
    averages = {"a/w": jnp.zeros(2)}
    np.testing.assert_array_equal(
        ema.advance(decays, averages, PARAMS, {}, jnp.int32(0))["a/w"], PARAMS["a"]["w"]
    )


def test_a_network_that_is_not_there():
    with pytest.raises(GenaxError, match="'d' matches no parameter"):
        ema.start({"d": 0.9}, PARAMS, {})


def weights():
    """A parameter before the first update and after each step, of very different sizes."""
    return np.random.default_rng(0).standard_normal((STEPS + 1, 3)).astype(np.float32) * [
        1e-3,
        1.0,
        1e3,
    ]


def averages_of(decay, values):
    """Ours after each step."""
    decays = {"a": decay}
    averages, found = ema.start(decays, {"a": jnp.float32(values[0])}, {}), []
    advance = jax.jit(lambda average, now, step: ema.advance(decays, average, {"a": now}, {}, step))
    for step, now in enumerate(values[1:]):
        averages = advance(averages, jnp.float32(now), jnp.int32(step))
        found.append(np.asarray(averages["a"]))
    return np.stack(found)


def reference(beta, values, update_after_step):
    """Those of ema-pytorch, whose decay does not warm up here."""
    torch, ema_pytorch = require("torch", "ema_pytorch")
    layer = torch.nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor(values[:1], dtype=torch.float32)
    averaged = ema_pytorch.EMA(
        layer, beta=beta, min_value=beta, update_after_step=update_after_step, update_every=1
    )
    averaged.initted.fill_(True)
    found = []
    for now in values[1:]:
        layer.weight.data = torch.tensor(now[None], dtype=torch.float32)
        averaged.update()
        found.append(averaged.ema_model.weight.detach().numpy()[0].copy())
    return np.stack(found)


def test_a_constant_decay_is_that_of_ema_pytorch():
    values = weights()
    np.testing.assert_allclose(averages_of(0.9, values), reference(0.9, values, -1), 1e-5, 1e-8)


def test_a_late_start_is_that_of_ema_pytorch():
    """The last copy is the update before `start`: ema-pytorch's of the step update_after_step."""
    values, start = weights(), 12
    found = averages_of(ema_late(0.9, start), values)
    np.testing.assert_allclose(found, reference(0.9, values, start - 2), 1e-5, 1e-8)
    np.testing.assert_array_equal(found[: start - 1], np.float32(values[1:start]))
    assert np.abs(found[start - 1] - values[start]).max() > 1e-3


def by_hand(values, decay):
    """average <- d * average + (1 - d) * weight in float64, d the decay of the update's number."""
    average, found = values[0].astype(np.float64), []
    for number, now in enumerate(values[1:], start=1):
        d = decay(number)
        average = d * average + (1 - d) * now
        found.append(average)
    return np.stack(found)


def test_a_warmup_is_that_of_the_published_codes():
    """num_updates += 1; min(decay, (1 + num_updates) / (10 + num_updates))."""
    values = weights()
    expected = by_hand(values, lambda number: min(0.7, (1 + number) / (10 + number)))
    np.testing.assert_allclose(averages_of(ema_warmup(0.7), values), expected, 1e-5, 1e-8)


@pytest.mark.parametrize("ramp_up", [None, 0.05])
def test_a_half_life_is_that_of_the_published_codes(ramp_up):
    """cur_nimg grows after the update: at the first one it is 0, which copies."""
    values, images, batch = weights(), 50.0, 32

    def decay(number):
        nimg, seen = images, (number - 1) * batch
        if ramp_up is not None:
            nimg = min(nimg, seen * ramp_up)
        return 0.5 ** (batch / max(nimg, 1e-8))

    found = averages_of(ema_half_life(images, batch, ramp_up), values)
    np.testing.assert_allclose(found, by_hand(values, decay), 1e-5, 1e-8)


def test_a_half_life_counts_the_images_of_each_stage():
    stages = [Stage((), 10), Stage((), 5, batch_size=64), Stage((), None, batch_size=8)]
    at = ema_half_life(1e6, 32, 0.05, stages)
    sizes = [32] * 10 + [64] * 5 + [8] * 5
    for step, size in enumerate(sizes):
        expected = 0.5 ** (size / max(0.05 * sum(sizes[:step]), 1e-8))
        assert float(at(jnp.int32(step))) == pytest.approx(expected, rel=1e-5)
