"""Packs of samples: what is scored together, the value of each sample, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genax.core import GenaxError
from genax.gan.game import play
from genax.gan.losses import discriminator_loss
from genax.gan.networks import Networks
from genax.gan.packing import Packed
from genax.gan.penalties import r1, squared_slopes

BATCH, SHAPE = 6, (2, 2, 3)
IMAGES = np.float32(np.random.default_rng(0).normal(size=(BATCH, *SHAPE)))


class Linear(nn.Module):
    """A weighted sum of each pack's channels."""

    @nn.compact
    def __call__(self, x, train=False):
        return jnp.tanh(nn.Dense(1)(x.reshape(len(x), -1)))[:, 0]


class Made(nn.Module):
    latent_size: int = 4

    @nn.compact
    def __call__(self, z, train=False):
        return nn.Dense(12)(z).reshape(-1, *SHAPE)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_pack_is_the_channels_of_neighbours(size):
    network = Packed(Linear(), size)
    variables = network.init(jax.random.key(0), jnp.asarray(IMAGES[:2]))
    scores = network.apply(variables, jnp.asarray(IMAGES))
    inner = {"params": variables["params"]["discriminator"]}
    for number, score in enumerate(scores):
        pack = IMAGES[number * size : (number + 1) * size]
        together = np.concatenate(list(pack), axis=-1)[None]
        np.testing.assert_allclose(score, Linear().apply(inner, jnp.asarray(together))[0], 1e-6)
    assert scores.shape == (BATCH // size,)


def test_points_are_packed_too():
    network = Packed(Linear(), 3)
    points = jnp.arange(12.0).reshape(6, 2)
    variables = network.init(jax.random.key(0), points[:2])
    kernel = variables["params"]["discriminator"]["Dense_0"]["kernel"]
    expected = jnp.tanh(points.reshape(2, 6) @ kernel)[:, 0]
    np.testing.assert_allclose(network.apply(variables, points), expected, rtol=1e-6)


def test_each_sample_has_the_value_and_the_slope_of_its_pack():
    networks = Networks(Made(), Packed(Linear(), 3))
    batch = {"image": jnp.asarray(IMAGES), "index": jnp.arange(BATCH)}
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}

    def loss(nets, batch):
        penalty = lambda nets, batch, found: r1(nets, batch, found, 2.0)  # noqa: E731
        return discriminator_loss(nets, batch, penalties={"r1": penalty})

    variables = jax.jit(nn.init(loss, networks))(rngs, {name: x[:2] for name, x in batch.items()})
    found = jax.jit(nn.apply(loss, networks))(variables, batch, rngs=rngs)
    values, slopes = found["game"].values, found["r1"].values
    assert values.shape == slopes.shape == (BATCH,)
    assert (values[0] == values[:3]).all()
    assert values[0] != values[3]
    rounds = nn.apply(lambda nets, batch: play(nets, batch, moves="generator"), networks)(
        variables, batch, rngs=rngs
    )
    # One gradient by all images of a pack.
    gradient = jax.grad(lambda x: rounds.score(x).sum())(batch["image"])
    squares = jnp.square(gradient).reshape(2, -1).sum(-1)
    np.testing.assert_allclose(slopes, jnp.repeat(squares, 3), rtol=1e-5)
    np.testing.assert_allclose(squared_slopes(rounds.score, batch["image"]), slopes, rtol=1e-5)


def test_what_packs_do_not_divide_is_refused():
    network = Packed(Linear(), 4)
    variables = network.init(jax.random.key(0), jnp.asarray(IMAGES[:2]))
    with pytest.raises(GenaxError, match=r"6 samples .* do not divide into packs of 4"):
        network.apply(variables, jnp.asarray(IMAGES))
    with pytest.raises(GenaxError, match="packs of 4 samples are scored without label"):
        network.apply(variables, jnp.asarray(IMAGES), label=jnp.arange(6))
