"""A codebook by numpy: which code, which gradient, what is averaged, what is revived."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.vae.codebook import COLLECTION, Codebook, nearest_code, smoothed, usage_of
from genax.vae.vq_autoencoder import VQAutoencoder

K, D, IMAGES, POSITIONS = 7, 3, 4, 5
RNG = np.random.default_rng(0)
VECTORS = jnp.asarray(RNG.normal(size=(IMAGES, POSITIONS, D)), jnp.float32)


def made(codebook, codes=None):
    """The variables of a codebook, with given codes."""
    variables = jax.jit(codebook.init)(jax.random.key(0), VECTORS)
    if codes is None:
        return variables
    if codebook.averages:
        return {COLLECTION: {**variables[COLLECTION], "sums": jnp.asarray(codes)}}
    return {**variables, "params": {"embedding": jnp.asarray(codes)}}


@partial(jax.jit, static_argnums=0)
def stepped(codebook, variables, vectors, index, key=1):
    """The collection after a part of a batch."""

    def call(module, vectors, index):
        module.follow(module(vectors, True), {"index": index})

    rngs = {"example": jax.random.key(key)}
    apply = nn.apply(call, codebook, mutable=COLLECTION)
    return apply(variables, vectors, index, rngs=rngs)[1][COLLECTION]


@partial(jax.jit, static_argnums=0)
def codes_of(codebook, collection):
    return codebook.apply({COLLECTION: collection}, method=lambda module: module.codes)


@partial(jax.jit, static_argnums=0)
def quantised(codebook, variables, vectors):
    return codebook.apply(variables, vectors)


def nearest_by_hand(vectors, codes):
    vectors = np.asarray(vectors, np.float64)
    distances = np.square(vectors[..., None, :] - np.asarray(codes)).sum(-1)
    return distances.argmin(-1)


def test_the_nearest_code():
    codes = jnp.asarray(RNG.normal(size=(K, D)), jnp.float32)
    np.testing.assert_array_equal(nearest_code(VECTORS, codes), nearest_by_hand(VECTORS, codes))


def test_of_equally_near_codes_the_first():
    codes = jnp.float32([[9, 9, 9], [1, 0, 0], [-1, 0, 0], [1, 0, 0]])
    found = nearest_code(jnp.float32([[0, 5, 0], [3, 0, 0], [-2, 1, 0]]), codes)
    np.testing.assert_array_equal(found, [1, 1, 2])


def test_what_is_not_finite_has_no_code():
    codebook = Codebook(K, D)
    found = quantised(codebook, made(codebook), jnp.float32([[np.nan, 0, 0], [0, 0, 0]]))
    assert found.index[0] == K
    assert np.isnan(found.straight[0]).all()
    assert np.isfinite(found.straight[1]).all()
    rows = codebook.apply(made(codebook), jnp.int32([-1, K, 0]), method="look_up")
    assert np.isnan(rows[:2]).all()
    assert np.isfinite(rows[2]).all()


def test_distances_are_those_of_float32():
    """Codes that bfloat16 would not tell apart."""
    codes = 1 + np.arange(K, dtype=np.float32)[:, None] * np.full(D, 1e-3, np.float32)
    codebook = Codebook(K, D, averages=False, dead_below=0.0)
    found = quantised(codebook, made(codebook, codes), jnp.asarray(codes))
    np.testing.assert_array_equal(found.index, np.arange(K))
    vectors = jnp.asarray(VECTORS, jnp.bfloat16)
    found = quantised(codebook, made(codebook, VECTORS.reshape(-1, D)[:K]), vectors)
    exact = nearest_by_hand(vectors.astype(jnp.float32), VECTORS.reshape(-1, D)[:K])
    np.testing.assert_array_equal(found.index, exact)
    assert found.straight.dtype == jnp.float32


@pytest.mark.parametrize("averages", [True, False])
def test_the_gradient_passes_straight_to_the_vectors(averages):
    codebook = Codebook(K, D, averages, dead_below=0.0)
    variables = made(codebook, RNG.normal(size=(K, D)).astype(np.float32))
    weights = RNG.normal(size=VECTORS.shape).astype(np.float32)

    def loss(variables, vectors):
        return (codebook.apply(variables, vectors).straight ** 2 * weights).sum()

    to_codes, to_vectors = jax.jit(jax.grad(loss, (0, 1)))(variables, VECTORS)
    nearest = quantised(codebook, variables, VECTORS).nearest
    np.testing.assert_allclose(to_vectors, 2 * nearest * weights, rtol=1e-5)
    assert all(not leaf.any() for leaf in jax.tree.leaves(to_codes))


def test_averages_by_hand():
    codebook = Codebook(K, D, decay=0.9, dead_below=0.0)
    variables = made(codebook, RNG.normal(size=(K, D)).astype(np.float32))
    sizes, sums = np.ones(K), np.array(variables[COLLECTION]["sums"], np.float64)
    np.testing.assert_allclose(codes_of(codebook, variables[COLLECTION]), sums, rtol=1e-5)
    for step in range(3):
        vectors = VECTORS + step
        collection = variables[COLLECTION]
        index = nearest_by_hand(vectors, codes_of(codebook, collection)).ravel()
        hits = np.eye(K)[index]
        sizes = 0.9 * sizes + 0.1 * hits.sum(0)
        sums = 0.9 * sums + 0.1 * hits.T @ vectors.reshape(-1, D)
        collection = stepped(codebook, variables, vectors, np.arange(IMAGES))
        np.testing.assert_allclose(collection["sizes"], sizes, rtol=1e-5)
        np.testing.assert_allclose(collection["sums"], sums, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(collection["counts"], hits.sum(0))
        total = sizes.sum()
        smooth = (sizes + 1e-5) / (total + K * 1e-5) * total
        found = codes_of(codebook, collection)
        np.testing.assert_allclose(found, sums / smooth[:, None], rtol=1e-4, atol=1e-6)
        variables = {COLLECTION: collection}


def test_parts_of_a_batch_add_up():
    """The changes of two parts are those of the whole, revival included."""
    codebook = Codebook(K, D, decay=0.8)
    variables = made(codebook)
    start = variables[COLLECTION]
    start = {**start, "sizes": start["sizes"].at[1:4].set(1e-3), "counts": start["sizes"]}
    variables = {COLLECTION: start}
    whole = stepped(codebook, variables, VECTORS, np.arange(IMAGES))
    assert (whole["sizes"][1:4] > 0.4).sum() == 2
    for parts in ([[0, 1], [2, 3]], [[0, 2], [1, 3]]):
        changed = [
            stepped(codebook, variables, VECTORS[np.array(part)], np.array(part)) for part in parts
        ]
        for name, value in start.items():
            summed = value + sum(part[name] - value for part in changed)
            np.testing.assert_allclose(summed, whole[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_dead_codes_take_the_places_of_vectors():
    codebook = Codebook(K, D, decay=0.99, dead_below=0.1)
    start = made(codebook)[COLLECTION]
    sizes = jnp.full(K, 10.0).at[jnp.array([2, 5])].set(0.01)
    variables = {COLLECTION: {**start, "sizes": sizes, "sums": 50 + start["sums"]}}
    revived = {}
    for key in range(20):
        collection = stepped(codebook, variables, VECTORS, np.arange(IMAGES), key)
        codes = codes_of(codebook, collection)
        mean = float(sizes.mean())
        for code in range(K):
            near = np.abs(VECTORS - codes[code]).sum(-1) < 1e-2
            if near.any():
                revived.setdefault(code, set()).add(tuple(np.argwhere(near)[0].tolist()))
                assert collection["sizes"][code] == pytest.approx(0.99 * mean, rel=1e-5)
    # Four images find a place among seven codes; no step gives two codes one image's vector.
    assert set(revived) == {2, 5}
    assert all(len(places) > 3 for places in revived.values())
    again = stepped(codebook, variables, VECTORS, np.arange(IMAGES), 19)
    jax.tree.map(np.testing.assert_array_equal, again, collection)


def test_a_codebook_larger_than_the_data():
    """64 codes for 20 vectors: each vector ends with a code of its own, and nothing is lost."""
    codebook = Codebook(64, D, decay=0.9)
    variables, counts = made(codebook), []
    for number in range(200):
        collection = stepped(codebook, variables, VECTORS, np.arange(IMAGES), number)
        variables = {COLLECTION: collection}
        counts.append(usage_of(collection["counts"]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(collection))
    assert all(1 <= found["used_codes"] <= IMAGES * POSITIONS for found in counts)
    assert counts[-1]["used_codes"] > 15
    nearest = quantised(codebook, variables, VECTORS).nearest
    assert np.abs(nearest - VECTORS).max() < 0.2
    assert float(collection["sizes"].sum()) < 64


def test_codes_that_do_not_follow_stay():
    codebook = Codebook(K, D)
    variables = made(codebook)
    call = lambda module, z: module.follow(module(z), {"index": jnp.arange(IMAGES)})  # noqa: E731
    nn.apply(call, codebook)(variables, VECTORS)
    with pytest.raises(GenaxError, match=r"averages=False, dead_below=0.1.*set dead_below=0"):
        made(Codebook(K, D, averages=False))


def test_codes_by_their_cosine():
    codebook = Codebook(K, D, cosine=True, dead_below=0.0)
    codes = RNG.normal(size=(K, D)).astype(np.float32)
    found = quantised(codebook, made(codebook, codes), VECTORS)
    lengths = [np.linalg.norm(x, axis=-1, keepdims=True) for x in (VECTORS, codes)]
    likeness = (VECTORS / lengths[0]) @ (codes / lengths[1]).T
    np.testing.assert_array_equal(found.index, likeness.argmax(-1))
    np.testing.assert_allclose(np.linalg.norm(found.straight, axis=-1), 1, rtol=1e-5)


def test_usage():
    found = usage_of(jnp.float32([4, 4, 0, 0]))
    assert found["perplexity"] == pytest.approx(2)
    assert found["used_codes"] == 2
    assert usage_of(jnp.zeros(4))["perplexity"] == 1
    np.testing.assert_allclose(smoothed(jnp.float32([3, 0]), 0.5), [3.5 / 4 * 3, 0.5 / 4 * 3])


def test_a_number_without_a_word_is_nan():
    network = VQAutoencoder(num_codes=3, latent_channels=2)
    words = jnp.arange(6.0).reshape(3, 2)
    variables, numbers = {"params": {"codebook": words}}, jnp.array([[[2, -1, 3]]])
    found = network.apply(variables, numbers, method="words")[0, 0]
    np.testing.assert_array_equal(found[0], words[2])
    assert jnp.isnan(found[1:]).all()
