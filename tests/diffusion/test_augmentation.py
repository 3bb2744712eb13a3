"""EDM's augmentation: each part against a direct formula, its labels, and how networks get them.

Numbers that are given here are those of the paper's public code.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, Loss
from genax.core.step import init_state
from genax.diffusion.augmentation import (
    SYM6,
    Transformation,
    labels_of,
    on_augmented,
    random_transformation,
    transformed,
)
from genax.diffusion.losses import denoising_loss, images_of
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.networks import Networks
from genax.diffusion.unet import UNet
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.timestep_embedding import TimestepEmbedding, sinusoidal_embedding
from tests.diffusion.toys import WavyDenoiser, run
from tests.experiments import config_of, load
from tests.parity import require

EDM = load("experiments/diffusion/edm.py")
NONE = Transformation(*map(jnp.float32, [0] * 6), jnp.zeros(2))
NOISE = np.random.default_rng(0).uniform(-1, 1, (8, 12, 3)).astype(np.float32)
UNETS = [
    UNet(8, (1,), 1, (), num_groups=4, augmentation_labels=9),
    NCSNpp(8, (1,), 1, (), augmentation_labels=9),
]
MANY = 20_000


def changed(image, **parts):
    return np.asarray(jax.jit(transformed)(image, NONE._replace(**parts)))


def drawn(probability):
    """Labels of many random transformations, and these."""
    keys = jax.random.split(jax.random.key(0), MANY)
    found = jax.vmap(lambda key: random_transformation(key, probability))(keys)
    return np.asarray(jax.vmap(labels_of)(found), np.float64), found


def test_nothing_is_done_at_probability_zero():
    labels, _ = drawn(0.0)
    np.testing.assert_array_equal(labels, 0.0)
    np.testing.assert_allclose(changed(NOISE), NOISE, atol=1e-6)


def test_flips_are_flips():
    np.testing.assert_allclose(changed(NOISE, mirrored=1.0), NOISE[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(changed(NOISE, flipped=1.0), NOISE[::-1], atol=1e-6)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 4), (8, -3)])
def test_whole_shifts_are_those_of_a_reflected_image(right, down):
    padded = np.pad(NOISE, ((7, 7), (11, 11), (0, 0)), mode="reflect")
    expected = padded[7 - down : 15 - down, 11 - right : 23 - right]
    shift = jnp.array([8 * right / 12, 8 * down / 8])
    np.testing.assert_allclose(changed(NOISE, shift=shift), expected, atol=1e-5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(quarters):
    """The filter is nearly symmetric, so a smooth image is turned nearly without loss."""
    y, x = np.meshgrid(*2 * [np.linspace(-1, 1, 32)], indexing="ij")
    image = np.stack([np.sin(3 * y + x), np.cos(2 * x - y), x * y], axis=-1).astype(np.float32)
    found = changed(image, angle=quarters * np.pi / 2)
    np.testing.assert_allclose(found, np.rot90(image, quarters), atol=0.04)
    assert np.abs(found - np.rot90(image, quarters + 2)).max() > 0.5


def bump(y, x, long=2.0, wide=2.0, angle=0.0):
    """A Gaussian of 32x32 pixels about a place relative to the middle.

    long, wide: its deviations along the angle, counterclockwise from the right, and across it.
    """
    rows, columns = (np.arange(32) - 15.5)[:, None] - y, (np.arange(32) - 15.5)[None, :] - x
    along = np.cos(angle) * columns - np.sin(angle) * rows
    across = np.sin(angle) * columns + np.cos(angle) * rows
    return np.exp(-0.5 * ((along / long) ** 2 + (across / wide) ** 2))[..., None]


# The bump below is 5 pixels from the middle, at this angle; SIXTH more when turned.
ANGLE, SIXTH, LARGER = np.arctan2(4, 3), np.pi / 6, 2**0.4
SHIFT = jnp.array([0.3, -0.5])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"scale": 2.0}, bump(-4 * LARGER, 3 * LARGER, 2 * LARGER, 2 * LARGER)),
        ({"angle": SIXTH}, bump(-5 * np.sin(ANGLE + SIXTH), 5 * np.cos(ANGLE + SIXTH))),
        ({"stretch": 2.0}, bump(-4 / LARGER, 3 * LARGER, 2 * LARGER, 2 / LARGER)),
        ({"shift": SHIFT}, bump(-4 - 2.0, 3 + 1.2)),
        ({"mirrored": 1.0, "flipped": 1.0, "shift": SHIFT}, bump(4 - 2.0, -3 + 1.2)),
        ({"angle": np.pi / 2, "shift": SHIFT}, bump(-3 - 2.0, -4 + 1.2)),
    ],
)
def test_a_bump_moves_as_the_parts_say(parts, expected):
    found = changed(bump(-4, 3).astype(np.float32), **parts)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_the_direction_of_a_stretch_is_counterclockwise_from_the_right():
    found = changed(bump(0, 0).astype(np.float32), stretch=3.0, direction=0.7)
    np.testing.assert_allclose(found, bump(0, 0, 2 * 2**0.6, 2 * 2**-0.6, 0.7), atol=0.03)


def by_torch(image, t):
    """The same by a transposed convolution, `grid_sample` and a convolution, in float64."""
    torch, functional = require("torch", "torch.nn.functional")
    x = np.asarray(image, np.float64)
    x = x[:, ::-1] if t.mirrored else x
    x = x[::-1] if t.flipped else x
    h, w, channels = x.shape
    x = np.pad(x, ((h - 1, h - 1), (w - 1, w - 1), (0, 0)), mode="reflect")
    kernel = torch.tensor(np.outer(SYM6, SYM6))[None, None]
    x = torch.tensor(x.transpose(2, 0, 1)[:, None].copy())
    x = functional.conv_transpose2d(x, kernel, stride=2)[..., 5:-5, 5:-5]

    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    stretch = np.diag(2.0 ** (0.2 * float(t.stretch) * np.array([-1, 1])))
    back = 2.0 ** (-0.2 * float(t.scale)) * turn(float(t.angle))
    back = back @ turn(-float(t.direction)) @ stretch @ turn(float(t.direction))
    # Pixels and, in halves of pixels, the doubled ones, relative to the middle.
    columns, rows = (np.arange(-5, 2 * size + 5) / 2 - size / 2 + 0.5 for size in (w, h))
    places = np.stack(np.meshgrid(columns, rows), axis=-1)
    places = (places - 0.125 * np.asarray(t.shift, np.float64) * [w, h]) @ back.T
    # `grid_sample` has the middle at 0 and the ends at -1 and 1, and the filter has a delay.
    doubled = np.array([x.shape[-1], x.shape[-2]])
    places = (4 * places - 1) / doubled
    grid = torch.tensor(places)[None].expand(channels, -1, -1, -1)
    x = functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
    x = functional.conv2d(x, kernel, stride=2)
    return x[:, 0].numpy().transpose(1, 2, 0)


def test_agreement_with_torch_resampling():
    for key in jax.random.split(jax.random.key(1), 8):
        drawn = random_transformation(key, 0.8)
        found = np.asarray(jax.jit(transformed)(NOISE, drawn))
        np.testing.assert_allclose(found, by_torch(NOISE, drawn), atol=2e-5)


def test_labels_are_those_of_the_published_code():
    t = Transformation(*map(jnp.float32, (1, 1, 0.5, 2.0, -1.5, 0.7)), jnp.array([0.1, -0.2]))
    turned, stretched = [np.cos(2) - 1, np.sin(2)], [-1.5 * np.cos(0.7), -1.5 * np.sin(0.7)]
    expected = [1, 1, 0.5, *turned, *stretched, 0.1, -0.2]
    np.testing.assert_allclose(labels_of(t), expected, rtol=1e-6)


def test_how_often_each_part_is_drawn():
    """Mirroring is half of the time at any probability; a coin decides on the other flip."""
    probability = 0.12
    labels, found = drawn(probability)
    shares = (labels != 0).mean(0)
    expected = [0.5, probability / 2, *[probability] * 7]
    # Half of the stretches are along the axes.
    expected[6] = probability / 2
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / MANY))
    for column in (2, 7, 8):
        values = labels[labels[:, column] != 0, column]
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=0.1)
    angles = np.asarray(found.angle)[np.asarray(found.angle) != 0]
    np.testing.assert_allclose([angles.min(), angles.max()], [-np.pi, np.pi], atol=0.05)
    # One decision is for both numbers of a shift, and none for two parts.
    assert ((labels[:, 7] != 0) == (labels[:, 8] != 0)).all()
    together = ((labels[:, 2] != 0) & (labels[:, 7] != 0)).mean()
    np.testing.assert_allclose(together, probability**2, atol=4 * np.sqrt(probability**2 / MANY))


class Seen(nn.Module):
    """A denoiser that keeps the labels that it gets."""

    @nn.compact
    def __call__(self, x, times, train=False, *, augmentation):
        self.sow("seen", "augmentation", augmentation)
        return x * self.param("one", nn.initializers.ones, ())


VALUES = {"params": {"denoiser": {"one": np.float32(1.0)}}}


def seen_by(function, batch):
    """What a function of networks and a batch returns, and the labels that the network gets."""
    apply = nn.apply(function, Networks(Seen()), mutable=["seen"])
    keys = {"example": jax.random.key(0)}
    found, seen = jax.jit(lambda batch: apply(VALUES, batch, rngs=keys))(batch)
    return found, np.asarray(seen["seen"]["denoiser"]["augmentation"][0])


def test_an_image_is_augmented_by_its_number_in_the_batch():
    loss = on_augmented(partial(denoising_loss, process=VarianceExploding()), 0.5)
    images = np.stack([NOISE] * 4)
    values, labels = seen_by(loss, {"image": images, "index": np.arange(4)})
    again, same = seen_by(loss, {"image": images, "index": np.array([3, 1, 0, 2])})
    np.testing.assert_array_equal(same, labels[[3, 1, 0, 2]])
    np.testing.assert_allclose(again.values, values.values[np.array([3, 1, 0, 2])], rtol=1e-5)
    assert labels.shape == (4, 9)
    assert len(np.unique(labels, axis=0)) == 4


def test_training_has_labels_and_samples_and_scores_have_none():
    """A network that takes no labels draws samples and is scored: none are given."""
    config = config_of(EDM, "digits")
    config.augment_probability, config.sampling_steps, config.probes = 0.5, 2, 0
    experiment = EDM.build(config)
    assert experiment.task.networks.denoiser.augmentation_labels == 9
    images = {"image": np.zeros((2, 8, 8, 1), np.float32), "index": np.arange(2)}
    [[phase]] = (stage.phases for stage in experiment.task.stages)
    assert seen_by(phase.loss, images)[1].any()
    score = experiment.task.evaluators["output_mse"].function
    assert np.isfinite(run(score, WavyDenoiser(), images).values).all()
    draw = experiment.task.samplers["images"].function
    samples = run(draw, WavyDenoiser(), {"index": np.arange(2)})
    assert samples.shape == (2, 8, 8, 1)


def test_values_beyond_the_range_are_no_mistake_once_augmented():
    """The filter overshoots; outside of jit too that is none of the user's."""
    beyond = {"image": np.full((1, 4, 4, 1), 1.2, np.float32)}
    with pytest.raises(GenaxError, match=r"images from 1\.2"):
        images_of(beyond)
    np.testing.assert_array_equal(
        images_of({**beyond, "augmentation": np.zeros((1, 9))}), beyond["image"]
    )


