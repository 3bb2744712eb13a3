"""Penalties of scores and near real images, and feature matching, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genax.core import GenaxError
from genax.core.nets import per_example, seeing
from genax.gan import penalties
from genax.gan.augmentation import SHIFTED
from genax.gan.feature_matching import feature_matching_loss, matched_features
from genax.gan.game import Round
from tests.gan.test_games import (
    RNG,
    WEIGHTS,
    agree,
    discriminator,
    torch_discriminator,
    torch_slopes,
)
from tests.parity import require

SHAPE = (6, 4, 4, 2)
REAL, FAKES = (np.float32(RNG.normal(size=SHAPE)) for _ in range(2))
BATCH = {"image": jnp.asarray(REAL), "index": jnp.arange(6), "step": jnp.int32(9)}
KEY = jax.random.key(3)


class Nothing(nn.Module):
    """Networks without parameters, for the numbers and the means that a penalty keeps."""


def applied(function, batch=BATCH, variables=None):
    """function(nets, batch) with the random numbers of one key, and what it wrote."""
    apply = nn.apply(function, Nothing(), mutable=["running"])
    return apply(variables or {}, batch, rngs={"example": KEY})


def round_of(weights):
    score = discriminator(weights)
    real, fakes = jnp.asarray(REAL), jnp.asarray(FAKES)
    return Round(score(real), score(fakes), fakes, score)


def nchw(torch, images):
    return torch.tensor(np.array(images).transpose(0, 3, 1, 2).copy())


def test_dragan_is_that_of_a_double_backward():
    [torch] = require("torch")

    def drawn(nets, batch):
        noise = per_example(jax.random.uniform, nets, batch, SHAPE[1:])
        return noise, per_example(jax.random.uniform, nets, batch, (1, 1, 1))

    (noise, places), _ = applied(drawn)

    def ours(weights):
        penalty = lambda nets, batch: penalties.dragan_penalty(nets, batch, round_of(weights))  # noqa: E731
        return applied(penalty)[0]

    def theirs(weights):
        real = nchw(torch, REAL)
        moved = real + 0.5 * real.std(unbiased=False) * nchw(torch, noise)
        places_ = torch.tensor(np.array(places))
        points = real + places_ * (moved - real)
        slopes = torch_slopes(torch, torch_discriminator(torch, weights), points)
        return 10 * (slopes.flatten(1).norm(2, dim=1) - 1) ** 2

    agree(torch, ours, theirs)


def test_dragan_knows_no_whole_batch_in_microbatches():
    def penalty(nets, batch):
        return penalties.dragan_penalty(nets, batch, Round(None, None, None, lambda x: x.sum()))

    with seeing("microbatch"), pytest.raises(GenaxError, match="gathers the whole batch"):
        applied(penalty)


def test_r2_is_r1_at_the_fakes():
    weights = [jnp.asarray(w) for w in WEIGHTS]
    found = round_of(weights)
    swapped = found._replace(fakes=BATCH["image"])
    np.testing.assert_array_equal(
        penalties.r2(Nothing(), BATCH, swapped, 3.0), penalties.r1(Nothing(), BATCH, found, 3.0)
    )


def test_consistency():
    [torch] = require("torch")
    changed, _ = applied(lambda nets, batch: SHIFTED(nets, batch)(batch["image"]))
    assert (changed != BATCH["image"]).any()

    def ours(weights):
        def penalty(nets, batch):
            return penalties.consistency(nets, batch, round_of(weights), SHIFTED)

        return applied(penalty)[0]

    def theirs(weights):
        score = torch_discriminator(torch, weights)
        return 10 * (score(nchw(torch, REAL)) - score(nchw(torch, changed))) ** 2

    agree(torch, ours, theirs)


def test_le_cam():
    """The penalty of the official code, with the means of the steps before."""
    [torch] = require("torch")
    means = {"running": {"real_score": jnp.float32(0.2), "fake_score": jnp.float32(-0.3)}}

    def penalty(weights, step):
        def found(nets, batch):
            return penalties.le_cam(nets, batch, round_of(weights), 0.7, start=5)

        return applied(found, BATCH | {"step": jnp.int32(step)}, means)

    def theirs(weights):
        score = torch_discriminator(torch, weights)
        real, fake = score(nchw(torch, REAL)), score(nchw(torch, FAKES))
        return 0.7 * (torch.relu(real + 0.3) ** 2 + torch.relu(0.2 - fake) ** 2)

    agree(torch, lambda weights: penalty(weights, 9)[0], theirs)
    weights = [jnp.asarray(w) for w in WEIGHTS]
    found = round_of(weights)
    _, moved = penalty(weights, 9)
    expected = 0.99 * 0.2 + 0.01 * found.real.mean()
    np.testing.assert_allclose(moved["running"]["real_score"], expected, rtol=1e-6)
    # Before the start nothing is penalised and the means are those of the last step.
    values, copied = penalty(weights, 4)
    assert not values.any()
    np.testing.assert_allclose(copied["running"]["fake_score"], found.fake.mean(), rtol=1e-6)


class Featured(nn.Module):
    """A generator and a discriminator that says its features."""

    latent_size = 3

    def setup(self):
        self.generator, self.discriminator = _Made(), _Featured()


class _Made(nn.Module):
    latent_size: int = 3

    @nn.compact
    def __call__(self, z, train=False):
        return nn.Dense(8)(z).reshape(-1, 2, 2, 2)


class _Featured(nn.Module):
    @nn.compact
    def __call__(self, x, train=False, features=False):
        x = jnp.tanh(nn.Dense(5)(x))
        return x if features else nn.Dense(1)(x.reshape(len(x), -1))[:, 0]


def test_feature_matching():
    networks = Featured()
    batch = {"image": jnp.asarray(RNG.normal(size=(6, 2, 2, 2)), jnp.float32)}
    batch["index"] = jnp.arange(6)
    rngs = {"params": KEY, "example": KEY}
    variables = jax.jit(nn.init(matched_features, networks))(rngs, batch)
    rows = nn.apply(matched_features, networks)(variables, batch, rngs=rngs)
    assert rows["real"].shape == rows["fake"].shape == (6, 20)
    gap = np.array(rows["real"]).mean(0) - np.array(rows["fake"]).mean(0)
    loss = feature_matching_loss(networks, batch, rows)
    np.testing.assert_allclose(loss.values, [np.square(gap).sum()], rtol=1e-5)

    def total(params):
        found = nn.apply(matched_features, networks)({"params": params}, batch, rngs=rngs)
        return feature_matching_loss(networks, batch, found).values.sum()

    slopes = jax.jit(jax.grad(total))(variables["params"])
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(slopes["generator"]))
