"""VAE-GAN's published sizes, the equilibrium of its players, and the same networks as a VAE."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Phase, Stage, Task, init_state, make_step, tree
from genax.hybrid.equilibrium import gate, still_without_gradient
from genax.hybrid.vae_gan import Discriminator
from genax.hybrid.vae_gan_losses import (
    decoder_loss,
    discriminator_loss,
    discriminator_rows,
    encoder_loss,
    pixel_loss,
)
from tests.experiments import config_of, load
from tests.hybrid.small import BATCH, BATCH_OF, ELEMENT, NETWORKS


def test_published_parameter_counts():
    """Table 4 of the paper, with 2,048 units in the encoder."""
    module = load("experiments/hybrid/vae_gan.py")
    networks = module.networks_of(config_of(module, "celeba64"), channels=3)
    image, z = jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 128))
    counts = []
    for network, x in ((networks.encoder, image), (networks.decoder, z)):
        counts.append(jax.eval_shape(network.init, jax.random.key(0), x)["params"])
    counts.append(jax.eval_shape(networks.discriminator.init, jax.random.key(0), image)["params"])
    found = [sum(leaf.size for leaf in jax.tree.leaves(params)) for params in counts]
    assert found == [35_112_768, 4_693_155, 10_953_857]


@pytest.mark.parametrize(
    ("network", "side", "said"),
    [
        (Discriminator(feature_layer=4), 64, "feature_layer=4 must be from 1 to 3"),
        (Discriminator(), 28, "images of 28x28 cannot be halved 3 times; choose a size that 8 div"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(network, side, said):
    image = jnp.zeros((2, side, side, 3))
    with pytest.raises(GenaxError, match=said):
        jax.eval_shape(network.init, jax.random.key(0), image)


@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "decoder"),
    [
        (0.7, 0.6, 1, 1),
        (0.2, 0.7, 0, 1),
        (0.7, 0.2, 0, 1),
        (1.2, 0.7, 1, 0),
        (0.7, 1.2, 1, 0),
        # One loss is too low and the other too high: both move.
        (0.2, 1.2, 1, 1),
    ],
)
def test_the_gate(real, fake, discriminator, decoder):
    moves = gate(jnp.float32(real), jnp.float32(fake), equilibrium=0.68, margin=0.35)
    assert (moves.discriminator, moves.decoder) == (discriminator, decoder)


def test_an_optimizer_stands_still_without_a_gradient():
    adam = optax.adam(0.1)
    waiting = still_without_gradient(adam)
    params = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    slope = {"a": jnp.array([1.0, 0.0, -2.0]), "b": jnp.zeros(2)}
    plain, state = adam.init(params), waiting.init(params)
    for gradient in (slope, slope):
        expected, plain = adam.update(gradient, plain, params)
        found, state = waiting.update(gradient, state, params)
        jax.tree.map(np.testing.assert_array_equal, (found, state), (expected, plain))
    found, after = waiting.update(jax.tree.map(jnp.zeros_like, slope), state, params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    found, after = waiting.update(slope | {"b": jnp.full(2, jnp.nan)}, state, params)
    assert after[0].count == 3
    assert jnp.isnan(found["b"]).all()


def judge(nets, batch, rows):
    """The loss at the equilibrium that the batch names."""
    return discriminator_loss(nets, batch, rows, batch["equilibrium"][0], margin=0.3)


@pytest.fixture(scope="module")
def played():
    """State, and step of players of which one waits if the equilibrium is far from their losses."""
    player = still_without_gradient(optax.adam(1e-3))
    decode = partial(decoder_loss, weight=0.5, gated=True)
    phases = [
        Phase("discriminator", judge, ("discriminator",), player, embed=discriminator_rows),
        Phase("encoder", encoder_loss, ("encoder",), player),
        Phase("decoder", decode, ("decoder",), player),
    ]
    task = Task(NETWORKS, [Stage(phases, together=True)])
    element = ELEMENT | {"equilibrium": jax.ShapeDtypeStruct((), jnp.float32)}
    return jax.jit(partial(init_state, task, 0, element))(), jax.jit(make_step(task))


@pytest.mark.parametrize(
    ("equilibrium", "still"), [(5.0, "discriminator"), (0.1, "decoder"), (0.69, "")]
)
def test_the_player_that_is_ahead_waits(equilibrium, still, played):
    """Its parameters and its Adam stay as they are, its count of steps too."""
    state, step = played
    new, metrics = step(state, BATCH_OF | {"equilibrium": jnp.full(BATCH, equilibrium)})
    for name in ("discriminator", "encoder", "decoder"):
        old, moved = (tree.flatten(s.params[name]) for s in (state, new))
        same = all(np.array_equal(old[path], moved[path]) for path in old)
        assert same == (name == still), name
        assert new.opt_state[name][0].count == (name != still)
    assert metrics["discriminator/moves"] == (still != "discriminator")
    assert new.collections["equilibrium"]["decoder"] == (still != "decoder")


def test_the_same_networks_as_a_vae_of_pixels():
    """|x - y|^2 / (2 variance) + KL, at a decoder that ignores its latent."""
    params = jax.eval_shape(
        nn.init(lambda nets: pixel_loss(nets, BATCH_OF), NETWORKS),
        {"params": jax.random.key(0), "example": jax.random.key(1)},
    )["params"]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), params)
    apply = nn.apply(lambda nets: pixel_loss(nets, BATCH_OF, variance=0.1), NETWORKS)
    found = jax.jit(apply)({"params": zeros}, rngs={"example": jax.random.key(1)})
    image = np.asarray(BATCH_OF["image"], np.float64)
    expected = np.square(image - 0.5).sum((1, 2, 3)) / (2 * 0.1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    np.testing.assert_allclose(found.aux["kl"], 0, atol=1e-6)
