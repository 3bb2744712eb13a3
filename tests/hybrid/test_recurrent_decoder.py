"""Mamba, Mamba-2 and S4D as decoders: generation by a state, padding, beams, layers, refusals."""

from __future__ import annotations

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, tree
from genax.hybrid.mamba import Mamba
from genax.hybrid.mamba2 import Mamba2
from genax.hybrid.placement import MAMBA2_RULES, MAMBA_RULES, S4D_RULES
from genax.hybrid.s4d import S4D
from genax.nn.optimizers import is_decayed
from genax.nn.stack import with_layers_of
from genax.transformer.beam_search import beam_search
from genax.transformer.decoding import generate
from genax.transformer.tasks.language_model import language_model

VOCABULARY, NEW = 7, 9
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_layers": 2}
FAMILIES = {
    "mamba": (Mamba, {"state_size": 3}, MAMBA_RULES),
    "mamba2": (
        Mamba2,
        {"state_size": 3, "head_dim": 8, "groups": 2, "chunk_size": 4},
        MAMBA2_RULES,
    ),
    "s4d": (S4D, {"state_size": 6}, S4D_RULES),
}
LONG = pytest.mark.long
KEYS = jax.random.split(jax.random.key(0), 3)
PROMPTS = jnp.asarray(np.random.default_rng(0).integers(0, VOCABULARY, (3, 6)))


class Model:
    """A decoder with weights that make each token depend on those before it."""

    def __init__(self, family, **settings):
        kind, sizes, self.rules = FAMILIES[family]
        self.decoder = kind(**SIZES, **sizes, **settings)
        shapes = jax.eval_shape(self.decoder.init, jax.random.key(0), PROMPTS)
        rng = np.random.default_rng(1)
        draw = lambda s: jnp.asarray(0.5 * rng.standard_normal(s.shape), s.dtype)  # noqa: E731
        self.variables = jax.tree.map(draw, shapes)
        self.logits = jax.jit(self.decoder.apply)
        draw = lambda *how: generate(*how[:2], NEW, KEYS, *how[2:], temperature=0.0)  # noqa: E731
        self.generate = partial(jax.jit(nn.apply(draw, self.decoder)), self.variables)


@pytest.fixture(
    scope="module",
    params=["mamba", *(pytest.param(family, marks=LONG) for family in ("mamba2", "s4d"))],
)
def model(request):
    return Model(request.param)


@pytest.mark.parametrize("length", [1, 2])
def test_generation_is_that_of_the_parallel_form(length, model):
    """Token for token, also after a prompt that is shorter than the convolution."""
    prompts = PROMPTS[:, :length]
    found = np.asarray(model.generate(prompts))
    whole = model.logits(model.variables, jnp.concatenate([prompts, found], axis=1))
    np.testing.assert_array_equal(found, whole[:, length - 1 : -1].argmax(-1))
    assert len(np.unique(found)) > 2


@pytest.mark.long
def test_scores_of_a_prompt_read_in_parts(model):
    """Parts of 3, 1 and 2 tokens give the scores and the state of one reading."""
    decode = jax.jit(
        lambda tokens, cache: model.decoder.apply(model.variables, tokens, cache, method="decode")
    )
    cache = model.decoder.empty_cache(3)
    sizes = [leaf.shape for leaf in jax.tree.leaves(cache)]
    expected, end = decode(PROMPTS, cache)
    for part in jnp.split(PROMPTS, (3, 4), axis=1):
        logits, cache = decode(part, cache)
    assert [leaf.shape for leaf in jax.tree.leaves(cache)] == sizes
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(*map(jax.tree.leaves, (cache, end)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_padding_leaves_the_state_alone(model):
    """On the left, on the right or between tokens, it changes neither scores nor what follows."""
    tokens = PROMPTS[:, :4]
    alone, first = model.logits(model.variables, tokens), None
    for places in ([2, 3, 4, 5], [0, 1, 2, 3], [0, 2, 3, 5]):
        padded = jnp.full((3, 6), 5).at[:, places].set(tokens)
        mask = jnp.zeros((3, 6), bool).at[:, places].set(True)
        found = model.logits(model.variables, padded, mask)[:, places]
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
        follows = np.asarray(model.generate(padded, mask))
        first = follows if first is None else first
        np.testing.assert_array_equal(follows, first)
    whole = model.logits(model.variables, jnp.concatenate([tokens, first], axis=1))
    np.testing.assert_array_equal(first, whole[:, 3:-1].argmax(-1))


@pytest.mark.long
def test_beams_are_searched_with_their_own_states(model):
    """If there are as many beams as sequences, the best three are those of all."""
    prompts, length, end = PROMPTS[:2, :2], 3, 0
    continuations = np.array(list(itertools.product(range(1, VOCABULARY), repeat=length)))
    search = nn.apply(
        lambda decoder: beam_search(
            decoder, prompts, length, 49, end, forbidden=(end,), num_best=3
        ),
        model.decoder,
    )
    tokens, scores = jax.jit(search)(model.variables)
    for row, prompt in enumerate(prompts):
        whole = np.concatenate([np.tile(prompt, (len(continuations), 1)), continuations], axis=1)
        logits = model.logits(model.variables, jnp.asarray(whole)).at[..., end].set(-jnp.inf)
        nats = jnp.take_along_axis(
            jax.nn.log_softmax(logits)[:, 1:-1], jnp.asarray(continuations)[..., None], axis=2
        )
        mean = np.asarray(nats.sum((1, 2)) / length)
        best = np.argsort(-mean)[:3]
        np.testing.assert_array_equal(tokens[row], continuations[best])
        np.testing.assert_allclose(scores[row], mean[best], rtol=1e-4)


@pytest.mark.long
def test_scanned_and_recomputed_layers_are_the_same(model):
    kind, sizes, _ = FAMILIES[type(model.decoder).__name__.lower()]
    scanned = kind(**SIZES, **sizes, scan_layers=True, remat="full")
    wanted = tree.flatten(jax.eval_shape(scanned.init, jax.random.key(0), PROMPTS))
    leaves = with_layers_of(wanted, tree.flatten(model.variables))
    stacked = tree.nest(leaves)

    def gradient(decoder):
        loss = lambda v: jnp.square(decoder.apply(v, PROMPTS)).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))

    (loss, plain), (same, found) = (
        gradient(decoder)(variables)
        for decoder, variables in ((model.decoder, model.variables), (scanned, stacked))
    )
    np.testing.assert_allclose(same, loss, rtol=1e-5)
    expected = with_layers_of(wanted, tree.flatten(plain))
    for path, leaf in tree.flatten(found).items():
        scale = float(jnp.abs(expected[path]).max())
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-3, atol=1e-4 * scale, err_msg=path)
    search = nn.apply(lambda d: beam_search(d, PROMPTS, 4, 2, 0)[0], model.decoder)
    other = nn.apply(lambda d: beam_search(d, PROMPTS, 4, 2, 0)[0], scanned)
    np.testing.assert_array_equal(jax.jit(search)(model.variables), jax.jit(other)(stacked))


