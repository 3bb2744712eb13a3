"""BigGAN's sizes, errors, initial weights, and what its samples are made with."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, make_step, tree
from genax.core.data import Shard
from genax.core.step import init_state
from genax.gan.big_gan import SIZES, BigGANDiscriminator, BigGANGenerator, levels
from genax.gan.game import Round
from genax.gan.networks import Networks
from genax.gan.orthogonal import off_diagonal, orthogonal_penalty
from genax.gan.sampling import generate
from genax.gan.standing_statistics import standing_images
from genax.gan.truncation import truncated_normal
from genax.nn.conditions import on_label
from genax.running.sampling import sample, variables
from tests.experiments import config_of, load

OF_DISCRIMINATOR = ("width", "multipliers", "attention_at", "deep")
SMALL = {
    "image_size": 16,
    "channels": 1,
    "width": 8,
    "latent_size": 6,
    "label_size": 4,
    "multipliers": (4, 2, 1),
    "attention_at": 8,
    "num_classes": 3,
}


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def count(network, *inputs):
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "generator", "spare", "discriminator"),
    [
        ("128", 70_433_988, None, 87_982_370),
        pytest.param("256", 82_235_844, None, 99_225_890, marks=pytest.mark.long),
        pytest.param("deep128", 50_244_484, 50_388_609, 34_590_210, marks=pytest.mark.long),
        pytest.param("deep256", 55_736_708, 55_880_833, 38_247_426, marks=pytest.mark.long),
        pytest.param("deep512", None, 56_163_905, None, marks=pytest.mark.long),
    ],
)
def test_published_parameter_counts(name, generator, spare, discriminator):
    """Those of the official-style code, and with spare channels of the authors' weights."""
    sizes, label = SIZES[name], shape(2, dtype=jnp.int32)
    network = BigGANGenerator(**sizes, num_classes=1_000)
    z = shape(2, sizes["latent_size"])
    opponent = BigGANDiscriminator(
        **{field: sizes[field] for field in OF_DISCRIMINATOR}, num_classes=1_000
    )
    pixels = sizes["image_size"]
    if generator is not None:
        assert count(network, z, label) == generator
    if spare is not None:
        assert count(network.clone(spare_channels=True), z, label) == spare
    if discriminator is not None:
        assert count(opponent, shape(2, pixels, pixels, 3), label) == discriminator


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((24, (4, 2, 1), 0), None),
        ((24, (4, 2), 0), "multipliers"),
        ((30, (4, 2, 1), 0), "30x30"),
        ((16, (1, 2, 4), 0), "rise"),
        ((16, (4, 2, 1), 4), "attention_at=4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    if message is None:
        assert levels(*sizes) == [6, 12, 24]
        return
    with pytest.raises(GenaxError, match=message):
        levels(*sizes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent_size": 7}, "latent_size=7"),
        ({"width": 2, "attention_at": 16}, "8 channels"),
        ({"width": 1, "attention_at": 0, "deep": True}, "4 channels"),
    ],
)
def test_networks_that_cannot_be_made_are_refused(fields, message):
    fields = SMALL | fields
    network = BigGANGenerator(**fields)
    with pytest.raises(GenaxError, match=message):
        jax.eval_shape(
            network.init,
            jax.random.key(0),
            shape(2, fields["latent_size"]),
            shape(2, dtype=jnp.int32),
        )


def networks(**fields):
    fields = SMALL | fields
    shared = {name: fields[name] for name in ("width", "multipliers", "attention_at")}
    return Networks(
        BigGANGenerator(**fields),
        BigGANDiscriminator(**shared, num_classes=fields["num_classes"]),
    )


@pytest.fixture(scope="module")
def made():
    """Networks, variables whose statistics have moved, and a batch."""
    nets = networks()
    batch = {"index": jnp.arange(6), "label": jnp.arange(6) % 3}
    image = jnp.asarray(np.random.default_rng(0).normal(size=(6, 16, 16, 1)), jnp.float32)

    def both(nets, batch):
        return nets.discriminator(
            generate(nets, batch, condition=on_label) + image, batch["label"], train=True
        )

    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    state = jax.jit(nn.init(both, nets))(rngs, batch)
    return nets, state, batch


