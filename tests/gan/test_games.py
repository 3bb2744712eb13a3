"""Objectives and penalties against PyTorch: values, and gradients through the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.gan import game, penalties
from tests.parity import require

SHAPE = (6, 4, 4, 2)
RNG = np.random.default_rng(0)
WEIGHTS = [
    np.float32(RNG.normal(size=shape) / 4) for shape in ((3, 3, 2, 5), (80, 1), (7, 32), (3, 7))
]


def published(torch):
    """(discriminator, generator) as their papers or official codes write them."""
    F = torch.nn.functional
    bce = F.binary_cross_entropy_with_logits

    def said(scores, value):
        return bce(scores, torch.full_like(scores, value), reduction="none")

    def logistic(real, fake):
        return said(real, 1.0) + said(fake, 0.0)

    return {
        "MINIMAX": (logistic, lambda real, fake: torch.log(1 - torch.sigmoid(fake))),
        "NON_SATURATING": (logistic, lambda real, fake: said(fake, 1.0)),
        "LEAST_SQUARES": (
            lambda real, fake: ((real - 1) ** 2 + fake**2) / 2,
            lambda real, fake: (fake - 1) ** 2 / 2,
        ),
        "HINGE": (lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda _, fake: -fake),
        "WASSERSTEIN": (lambda real, fake: fake - real, lambda real, fake: -fake),
        "RELATIVISTIC": (
            lambda real, fake: said(real - fake, 1.0),
            lambda real, fake: said(fake - real, 1.0),
        ),
    }


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize(
    "name", ["MINIMAX", "NON_SATURATING", "LEAST_SQUARES", "HINGE", "WASSERSTEIN", "RELATIVISTIC"]
)
def test_an_objective_is_the_published_one(name, player):
    [torch] = require("torch")
    expected = published(torch)[name][player == "generator"]
    scores = np.float32(RNG.normal(0, 2, (2, 64)))
    objective = getattr(getattr(game, name), player)
    ours, slopes = jax.value_and_grad(lambda s: objective(*s).sum())(jnp.asarray(scores))
    inputs = torch.tensor(scores, requires_grad=True)
    theirs = expected(*inputs).sum()
    theirs.backward()
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(slopes, inputs.grad.numpy(), rtol=1e-5, atol=1e-6)
    # Only a game that says so may need the scores of real images in the generator's round.
    if player == "generator" and not getattr(game, name).compares:
        np.testing.assert_array_equal(slopes[0], 0)
        np.testing.assert_array_equal(objective(None, scores[1]), objective(*scores))


def test_scores_of_patches_are_scored_one_by_one():
    scores = jnp.asarray(RNG.normal(size=(2, 3, 4, 4, 1)), jnp.float32)
    assert game.LEAST_SQUARES.discriminator(*scores).shape == scores.shape[1:]


def discriminator(weights):
    kernel, last = weights[:2]

    def score(images):
        x = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return (jnp.tanh(x).transpose(0, 3, 1, 2).reshape(len(x), -1) @ last)[:, 0]

    return score


def torch_discriminator(torch, weights):
    kernel, last = weights[:2]

    def score(images):
        x = torch.nn.functional.conv2d(images, kernel.permute(3, 2, 0, 1), padding=1)
        return (torch.tanh(x).flatten(1) @ last)[:, 0]

    return score


def agree(torch, ours, theirs):
    """Mean and gradient by all weights of two functions of them."""
    values, gradient = jax.jit(jax.value_and_grad(lambda w: ours(w).mean()))(
        [jnp.asarray(w) for w in WEIGHTS]
    )
    weights = [torch.tensor(w, requires_grad=True) for w in WEIGHTS]
    expected = theirs(weights).mean()
    slopes = torch.autograd.grad(expected, weights, allow_unused=True)
    np.testing.assert_allclose(values, expected.item(), rtol=1e-5)
    for slope, wanted in zip(gradient, slopes, strict=True):
        wanted = 0 if wanted is None else wanted.numpy()
        np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-5)


def torch_slopes(torch, network, inputs):
    inputs = inputs.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(network(inputs).sum(), inputs, create_graph=True)
    return slopes


def images(torch):
    ours = np.float32(RNG.normal(size=SHAPE))
    return jnp.asarray(ours), torch.tensor(ours.transpose(0, 3, 1, 2).copy())


def test_r1_is_that_of_a_double_backward():
    [torch] = require("torch")
    real, theirs = images(torch)

    def expected(weights):
        slopes = torch_slopes(torch, torch_discriminator(torch, weights), theirs)
        return slopes.pow(2).sum((1, 2, 3)) * (10.0 / 2)

    agree(torch, lambda w: penalties.zero_centred(discriminator(w), real, 10.0), expected)


def test_a_gradient_penalty_is_that_of_a_double_backward():
    [torch] = require("torch")
    points, theirs = images(torch)

    def expected(weights):
        slopes = torch_slopes(torch, torch_discriminator(torch, weights), theirs)
        return 10.0 * (slopes.flatten(1).norm(2, dim=1) - 1) ** 2

    agree(torch, lambda w: penalties.unit_slope(discriminator(w), points, 10.0), expected)


def test_a_flat_network_has_a_finite_penalty():
    def penalty(w):
        return penalties.unit_slope(lambda x: w * x.sum(-1), jnp.ones((2, 3)), 1.0).sum()

    assert np.isfinite(jax.grad(penalty)(0.0))


def test_path_length_is_that_of_a_double_backward():
    """The official code's: mean moved first, its gradient kept."""
    [torch] = require("torch")
    w = np.float32(RNG.normal(size=(6, 2, 3)))
    noise = np.float32(RNG.normal(size=(6, 4, 4, 2)))

    def synthesise(weights):
        inner, last = weights[2], weights[3]
        return lambda w: jnp.tanh(jnp.tanh(w.sum(1) @ last) @ inner).reshape(-1, 4, 4, 2)

    def ours(weights):
        lengths = penalties.path_lengths(synthesise(weights), jnp.asarray(w), jnp.asarray(noise))
        return penalties.path_length_penalty(lengths, jnp.float32(0.3), 2.0)[0]

    def theirs(weights):
        inner, last = weights[2], weights[3]
        styles = torch.tensor(w, requires_grad=True)
        made = torch.tanh(torch.tanh(styles.sum(1) @ last) @ inner).reshape(-1, 4, 4, 2)
        scaled = torch.tensor(noise) / np.sqrt(16)
        (slopes,) = torch.autograd.grad((made * scaled).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(2).mean(1).sqrt()
        mean = 0.3 + 0.01 * (lengths.mean() - 0.3)
        return (lengths - mean).square() * 2.0

    agree(torch, ours, theirs)