def test_what_decays_and_what_is_split(model):
    """Kernels and the embedding decay, and each of them has a partition rule."""
    params = model.variables["params"]
    decayed = tree.flatten(is_decayed(params))
    assert {path.rsplit("/", 1)[-1] for path, is_one in decayed.items() if is_one} == {
        "kernel",
        "embedding",
    }
    for path, leaf in tree.flatten({"decoder": params}).items():
        rules = [
            axes
            for pattern, axes in model.rules
            if tree.matches(pattern, path) and len(axes) == leaf.ndim
        ]
        named = path.endswith(("kernel", "embedding")) or (
            path.endswith("A_log") and leaf.ndim == 2
        )
        assert len(rules) == named, path


@pytest.mark.long
def test_bfloat16_over_a_float32_sum(model):
    kind, extra, _ = FAMILIES[type(model.decoder).__name__.lower()]
    narrow = kind(**SIZES, **extra, dtype=jnp.bfloat16)
    logits, states = jax.jit(
        lambda v: (
            narrow.apply(v, PROMPTS),
            narrow.apply(v, PROMPTS, narrow.empty_cache(3), method="decode")[1],
        )
    )(model.variables)
    assert logits.dtype == jnp.bfloat16
    wide = model.logits(model.variables, PROMPTS)
    assert jnp.abs(logits - wide).max() < 0.1 * jnp.abs(wide).max()
    assert states.layers[0].state.dtype == jnp.float32
    assert states.layers[0].window.dtype == jnp.bfloat16


def test_initial_weights():
    decoder = Mamba(11, 64, 4, state_size=5, scan_layers=True)
    params = jax.jit(decoder.init)(jax.random.key(0), PROMPTS)["params"]
    mixer = jax.tree.map(lambda leaf: leaf[0], params["blocks"]["mixer"])
    np.testing.assert_allclose(
        mixer["A_log"], np.log(np.tile(np.arange(1, 6), (128, 1))), rtol=1e-6
    )
    steps = np.asarray(jax.nn.softplus(mixer["time_step_bias"]))
    assert 0.00099 < steps.min() < 0.01 < 0.05 < steps.max() < 0.1001
    # Half of 128 logarithms are below the middle.
    assert abs((steps < 0.01).mean() - 0.5) < 0.15
    for name, bound in [
        ("input", 64**-0.5),
        ("selection", 128**-0.5),
        ("time_step", 4**-0.5),
        ("convolution", 4**-0.5),
        ("output", 128**-0.5 / 2),
    ]:
        kernel = np.abs(mixer[name]["kernel"])
        assert 0.95 * bound < kernel.max() <= bound, name
        assert abs(kernel.mean() - bound / 2) < 0.05 * bound, name
    assert (mixer["D"] == 1).all()
    assert params["token_embedding"]["embedding"].std() == pytest.approx(0.02, rel=0.05)


def test_initial_decays_of_mamba2():
    decoder = Mamba2(11, 64, 1, head_dim=2)
    params = jax.jit(decoder.init)(jax.random.key(0), PROMPTS)["params"]
    decays = np.exp(params["blocks_0"]["mixer"]["A_log"])
    assert decays.shape == (64,)
    assert 1 <= decays.min() < 3 < 14 < decays.max() <= 16


def test_refusals(model):
    with pytest.raises(GenaxError, match="without segments"):
        model.decoder.apply(model.variables, PROMPTS, segments=jnp.ones_like(PROMPTS))
    with pytest.raises(GenaxError, match="has to say how long a sample is"):
        language_model(model.decoder, optax.sgd(1.0), 0, 1.0)
    with pytest.raises(GenaxError, match="token 7 at"):
        model.decoder.apply(model.variables, jnp.full((1, 2), VOCABULARY))


def test_heads_that_do_not_divide():
    with pytest.raises(GenaxError, match="32 channels are not heads of 5 in 2 equal groups"):
        Mamba2(11, 16, 1, head_dim=5, groups=2).init(jax.random.key(0), PROMPTS)