def drawn(function, made, key=2, **changes):
    nets, state, batch = made
    apply = jax.jit(
        lambda batch, key: nn.apply(function, nets)(state, batch, rngs={"example": key})
    )
    return apply({**batch, **changes}, jax.random.key(key))


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range(made, label):
    """A sentence outside of jit, NaN inside."""
    nets, state, _ = made
    generator = nets.generator.bind({name: part["generator"] for name, part in state.items()})
    with pytest.raises(GenaxError, match="labels are 0 to 2"):
        generator(jnp.zeros((1, 6)), jnp.array([label]))
    labels = jnp.array([0, label, 1, 2, 0, 1])
    images = drawn(partial(generate, condition=on_label), made, label=labels)
    assert jnp.isnan(images[1]).all()
    assert jnp.isfinite(images[jnp.array([0, 2, 3, 4, 5])]).all()
    scores = jax.jit(lambda x, y: nn.apply(lambda nets: nets.discriminator(x, y), nets)(state))
    found = scores(jnp.zeros((6, 16, 16, 1)), labels)
    assert jnp.isnan(found).tolist() == [False, True, False, False, False, False]


def test_label_and_each_part_of_the_latent_matter(made):
    nets, state, _ = made
    generator = {name: part["generator"] for name, part in state.items()}
    render = jax.jit(lambda z, label: nets.generator.apply(generator, z, label))
    z, label = jnp.ones((1, 6)), jnp.array([0])
    first = render(z, label)
    assert (render(z, jnp.array([1])) != first).any()
    for start in (0, 2, 4):
        assert (render(z.at[:, start].set(-1.0), label) != first).any()


def test_initial_weights_are_orthogonal(made):
    for path, kernel in tree.flatten(made[1]["params"]).items():
        if kernel.ndim > 1:
            matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
            products = matrix.T @ matrix if len(matrix) >= len(matrix.T) else matrix @ matrix.T
            np.testing.assert_allclose(products, np.eye(len(products)), atol=1e-5, err_msg=path)


def test_without_classes_there_are_no_labels():
    nets = networks(num_classes=None)
    z, x = jnp.ones((2, 6)), jnp.ones((2, 16, 16, 1))
    shapes = jax.eval_shape(nets.generator.init, jax.random.key(0), z)
    assert "labels" not in shapes["params"]
    assert "labels" not in jax.eval_shape(nets.discriminator.init, jax.random.key(0), x)["params"]


@pytest.mark.long
def test_orthogonal_penalty_has_the_gradient_of_the_official_code(made):
    """2 weight (W W^T * (1 - I)) W, where W has a row for each output; nothing of embeddings."""
    nets, state, batch = made
    played = Round(None, jnp.zeros(6), jnp.zeros((6, 16, 16, 1)), lambda images: jnp.zeros(6))
    # Kernels are orthogonal at first.
    shaken = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape),
        state["params"],
    )

    @jax.jit
    @jax.grad
    def gradient(params):
        found = nn.apply(partial(orthogonal_penalty, found=played, weight=0.3), nets)(
            {**state, "params": params}, batch
        )
        return found.mean()

    gradients = gradient(shaken)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients["discriminator"]))
    params, checked = tree.flatten(shaken["generator"]), 0
    for path, leaf in tree.flatten(gradients["generator"]).items():
        kernel = np.asarray(params[path], np.float64)
        if kernel.ndim < 2 or path.startswith("labels"):
            assert (leaf == 0).all(), path
            continue
        rows = kernel.reshape(-1, kernel.shape[-1]).T
        expected = 2 * 0.3 * (rows @ rows.T * (1 - np.eye(len(rows)))) @ rows
        np.testing.assert_allclose(leaf, expected.T.reshape(kernel.shape), 1e-4, 1e-5, err_msg=path)
        checked += 1
    assert checked > 10
    orthogonal = jnp.eye(4)[:, :3] * jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(off_diagonal(orthogonal), 0, atol=1e-6)


