"""StyleGAN2's sizes, styles, experiment and tools, without a reference."""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, init_state, make_step
from genax.core.data import Shard
from genax.gan.latents import interpolate, linear, spherical, truncation_sweep
from genax.gan.networks import Networks
from genax.gan.path_length import style_lengths
from genax.gan.projection import project, project_to_styles
from genax.gan.style_gan2 import SIZES, StyleGAN2Discriminator, StyleGAN2Generator
from genax.gan.style_inputs import mixed, with_noise
from genax.gan.style_tools import style_mixing_grid, style_truncation_sweep
from genax.running.sampling import sample, variables
from tests.contracts.harness import quick_compilation
from tests.experiments import config_of, load

SMALL = {"image_size": 8, "channels": 1, "latent_size": 6, "style_size": 5, "mapping_layers": 1}
SMALL |= {"width": 32, "max_width": 8}


def count(network, *inputs):
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [("1024", 30_370_060, 29_012_513), ("256", 24_767_458, 24_001_089)],
)
def test_published_parameter_counts(name, generator, discriminator):
    size = SIZES[name]
    z, image = jnp.zeros((1, 512)), jax.ShapeDtypeStruct((1, *[size["image_size"]] * 2, 3), "f4")
    assert count(StyleGAN2Generator(**size), z) == generator
    assert count(StyleGAN2Discriminator(size["width"]), image) == discriminator
    if name == "256":
        assert count(StyleGAN2Generator(**size | {"width": 32_768}), z) == 30_034_338
    module = load("experiments/gan/style_gan2.py")
    networks = module.build(config_of(module, f"celebahq{name}")).task.networks
    assert networks.generator == StyleGAN2Generator(**size, channels=3)
    assert networks.discriminator.width == size["width"]


def test_what_cannot_be_made_is_refused():
    with pytest.raises(GenaxError, match=r"images of 24x24 .* power of two"):
        StyleGAN2Generator(24)
    with pytest.raises(GenaxError, match="no architecture 'deep'; choose plain, skip, residual"):
        StyleGAN2Discriminator(architecture="deep")
    labelled = StyleGAN2Generator(**SMALL, num_classes=3)
    z = jnp.zeros((2, 6))
    with pytest.raises(GenaxError, match="without a label"):
        labelled.init(jax.random.key(0), z)
    with pytest.raises(GenaxError, match="label 3: labels are 0 to 2"):
        labelled.init(jax.random.key(0), z, jnp.array([0, 3]))


NETWORKS = Networks(StyleGAN2Generator(**SMALL), StyleGAN2Discriminator(32, 8, group_size=1))


@cache
def initial():
    """Variables of the networks; noise counts, unlike at the start of training."""

    def everything(nets):
        batch = {"index": jnp.arange(2)}
        nets.discriminator(nets.generator(jnp.zeros((2, 6)), **with_noise(nets, batch)))

    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    with quick_compilation():
        made = jax.jit(nn.init(everything, NETWORKS))(rngs)
    made["params"]["generator"]["synthesis"]["layer_8"]["noise"] = jnp.float32(0.5)
    return made


def applied(function, collections=None, batch=None, size=3):
    """What a function of bound networks returns, and the mean style after it."""
    batch = {"index": jnp.arange(size), **(batch or {})}
    apply = nn.apply(function, NETWORKS, mutable=["mean_style"])
    rngs = {"example": jax.random.key(1)}
    with quick_compilation():
        return jax.jit(apply)({**initial(), **(collections or {})}, batch, rngs=rngs)


def test_the_mean_style_moves_in_training_alone():
    def styles(nets, batch, train):
        z = jax.random.normal(jax.random.key(5), (3, 6))
        return nets.generator.styles(z, second=-z, crossover=jnp.full(3, 2), train=train)

    found, new = applied(lambda nets, batch: styles(nets, batch, True))
    expected = 0.005 * found[:, 0].mean(0)
    np.testing.assert_allclose(new["mean_style"]["generator"]["mean"], expected, rtol=1e-4)
    _, new = applied(lambda nets, batch: styles(nets, batch, False))
    np.testing.assert_array_equal(new["mean_style"]["generator"]["mean"], np.zeros(5))


def test_styles_are_mixed_from_a_layer_on():
    def drawn(nets, batch):
        given = mixed(nets, batch)
        return given, nets.generator.num_styles

    (given, layers), _ = applied(drawn, size=400)
    crossover = np.array(given["crossover"])
    assert {*crossover.tolist()} == {1, 2, 3, int(layers)}
    assert 0.03 < (crossover == layers).mean() < 0.2
    assert set(applied(lambda nets, batch: mixed(nets, batch, 0.0))[0]) == {"noise"}


def test_lengths_stand_for_what_was_left_out():
    lengths, _ = applied(lambda nets, batch: style_lengths(nets, batch), size=5)
    assert lengths.shape == (5,)
    assert (lengths[:2] == lengths[0]).all()
    assert (lengths[2:4] == lengths[2]).all()
    assert lengths[0] != lengths[2]


def test_paths_lead_from_one_latent_to_another():
    start, end = jax.random.normal(jax.random.key(0), (2, 4, 512))
    shares = jnp.linspace(0, 1, 5)
    for path in (linear, spherical):
        points = path(start, end, shares)
        np.testing.assert_allclose(points[:, 0], start, atol=1e-5)
        np.testing.assert_allclose(points[:, -1], end, atol=1e-5)
    lengths = jnp.linalg.norm(spherical(start, end, shares)[:, 2], axis=-1)
    assert (lengths > 20).all()
    assert (jnp.linalg.norm(linear(start, end, shares)[:, 2], axis=-1) < 18).all()
    np.testing.assert_allclose(spherical(start, start, shares)[:, 2], start, atol=1e-4)