def test_images_beyond_the_range_are_refused_before_they_are_augmented():
    loss = on_augmented(lambda *_, **__: Loss(jnp.zeros(1)), 0.5)
    batch = {"image": jnp.full((1, 4, 4, 1), 2.0), "index": jnp.arange(1)}
    with pytest.raises(GenaxError, match="images from 2 to 2"):
        nn.apply(loss, Networks(Seen()))({}, batch, rngs={"example": jax.random.key(0)})


def test_labels_are_added_to_the_sinusoids_without_a_bias():
    embedding, times, labels = TimestepEmbedding(8, 4), jnp.array([0.1, 0.7]), jnp.eye(9)[:2]
    params = embedding.init(jax.random.key(0), times, augmentation=labels)["params"]
    assert set(params["augmentation"]) == {"kernel"}
    found = embedding.apply({"params": params}, times, augmentation=labels)
    hidden = sinusoidal_embedding(times, 8) + labels @ params["augmentation"]["kernel"]
    hidden = nn.silu(hidden @ params["dense_0"]["kernel"] + params["dense_0"]["bias"])
    expected = hidden @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(
        embedding.apply({"params": params}, times, augmentation=jnp.zeros((2, 9))),
        embedding.apply({"params": params}, times),
    )


@pytest.mark.long
@pytest.mark.parametrize("network", UNETS, ids=["unet", "ncsnpp"])
def test_a_network_without_labels_has_labels_of_zero(network):
    x, times, labels = jnp.ones((2, 4, 4, 1)), jnp.array([0.1, 0.7]), jnp.eye(9)[:2]
    variables = jax.jit(network.init)(jax.random.key(0), x, times)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    apply = jax.jit(network.apply)
    without = apply(variables, x, times)
    zeros = apply(variables, x, times, augmentation=jnp.zeros((2, 9)))
    np.testing.assert_array_equal(zeros, without)
    assert np.abs(apply(variables, x, times, augmentation=labels) - without).max() > 1e-3
    del variables["params"]["time_embedding"]["augmentation"]
    plain = jax.jit(network.clone(augmentation_labels=0).apply)
    np.testing.assert_array_equal(plain(variables, x, times), without)