def test_truncated_latents_are_no_larger_and_keep_their_order():
    key = jax.random.key(0)
    whole = truncated_normal(0.0)(key, (1000,))
    assert (whole == jax.random.normal(key, (1000,))).all()
    wide, narrow = (truncated_normal(most)(key, (1000,)) for most in (2.0, 0.5))
    assert jnp.abs(wide).max() <= 2.0
    assert 0.45 < jnp.abs(narrow).max() <= 0.5
    assert (jnp.abs(narrow) <= jnp.abs(wide) + 1e-6).all()
    assert (narrow.argsort() == wide.argsort()).all()


def test_standing_statistics_are_the_moments_of_samples(made):
    """Batches that are all alike have the moments of one of them."""
    nets, state, batch = made

    def same(key, shape):
        return jnp.sin(1.0 + jnp.arange(shape[0]))

    images = drawn(
        partial(standing_images, draw=same, condition=on_label, passes=3, size=6, num_classes=1),
        made,
    )
    own = {name: part["generator"] for name, part in state.items()}
    z, label = jnp.tile(same(None, (6,)), (6, 1)), batch["label"]

    @jax.jit
    def expected(own):
        zero = jax.tree.map(jnp.zeros_like, own["batch_stats"])
        _, moved = nets.generator.apply(
            {**own, "batch_stats": zero}, z, 0 * label, train=True, mutable=["batch_stats"]
        )
        moments = jax.tree.map(lambda tenth: 10 * tenth, moved["batch_stats"])
        return nets.generator.apply({**own, "batch_stats": moments}, z, label)

    # What tanh gets is as large as 10.
    np.testing.assert_allclose(images, expected(own), 1e-5, 1e-4)
    plain = drawn(partial(generate, draw=same, condition=on_label), made)
    assert (jnp.abs(images - plain) > 1e-3).any()


@pytest.mark.long
def test_standing_statistics_do_not_depend_on_the_samples(made):
    nets, state, batch = made
    standing = partial(standing_images, condition=on_label, passes=2, size=4, num_classes=3)
    few = {name: array[:2] for name, array in batch.items()}
    np.testing.assert_allclose(
        drawn(standing, (nets, state, few)), drawn(standing, made)[:2], 1e-5, 1e-4
    )


@pytest.mark.long
def test_experiment_runs_on_the_digits():
    """With everything that is off by default. What no phase trains keeps still."""
    module = load("experiments/gan/big_gan.py")
    config = config_of(module, "digits")
    config.update(
        width=8,
        orthogonal_weight=1e-4,
        truncation=0.5,
        standing_passes=2,
        coverage_samples=0,
        ema_start=2,
        critic_steps=2,
    )
    experiment = module.build(config)
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    step = jax.jit(make_step(experiment.task))
    data = experiment.data.train(config.batch_size, 0, Shard())
    states = [state]
    for _ in range(4):
        batch = next(data)
        batch.pop("id")
        state, metrics = step(states[-1], batch)
        states.append(state)
    assert metrics["discriminator/finite"]
    assert metrics["generator/orthogonal"] >= 0

    def moved(before, after, part):
        pairs = zip(*map(jax.tree.leaves, (part(before), part(after))), strict=True)
        return any((one != other).any() for one, other in pairs)

    # The generator moves on the second and the fourth step, and its average with it.
    for number, moves in enumerate((False, True, False, True)):
        before, after = states[number : number + 2]
        assert moved(before, after, lambda state: state.params["generator"]) == moves
        assert moved(before, after, lambda state: state.params["discriminator"])
        assert moved(before, after, lambda state: state.ema) == moves
    assert {path.split("/")[0] for path in state.ema} == {
        "generator",
        "batch_stats",
        "spectral_norm",
    }

    sampler = experiment.task.samplers["images"]
    condition = sampler.condition(4, None)
    images = sample(experiment.task, sampler, variables(state), 4, condition=condition)
    assert images.shape == (4, 8, 8, 1)
    assert np.isfinite(images).all()
    sampler.render(images, {}, None)