def test_rows_of_images_on_a_way_have_one_noise():
    def drawn(nets, batch):
        return interpolate(nets, batch, frames=3, inputs=with_noise)

    found, _ = applied(drawn)
    assert found.shape == (3, 3, 8, 8, 1)
    assert np.abs(np.diff(found, axis=1)).max((1, 2, 3, 4)).min() > 1e-3

    # The same latent at both ends: only a noise of its own could change the images between.
    def still(nets, batch):
        draw = lambda key, shape: jnp.ones(shape)  # noqa: E731
        return interpolate(nets, batch, frames=3, draw=draw, inputs=with_noise)

    found, _ = applied(still)
    np.testing.assert_allclose(found[:, 0], found[:, 2], atol=1e-5)
    assert np.abs(found[0, 0] - found[1, 0]).max() > 1e-3


def test_truncation_leads_to_the_mean_image():
    collections = {"mean_style": {"generator": {"mean": jnp.ones(5)}}}

    def drawn(nets, batch):
        noiseless = lambda nets, batch: {}  # noqa: E731
        levels = (1.0, 0.5, 0.0)
        return style_truncation_sweep(nets, batch, levels, inputs=noiseless)

    found, _ = applied(drawn, collections)
    assert found.shape == (3, 3, 8, 8, 1)
    np.testing.assert_allclose(found[0, 2], found[1, 2], atol=1e-5)
    assert np.abs(found[0, 0] - found[1, 0]).max() > np.abs(found[0, 1] - found[1, 1]).max() > 0

    def scaled(nets, batch):
        draws = [lambda key, shape, by=by: by * jax.random.normal(key, shape) for by in (1.0, -1.0)]
        return truncation_sweep(nets, batch, draws)

    assert applied(scaled)[0].shape == (3, 2, 8, 8, 1)


def test_a_mixing_grid_has_the_others_in_its_first_row():
    def drawn(nets, batch):
        noiseless = lambda nets, batch: {}  # noqa: E731
        return style_mixing_grid(nets, batch, columns=2, layers=2, inputs=noiseless)

    found, _ = applied(drawn)
    assert found.shape == (3, 3, 8, 8, 1)
    np.testing.assert_array_equal(found[0, 0], 1.0)
    later, _ = applied(drawn, batch={"index": jnp.arange(3) + 7})
    assert (later[0, 0] != 1.0).any()
    # The first row is the others themselves, which all rows mix in.
    assert np.abs(found[1, 1] - found[0, 1]).max() > 1e-3
    assert np.abs(found[1, 1] - found[1, 0]).max() > 1e-3


class Plain(nn.Module):
    """A generator without styles."""

    latent_size: int = 6

    @nn.compact
    def __call__(self, z, train=False):
        return jnp.tanh(nn.Dense(64, name="image")(z)).reshape(-1, 8, 8, 1)


def test_projection_finds_a_latent():
    networks = Networks(Plain(), nn.Dense(1))
    wanted, params = networks.generator.init_with_output(jax.random.key(0), jnp.full((2, 6), 0.5))
    batch = {"image": wanted, "index": jnp.arange(2)}
    apply = nn.apply(lambda nets, batch: project(nets, batch, steps=100), networks)
    found = jax.jit(apply)({"params": {"generator": params["params"]}}, batch)
    np.testing.assert_array_equal(found[:, 0], wanted)
    np.testing.assert_allclose(found[:, 1], wanted, atol=0.02)


def test_projection_finds_styles():
    wanted, _ = applied(lambda nets, batch: nets.generator(0.5 * jnp.ones((1, 6))), size=1)
    errors = []
    for steps, each_layer in ((1, False), (100, False), (100, True)):
        found, _ = applied(
            lambda nets, batch, steps=steps, each_layer=each_layer: project_to_styles(
                nets, batch, steps, each_layer=each_layer
            ),
            batch={"image": wanted},
            size=1,
        )
        np.testing.assert_array_equal(found[:, 0], wanted)
        errors.append(float(np.square(found[:, 1] - wanted).mean()))
    assert errors[1] < 0.1 * errors[0]
    assert errors[2] < 0.5 * errors[0]


@pytest.mark.long
def test_experiment_runs_on_the_digits():
    """With adaptive augmentation and every lazy phase; then all samplers are drawn."""
    module = load("experiments/gan/style_gan2.py")
    config = config_of(module, "digits-adaptive")
    small = {name: value for name, value in SMALL.items() if name != "channels"}
    config.update(small | {"tools": True, "batch_size": 8, "path_every": 2, "num_classes": 10})
    experiment = module.build(config)
    with quick_compilation():
        state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    assert set(state.opt_state) == {"generator", "discriminator"}
    step = jax.jit(make_step(experiment.task))
    data = experiment.data.train(config.batch_size, 0, Shard())
    for _ in range(2):
        batch = next(data)
        batch.pop("id")
        with quick_compilation():
            state, metrics = step(state, batch)
        assert metrics["generator/finite"]
        assert metrics["discriminator/finite"]
    assert np.abs(state.collections["mean_style"]["generator"]["mean"]).max() > 0
    samplers = experiment.task.samplers
    assert list(samplers) == [
        "images",
        "interpolation",
        "interpolation_linear",
        "projection",
        "neighbours",
        "projection_each_layer",
        "truncation",
        "mixing",
    ]
    drawn = sample(experiment.task, samplers["mixing"], variables(state), 2)
    samplers["mixing"].render(drawn, {}, None)