@pytest.mark.parametrize("network", UNETS, ids=["unet", "ncsnpp"])
def test_another_number_of_labels_is_refused(network):
    def shapes(network, count):
        x, given = jnp.ones((2, 4, 4, 1)), {"augmentation": jnp.zeros((2, count))}
        jax.eval_shape(lambda: network.init(jax.random.key(0), x, jnp.ones(2), **given))

    with pytest.raises(GenaxError, match=r"augmentation_labels=9\) got .* \(2, 8\), not \(2, 9\)"):
        shapes(network, 8)
    with pytest.raises(GenaxError, match=r"augmentation_labels=0\) got .* set augmentation_labels"):
        shapes(network.clone(augmentation_labels=0), 9)


@pytest.mark.long
@pytest.mark.parametrize(
    ("variant", "augmented", "plain"),
    [
        ("cifar10", 55_733_891, 55_732_739),
        ("cifar10-ncsnpp", 56_397_827, 56_395_523),
    ],
)
def test_sizes_are_those_of_the_published_code(variant, augmented, plain):
    """Labels add nine rows of the sinusoids' width, 128 or 256."""
    config = config_of(EDM, variant)
    assert config.augment_probability == 0.12
    assert not config.flip
    for probability, expected in ((0.12, augmented), (0.0, plain)):
        config.augment_probability = probability
        experiment = EDM.build(config)
        shapes = jax.eval_shape(lambda: init_state(experiment.task, 0, experiment.data.element))  # noqa: B023
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes.params)) == expected
