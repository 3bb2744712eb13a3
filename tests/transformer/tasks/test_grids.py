"""Grids of values: nothing is lost between pixels and values, and probabilities add up to 1."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn.conditions import on_label
from genax.transformer.grid_decoder import GridDecoder
from genax.transformer.networks import Networks
from genax.transformer.tasks.grids import check_patch, pixels_to_values, values_to_pixels
from genax.transformer.tasks.pixels import draw_pixels, log_likelihood, pixel_loss

SIDE, CLASSES = 2, 3
SHAPE = (SIDE, SIDE, 1)


def networks(length, values):
    return Networks(
        GridDecoder(values + CLASSES, length + 1, 16, num_layers=1, num_heads=2, num_values=values)
    )


@pytest.mark.parametrize(("levels", "patch"), [(2, 1), (2, 2), (256, 1), (17, 2)])
def test_pixels_and_values(levels, patch):
    rng = np.random.default_rng(0)
    level = rng.integers(0, levels, (3, 4, 6, 2))
    image = jnp.asarray(level / (levels - 1), jnp.float32)
    values = pixels_to_values(image, levels, patch)
    assert values.shape == (3, 4 * 6 * 2 // patch**2)
    assert 0 <= values.min() <= values.max() < levels**patch**2
    np.testing.assert_allclose(values_to_pixels(values, (4, 6, 2), levels, patch), image)
    if patch == 1:
        np.testing.assert_array_equal(values, level.reshape(3, -1))
    if patch == 2:
        first = level[0, :2, :2, 0].ravel() * levels ** np.arange(4)
        assert values[0, 0] == first.sum()


def test_no_pixels_of_a_number_that_is_none():
    found = values_to_pixels(jnp.int32([[3, 16], [3, 15]]), (2, 4, 1), 2, 2)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


@pytest.mark.parametrize("patch", [1, 2])
def test_probabilities_of_all_images_add_up_to_one(patch):
    """Each class has its own, though the tokens of classes stand beside the values."""
    length, values = SIDE**2 // patch**2, 2**patch**2
    nets = networks(length, values)
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    images = np.tile(bits.reshape(16, *SHAPE), (CLASSES, 1, 1, 1)).astype(np.float32)
    labels = np.repeat(np.arange(CLASSES), 16)
    batch = {"image": images, "label": labels, "index": np.arange(len(images))}
    score = partial(log_likelihood, levels=2, patch=patch, condition=on_label)

    @jax.jit
    def scored(batch):
        loss = lambda nets, batch: pixel_loss(nets, batch, 2, patch, on_label)  # noqa: E731
        params = nn.init(loss, nets)(jax.random.key(0), batch)
        params = jax.tree.map(lambda x: 20 * x, params)
        return nn.apply(score, nets)(params, batch)

    found = scored(jax.tree.map(jnp.asarray, batch))
    sums = np.exp(np.asarray(found.values, np.float64)).reshape(CLASSES, 16).sum(1)
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    assert np.abs(found.values[:16] - found.values[16:32]).max() > 1e-3
    expected = -found.values / (4 * np.log(2))
    np.testing.assert_allclose(found.aux["bits_per_dim"], expected, rtol=1e-5)


def test_images_are_drawn_by_their_probabilities():
    nets, shape, count = networks(2, 2), (1, 2, 1), 4_000

    @jax.jit
    def call(key):
        batch = {"index": jnp.arange(4)}
        bits = (jnp.arange(4)[:, None] >> jnp.arange(2)) & 1
        batch["image"] = bits.reshape(4, *shape).astype(jnp.float32)
        params = nn.init(pixel_loss, nets)(key, batch)
        params = jax.tree.map(lambda x: 20 * x, params)
        scores = nn.apply(log_likelihood, nets)(params, batch)
        draw = partial(draw_pixels, shape=shape)
        rngs = {"example": jax.random.key(1)}
        drawn = nn.apply(draw, nets)(params, {"index": jnp.arange(count)}, rngs=rngs)
        return scores.values, drawn

    scores, drawn = call(jax.random.key(0))
    assert set(np.unique(drawn)) <= {-1.0, 1.0}
    number = ((drawn.reshape(count, 2) > 0) * np.array([1, 2])).sum(1)
    shares = np.bincount(number, minlength=4) / count
    np.testing.assert_allclose(shares, np.exp(scores), atol=0.03)


def test_refusals():
    check_patch((28, 28, 1), 2, 4)
    with pytest.raises(GenaxError, match=r"28x28 are no whole number of 3x3 pixels"):
        check_patch((28, 28, 1), 2, 3)
    with pytest.raises(GenaxError, match=r"have 256\^4 values, more than the 65536"):
        check_patch((28, 28, 1), 256, 2)
