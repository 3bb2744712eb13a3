"""Averages of parameters."""

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import ema

PARAMS = {"a": {"w": jnp.array([1.0, 2.0])}, "b": {"w": jnp.array([4.0])}, "c": {"w": jnp.ones(1)}}


def test_an_average_moves_towards_the_parameters():
    decays = {"a": 0.9, "b": lambda step: 0.5}
    averages = ema.start(decays, PARAMS)
    assert set(averages) == {"a/w", "b/w"}
    moved = {name: {"w": net["w"] + 1} for name, net in PARAMS.items()}
    averages = ema.advance(decays, averages, moved, jnp.int32(0))
    np.testing.assert_allclose(averages["a/w"], [1.1, 2.1], rtol=1e-6)
    np.testing.assert_allclose(averages["b/w"], [4.5])
    inserted = ema.averaged(moved, averages)
    np.testing.assert_allclose(inserted["b"]["w"], [4.5])
    np.testing.assert_allclose(inserted["c"]["w"], [2.0])


def test_the_first_pattern_decides():
    decays = {"a/w": 0.0, "a": 1.0}
    averages = {"a/w": jnp.zeros(2)}
    np.testing.assert_array_equal(
        ema.advance(decays, averages, PARAMS, jnp.int32(0))["a/w"], PARAMS["a"]["w"]
    )


def test_a_network_that_is_not_there():
    with pytest.raises(ValueError, match="'d' matches no parameter"):
        ema.start({"d": 0.9}, PARAMS)


def test_warmup_rises_to_the_decay():
    at = ema.ema_warmup(0.99)
    assert float(at(jnp.int32(0))) == pytest.approx(0.1)
    assert float(at(jnp.int32(8))) == pytest.approx(0.5)
    assert float(at(jnp.int32(10_000))) == pytest.approx(0.99)
