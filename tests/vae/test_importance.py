"""Bounds by several samples: how they order, what they do not depend on, and their gradients."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.vae.autoencoders import MLPSize
from genax.vae.importance import importance_weighted_bound, iwae_loss
from genax.vae.objectives import elbo, elbo_loss

SIZE = MLPSize((4, 4, 1), (8,), 3, nn.tanh)
NETWORKS = SIZE.networks()
COPIES = 1_000


def networks_far_from_the_prior():
    """Parameters whose posteriors differ much from the prior, so that the bounds lie apart."""
    batch = {"image": jnp.zeros((2, *SIZE.shape)), "index": jnp.arange(2)}
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    params = nn.init(elbo_loss, NETWORKS)(rngs, batch)["params"]
    return jax.tree.map(lambda p: 2.0 * p, params)


def call(function, params, batch, seed=1):
    apply = nn.apply(function, NETWORKS)
    return apply({"params": params}, batch, rngs={"example": jax.random.key(seed)})


@pytest.fixture(scope="module")
def one_image():
    """Many copies of one image, each with noise of its own."""
    image = np.random.default_rng(0).random((1, *SIZE.shape), np.float32)
    image = jnp.broadcast_to(image, (COPIES, *SIZE.shape))
    return {"image": image, "index": jnp.arange(COPIES)}


@pytest.fixture(scope="module")
def bounds(one_image):
    """Values of one image's bounds."""
    functions = {
        "elbo": elbo,
        **{str(k): partial(importance_weighted_bound, samples=k) for k in (1, 5, 50)},
        "chunked": partial(importance_weighted_bound, samples=50, chunk=7),
        "trained": lambda nets, batch: iwae_loss(nets, batch, 5),
    }

    @jax.jit
    def all_of_them(params):
        return {name: call(one, params, one_image).values for name, one in functions.items()}

    return jax.device_get(all_of_them(networks_far_from_the_prior()))


def mean(values):
    """The mean of some values and four of its deviations."""
    return values.mean(), 4 * values.std() / np.sqrt(len(values))


def test_one_sample_is_the_elbo_in_expectation(bounds):
    (one, slack), (exact, other) = mean(bounds["1"]), mean(bounds["elbo"])
    assert abs(one - exact) < slack + other


def test_the_bound_tightens_with_samples(bounds):
    found = [mean(bounds[k]) for k in ("1", "5", "50")]
    for (looser, slack), (tighter, other) in pairwise(found):
        assert tighter > looser + slack + other


def test_the_chunk_does_not_change_what_is_drawn(bounds):
    np.testing.assert_allclose(bounds["chunked"], bounds["50"], rtol=1e-5)


def test_what_is_trained_is_the_bound(bounds):
    (trained, slack), (scored, other) = mean(-bounds["trained"]), mean(bounds["5"])
    assert abs(trained - scored) < slack + other


@pytest.mark.long
def test_dreg_has_the_same_mean_and_less_noise(one_image):
    """The encoder's gradient alone; the value and the decoder's gradient are the same numbers."""
    params, groups = networks_far_from_the_prior(), 20

    def loss(params, batch, doubly):
        found = call(partial(iwae_loss, samples=20, doubly_reparameterised=doubly), params, batch)
        return found.values.mean()

    @jax.jit
    def gradients(params):
        parts = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]), one_image)

        def both(part):
            return [jax.value_and_grad(loss)(params, part, doubly) for doubly in (False, True)]

        return jax.lax.map(both, parts)

    (plain_value, plain), (value, dreg) = jax.device_get(gradients(params))
    np.testing.assert_allclose(value, plain_value, rtol=1e-6)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        dreg["decoder"],
        plain["decoder"],
    )
    flat = [
        np.concatenate([leaf.reshape(groups, -1) for leaf in jax.tree.leaves(one["encoder"])], 1)
        for one in (plain, dreg)
    ]
    noise = [one.std(0) for one in flat]
    gap = np.abs(flat[0].mean(0) - flat[1].mean(0))
    assert (gap < 5 * np.hypot(*noise) / np.sqrt(groups) + 1e-6).all()
    assert np.linalg.norm(noise[1]) < 0.85 * np.linalg.norm(noise[0])
    # Of one element of many, the gradients do differ.
    assert np.abs(flat[0] - flat[1]).max() > 1e-3


@pytest.mark.long
def test_memory_does_not_grow_with_samples(one_image):
    params = networks_far_from_the_prior()

    def temporaries(samples, chunk):
        bound = partial(importance_weighted_bound, samples=samples, chunk=chunk)
        program = jax.jit(lambda params: call(bound, params, one_image).values)
        return program.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(5_000, 10) < 1.1 * temporaries(50, 10) < 0.5 * temporaries(50, 50)
