"""How a Loss is reduced: sums and weights, for the loss and for each metric."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import Loss
from genax.core.gradients import sums_of


def mean_of(loss: Loss, name: str = "loss") -> float:
    total, weight = sums_of(loss)[name]
    return float(total / weight)


def test_without_weights_every_element_counts_once():
    assert mean_of(Loss(jnp.arange(6.0).reshape(2, 3))) == 2.5


def test_weights_select_and_scale():
    assert mean_of(Loss(jnp.array([1.0, 2.0, 4.0]), jnp.array([1.0, 0.0, 3.0]))) == 13 / 4


@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3,), ()])
def test_weights_broadcast_to_values(shape):
    values = np.arange(6.0).reshape(2, 3)
    weights = np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)
    expected = np.average(values, weights=np.broadcast_to(weights, values.shape))
    assert mean_of(Loss(jnp.asarray(values), jnp.asarray(weights))) == pytest.approx(expected)


def test_a_weight_of_an_example_counts_for_each_of_its_values():
    total, weight = sums_of(Loss(jnp.ones((2, 3)), jnp.array([[1.0], [0.0]])))["loss"]
    assert (total, weight) == (3.0, 3.0)


def test_boolean_weights_and_values():
    loss = Loss(jnp.array([True, False, True]), jnp.array([True, True, False]))
    assert mean_of(loss) == 0.5


def test_an_element_without_weight_may_be_infinite():
    values = jnp.array([1.0, jnp.inf])
    assert mean_of(Loss(values, jnp.array([1.0, 0.0]))) == 1.0


def test_no_weight_at_all_is_not_a_loss_of_zero():
    assert np.isnan(mean_of(Loss(jnp.ones(3), jnp.zeros(3))))


def test_metrics_are_averaged_by_themselves():
    weighted = Loss(jnp.array([1.0, 5.0]), jnp.array([1.0, 0.0]))
    aux = {"plain": jnp.array([[1.0], [5.0]]), "weighted": weighted, "scalar": 7.0}
    loss = Loss(jnp.array([0.0, 2.0]), jnp.array([0.0, 1.0]), aux)
    means = {name: mean_of(loss, name) for name in ("loss", *aux)}
    assert means == {"loss": 2.0, "plain": 3.0, "weighted": 1.0, "scalar": 7.0}


def test_no_gradient_through_weights():
    def total(x):
        return sums_of(Loss(jnp.array([2.0]), jnp.array([1.0]) * x))["loss"].total

    assert jax.grad(total)(3.0) == 0.0


def test_sums_are_float32():
    sums = sums_of(Loss(jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.bfloat16)))
    assert {x.dtype for x in jax.tree.leaves(sums)} == {jnp.dtype("float32")}


def test_terms_and_their_metrics_go_by_their_names():
    first = Loss(jnp.array([1.0, 3.0]), aux={"hits": jnp.ones(2)})
    second = Loss(jnp.array([5.0, 7.0]), jnp.array([0.0, 1.0]), aux={"hits": jnp.zeros(2)})
    sums = sums_of({"first": first, "second": second})
    means = {name: float(total / weight) for name, (total, weight) in sums.items()}
    assert means == {"first": 2.0, "first/hits": 1.0, "second": 7.0, "second/hits": 0.0}
