"""Clipped parameters and rising momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.gan.optimizers import clip_parameters, rising_momentum
from tests.parity import require

BOUND = 0.01


def moved(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_clipped_rmsprop_is_that_of_torch():
    """WGAN's critic: RMSprop, then every parameter within the bounds."""
    [torch] = require("torch")
    draw = np.random.default_rng(0)
    start = np.float32(draw.normal(0, 0.02, 50))
    gradients = np.float32(draw.normal(size=(5, 50)))
    rmsprop = optax.rmsprop(2e-3, decay=0.99, eps=1e-8, eps_in_sqrt=False)
    optimizer = optax.chain(rmsprop, clip_parameters(BOUND))
    ours = moved(optimizer, jnp.asarray(start), jnp.asarray(gradients))
    theirs = torch.tensor(start, requires_grad=True)
    reference = torch.optim.RMSprop([theirs], 2e-3)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        reference.step()
        theirs.data.clamp_(-BOUND, BOUND)
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-8)
    assert jnp.abs(ours).max() <= np.float32(BOUND) * (1 + 1e-6)
    assert (jnp.abs(ours) < 0.9 * BOUND).any()


def test_clipping_needs_the_parameters():
    with pytest.raises(ValueError, match="needs the parameters"):
        clip_parameters(BOUND).update(jnp.ones(2), optax.EmptyState())


def test_momentum_rises():
    momentum = optax.linear_schedule(0.5, 0.7, 2)
    optimizer = rising_momentum(lambda step: 0.1 / (step + 1), momentum)
    ours = jax.jit(moved, static_argnums=0)(optimizer, jnp.float32(1.0), jnp.ones(4))
    position, velocity = 1.0, 0.0
    for step, kept in enumerate((0.5, 0.6, 0.7, 0.7)):
        velocity = kept * velocity - 0.1 / (step + 1)
        position += velocity
    np.testing.assert_allclose(ours, position, rtol=1e-6)
