"""Translations: what is read, what is drawn, and how they are put together."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genax.core import GenaxError, init_state, make_step, tree
from genax.core.data import Shard, numeric
from genax.gan.game import LEAST_SQUARES
from genax.gan.patch_discriminator import PatchDiscriminator, PixelDiscriminator
from genax.gan.super_resolution import SRResNet
from genax.gan.translation import enlarged, grey, own_source, smaller, weighted
from genax.gan.unet_generator import UNetGenerator
from genax.running.evaluate import evaluate
from genax.running.sampling import sample, variables
from tests.experiments import config_of, load

RNG = np.random.default_rng(0)


def test_a_grey_source_is_that_of_pillow():
    levels = RNG.integers(0, 256, (5, 7, 3), np.uint8)
    found = grey({"image": jnp.asarray(levels[None] / 255.0)})[0, ..., 0] * 255
    expected = np.asarray(Image.fromarray(levels).convert("L"))
    np.testing.assert_allclose(found, expected, atol=1)
    with pytest.raises(GenaxError, match="images of 1 channels have no colours"):
        grey({"image": jnp.zeros((1, 2, 2, 1))})


def test_a_small_source_is_a_mean_and_is_enlarged_as_by_pillow():
    image = RNG.uniform(-1, 1, (1, 8, 8, 1)).astype(np.float32)
    batch, source = {"image": jnp.asarray(image)}, partial(smaller, factor=2)
    small = source(batch)
    np.testing.assert_allclose(small[0, 1, 2, 0], image[0, 2:4, 4:6].mean(), rtol=1e-5)
    picture = Image.fromarray(np.asarray(small)[0, ..., 0])
    expected = np.asarray(picture.resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(enlarged(batch, source)[0, ..., 0], expected, atol=1e-5)
    with pytest.raises(GenaxError, match="images of 8x8 cannot be made 3 times smaller"):
        smaller(batch, 3)


def test_a_grey_source_gets_three_channels_and_a_source_of_the_size_stays():
    batch = {"image": jnp.asarray(RNG.uniform(size=(2, 4, 4, 3))), "source": jnp.ones((2, 4, 4, 3))}
    assert (enlarged(batch, grey) == grey(batch)).all()
    np.testing.assert_allclose(enlarged(batch, own_source), batch["source"], rtol=1e-6)


def test_weights_of_a_game():
    real, fake = jnp.array([0.5]), jnp.array([-0.5])
    game = weighted(LEAST_SQUARES, discriminator=0.5, generator=3.0)
    for player, weight in (("discriminator", 0.5), ("generator", 3.0)):
        plain = getattr(LEAST_SQUARES, player)(real, fake)
        np.testing.assert_allclose(getattr(game, player)(real, fake), weight * plain)
    assert game.threshold == LEAST_SQUARES.threshold


@pytest.mark.parametrize(
    ("network", "count", "channels"),
    [
        (UNetGenerator(), 54_413_955, 3),
        (PatchDiscriminator(), 2_768_705, 6),
        (PixelDiscriminator(), 9_024, 6),
    ],
)
def test_published_parameter_counts(network, count, channels):
    image = jax.ShapeDtypeStruct((1, 256, 256, channels), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize(
    ("network", "size", "said"),
    [
        (UNetGenerator((4, 8, 8)), 28, "images of 28x28 cannot be halved 3 times"),
        (PatchDiscriminator(4, 3), 20, "images of 20x20 hold no patch .* at least 24"),
        (SRResNet(3), 8, "no image 3 times larger"),
    ],
)
def test_sizes_that_a_network_cannot_have(network, size, said):
    with pytest.raises(GenaxError, match=said):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def test_sides_that_are_no_power_of_two():
    image = jnp.zeros((1, 24, 40, 3))
    for network in (UNetGenerator((4, 8, 8)), PatchDiscriminator(4, 3), SRResNet(2, 3, 4, 1)):
        jax.eval_shape(network.init, jax.random.key(0), image)


def built(name, **settings):
    module = load(f"experiments/gan/{name}.py")
    config = config_of(module, "digits")
    config.update(settings)
    return config, module.build(config)


@pytest.mark.long
@pytest.mark.parametrize("name", ["pix2pix", "super_resolution"])
def test_an_experiment_moves_and_is_scored_beside_its_floor(name):
    small = {"widths": (8, 8, 8)} if name == "pix2pix" else {"width": 8, "widths": (8, 8)}
    config, experiment = built(name, num_samples=3, **small)
    element = experiment.data.element
    state = start = jax.jit(lambda: init_state(experiment.task, 0, element))()
    batch = numeric(next(experiment.data.train(config.batch_size, 0, Shard())))
    step = jax.jit(make_step(experiment.task))
    for _ in range(2):
        state, metrics = step(state, batch)
    moved = jax.tree.map(lambda a, b: (a != b).any(), state.params, start.params)
    assert all(tree.flatten(moved).values())
    np.testing.assert_allclose(
        metrics["generator/loss"], metrics["generator/game"] + metrics["generator/distance"], 1e-5
    )
    sampler = experiment.task.samplers["translations"]
    condition = sampler.condition(3, None)
    drawn = sample(experiment.task, sampler, variables(state), 3, condition=condition)
    assert drawn.shape == (3, 8, 8, element["image"].shape[-1])
    assert sampler.render(drawn, condition, None).size == (3 * 66 + 2, 3 * 66 + 2)
    scores = evaluate(experiment.task, variables(state), experiment.evaluation, 99, None)
    floor = scores.said["likeness"]["floor"]
    assert set(floor) == {"l1", "psnr"}
    assert scores["likeness/l1"] > 0
    if name == "super_resolution":
        assert 10 < floor["psnr"] < 20


@pytest.mark.long
def test_dropout_is_the_noise_of_pix2pix_and_the_batch_gives_its_statistics():
    _, experiment = built("pix2pix", widths=(8, 8, 8))
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    sampler = experiment.task.samplers["translations"]
    condition = sampler.condition(4, None)

    def drawn(statistics, seed):
        networks = {"params": state.params, **statistics}
        return sample(experiment.task, sampler, networks, 4, seed, condition)

    first = drawn(state.collections, 0)
    assert (first != drawn(state.collections, 1)).any()
    other = jax.tree.map(lambda leaf: leaf + 1, state.collections)
    np.testing.assert_array_equal(first, drawn(other, 0))


def test_the_distance_alone_has_no_discriminator():
    _, experiment = built("pix2pix", widths=(8, 8, 8), game_weight=0.0)
    element = experiment.data.element
    state = jax.eval_shape(partial(init_state, experiment.task, 0, element))
    assert set(state.params) == {"generator"}
    assert [phase.name for phase in experiment.task.stages[0].phases] == ["generator"]
