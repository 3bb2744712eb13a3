"""The classifier that reads patches from both ends."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.hybrid.s4d_block import S4DMixer
from genax.hybrid.vision_classifier import MIXERS, BothWays, VisionClassifier, show_slopes
from genax.transformer.tasks.classification import Networks

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(-1, 1, (2, 8, 8, 1)), jnp.float32)
# S4D's programs are the smallest.
NETWORK = VisionClassifier(8, 4, 8, 1, 3, model="s4d", state_size=4)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(NETWORK.init)(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def scores():
    return jax.jit(NETWORK.apply)


def test_both_ways_is_a_mixer_and_its_mirror_image():
    """Each direction sees what lies before a place on its own way, the place itself included."""
    layer = BothWays(partial(S4DMixer, 4))
    x = jnp.asarray(RNG.normal(size=(1, 5, 4)), jnp.float32)
    params = jax.jit(layer.init)(jax.random.key(0), x)["params"]
    one = jax.jit(lambda params, x: S4DMixer(4).apply({"params": params}, x)[0])
    ahead, back = one(params["ahead"], x), one(params["back"], x[:, ::-1])[:, ::-1]
    both = jax.jit(lambda x: layer.apply({"params": params}, x))
    found, state = both(x)
    np.testing.assert_allclose(found, (ahead + back) / 2, atol=1e-6)
    assert state is None
    changed = x.at[:, 2].add(1)
    # Fourier transforms spread rounding over all places.
    np.testing.assert_allclose(one(params["ahead"], changed)[:, :2], ahead[:, :2], atol=1e-6)
    moved = both(changed)[0] - found
    assert (jnp.abs(moved).max(-1) > 1e-3).all()


def test_every_patch_counts(variables, scores):
    first = scores(variables, IMAGES)
    assert first.shape == (2, 3)
    for row, column in ((0, 0), (0, 4), (4, 0), (4, 4)):
        changed = IMAGES.at[:, row : row + 4, column : column + 4].multiply(-1)
        assert (jnp.abs(scores(variables, changed) - first).max(1) > 1e-5).all()


def test_the_class_token_stands_in_the_middle(variables):
    hidden = jax.jit(partial(NETWORK.apply, method="hidden"))(variables, IMAGES)
    assert hidden.shape == (2, 5, 8)
    params = variables["params"]
    assert params["class_token"].shape == (1, 1, 8)
    assert params["position_embedding"].shape == (1, 5, 8)
    # What the head reads is the place of the token.
    head = hidden[:, 2] @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(head, NETWORK.apply(variables, IMAGES), atol=1e-5)


@pytest.mark.parametrize("model", MIXERS)
def test_sizes(model):
    """Parameters are counted by hand; the mean of the patches needs no class token."""
    build = partial(VisionClassifier, 8, 2, 16, 3, 10, model, 4, head_dim=8)
    shapes = jax.eval_shape(build().init, jax.random.key(0), IMAGES)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    inner, state, width = 32, 4, 16
    mixer = {
        # Projections in and out, convolution, selection, steps, A, D.
        "mamba": 3 * width * inner
        + 5 * inner
        + inner * (1 + 2 * state)
        + 2 * inner
        # Biases of steps are counted with them.
        + inner * state
        + inner,
        # Heads of 8 channels.
        "mamba2": width * (2 * inner + 2 * state + 4)
        + 5 * (inner + 2 * state)
        + 3 * 4
        + inner
        + inner * width,
        "s4d": 2 * width + width * (2 * 2 + 2 * 2) + 2 * width * (width + 1),
    }[model]
    others = 5 * width + 17 * width + width + width + (width + 1) * 10
    assert count == 3 * (2 * mixer + width) + others
    narrow = build(pool="mean", dtype=jnp.bfloat16)
    shapes = jax.eval_shape(narrow.init, jax.random.key(0), IMAGES)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count - 2 * width
    assert jax.eval_shape(narrow.apply, shapes, IMAGES).dtype == jnp.bfloat16


def test_slopes_are_those_of_the_likeliest_class(variables, scores):
    show = partial(show_slopes, batch={"image": IMAGES})
    nets = {"params": {"classifier": variables["params"]}}
    picture = jax.jit(nn.apply(show, Networks(NETWORK)))(nets)
    assert picture.shape == (2, 8, 16, 1)
    np.testing.assert_array_equal(picture[:, :, :8], IMAGES)
    maps = (np.asarray(picture[:, :, 8:, 0]) + 1) / 2
    np.testing.assert_allclose(maps.max((1, 2)), 1, rtol=1e-5)
    best = scores(variables, IMAGES)[0].argmax()

    def slope(row, column, step=1e-2):
        ends = [IMAGES.at[0, row, column, 0].add(sign * step) for sign in (1, -1)]
        ahead, behind = (float(scores(variables, end)[0, best]) for end in ends)
        return abs(ahead - behind)

    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    assert slope(3, 5) / slope(row, column) == pytest.approx(maps[0, 3, 5], abs=0.02)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 16}, "8x8 pixels, but the positions are for 16x16"),
        ({"pool": "max"}, "pool='max' is token or mean"),
        ({"model": "rnn"}, "model='rnn' one of mamba, mamba2, s4d"),
        ({"num_classes": 0}, "num_classes=0. has no head; call its `hidden`"),
        ({"model": "s4d", "state_size": 7}, "state_size=7.: modes come with their conjugates"),
    ],
)
def test_refusals(changes, words):
    with pytest.raises(GenaxError, match=words):
        jax.eval_shape(NETWORK.clone(**changes).init, jax.random.key(0), IMAGES)
