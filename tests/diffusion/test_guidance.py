"""Classifier-free guidance, and samples of a class."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.guidance import classifier_free, unguided
from genax.diffusion.predictions import CLEAN
from genax.diffusion.sampling import sample
from genax.diffusion.solvers import ddim, heun
from genax.diffusion.spacings import karras, leading
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.conditions import on_label
from tests.diffusion.toys import PROCESS, run

NULL = 10
NOISY = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 1)), jnp.float32)
TIMES = jnp.array([100, 500, 900])
ARGUMENTS = {"label": jnp.array([1, 4, 7]), "level": jnp.array([0.1, 0.2, 0.3])}


def labelled(noisy, times, label, level, calls=None):
    """An output that differs by label and level, and counts how often it is asked for."""
    if calls is not None:
        calls.append(label.shape)
    wave = jnp.sin(label + level + times / 100)
    return noisy * wave[:, None, None, None]


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_guidance_is_of_both_outputs_in_one_call(scale):
    calls: list = []
    network = partial(labelled, calls=calls)
    guided = classifier_free(scale, label=NULL)(network, NOISY, TIMES, ARGUMENTS)
    assert calls == [(6,)]
    given = labelled(NOISY, TIMES, **ARGUMENTS)
    absent = labelled(NOISY, TIMES, jnp.full(3, NULL), ARGUMENTS["level"])
    np.testing.assert_allclose(guided, absent + scale * (given - absent), atol=1e-6)
    assert not np.allclose(given, absent)


def test_guidance_acts_within_its_interval():
    guide = classifier_free(3.0, interval=(500.0, 800.0), label=NULL)
    guided = guide(labelled, NOISY, TIMES, ARGUMENTS)
    everywhere = classifier_free(3.0, label=NULL)(labelled, NOISY, TIMES, ARGUMENTS)
    plain = unguided(labelled, NOISY, TIMES, ARGUMENTS)
    np.testing.assert_allclose(guided[1], everywhere[1], atol=1e-6)
    np.testing.assert_allclose(guided[jnp.array([0, 2])], plain[jnp.array([0, 2])], atol=1e-6)
    assert not np.allclose(everywhere, plain)


def test_null_values_may_be_arrays():
    """A text's encoding is dropped for that of the empty text."""
    texts, empty = jnp.arange(6.0).reshape(3, 2), jnp.array([7.0, 8.0])
    seen = []

    def network(noisy, times, text):
        seen.append(text)
        return noisy

    classifier_free(2.0, text=empty)(network, NOISY, TIMES, {"text": texts})
    np.testing.assert_array_equal(seen[0], [*texts, empty, empty, empty])


def test_a_null_value_of_no_condition_is_refused():
    with pytest.raises(GenaxError, match=r"\['caption'\].*conditions are \['label', 'level'\]"):
        classifier_free(2.0, caption=0)(labelled, NOISY, TIMES, ARGUMENTS)


class ClassMeans(nn.Module):
    """The clean image of a class is its number over 10; of no condition, 0."""

    @nn.compact
    def __call__(self, x, times, label, train=False):
        one = self.param("one", nn.initializers.ones, ())
        mean = jnp.where(label == NULL, 0, label / 10)
        return one * jnp.broadcast_to(mean[:, None, None, None], x.shape)


@pytest.mark.parametrize(
    ("process", "solver"),
    [
        (PROCESS, ddim(PROCESS, leading(1000, 5))),
        (VarianceExploding(), heun(VarianceExploding(), karras(5))),
    ],
    ids=["discrete", "continuous"],
)
def test_guided_samples_are_of_their_classes(process, solver):
    function = partial(
        sample,
        solver=solver,
        process=process,
        shape=(2, 2, 1),
        prediction=CLEAN,
        guide=classifier_free(2.0, label=NULL),
        condition=on_label,
    )
    batch = {"index": np.arange(3), "label": np.array([1, 3, NULL])}
    samples = run(function, ClassMeans(), batch)
    np.testing.assert_allclose(samples[:, 0, 0, 0], [0.2, 0.6, 0.0], atol=1e-5)


def test_a_network_of_another_name_is_sampled():
    class Two(nn.Module):
        first: nn.Module
        second: nn.Module

    function = partial(
        sample,
        solver=ddim(PROCESS, leading(1000, 2)),
        process=PROCESS,
        shape=(2, 2, 1),
        prediction=CLEAN,
        condition=on_label,
        network="second",
    )
    batch = {"index": np.arange(2), "label": np.array([1, 3])}
    variables = {"params": {"second": {"one": np.float32(1)}}}
    keys = {"example": jax.random.key(0)}
    samples = nn.apply(function, Two(nn.Dense(1), ClassMeans()))(variables, batch, rngs=keys)
    np.testing.assert_allclose(samples[:, 0, 0, 0], [0.1, 0.3], atol=1e-5)
