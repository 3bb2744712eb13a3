"""genax's GPT against transformers' GPT2LMHeadModel, number for number."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.nn.optimizers import adamw, is_decayed
from genax.transformer.decoding import generate
from genax.transformer.tasks.losses import next_token_loss
from tests.parity import require, stepped
from tests.transformer.gpt2_reference import convert, make_reference

torch, _ = require("torch", "transformers")

SIZES = {
    "odd heads": {"hidden_size": 24, "num_heads": 3, "num_layers": 2},
    "one head": {"hidden_size": 16, "num_heads": 1, "num_layers": 1, "vocab_size": 7},
    "five heads, narrow mlp": {
        "hidden_size": 40,
        "num_heads": 5,
        "num_layers": 3,
        "mlp_size": 32,
        "context": 33,
    },
}
PADDINGS = ("none", "left", "right")


class Networks(nn.Module):
    """A language model."""

    decoder: nn.Module


@pytest.fixture(params=SIZES, ids=lambda name: name.replace(" ", "-"))
def models(request):
    reference, decoder = make_reference(**SIZES[request.param])
    params = convert(dict(reference.named_parameters()), decoder.num_heads)
    return reference, decoder, params


def make_tokens(decoder, length=None, batch=4):
    rng = np.random.default_rng(1)
    return rng.integers(0, decoder.vocab_size, (batch, length or decoder.context))


def make_mask(padding, shape):
    lengths = np.array([shape[1], shape[1] - 3, 5, shape[1] // 2])[: shape[0], None]
    places = np.arange(shape[1])[None]
    return {
        "none": np.ones(shape, bool),
        "right": places < lengths,
        "left": places >= shape[1] - lengths,
    }[padding]


def relative(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.long
def test_logits(models):
    reference, decoder, params = models
    tokens = make_tokens(decoder)
    masked, plain = (jax.jit(decoder.apply) for _ in range(2))
    for padding in PADDINGS:
        mask = make_mask(padding, tokens.shape)
        with torch.no_grad():
            theirs = reference(
                input_ids=torch.tensor(tokens),
                attention_mask=torch.tensor(mask.astype(np.int64)),
                position_ids=torch.tensor(np.maximum(np.cumsum(mask, 1) - 1, 0)),
            ).logits.numpy()
        ours = masked({"params": params}, tokens, jnp.asarray(mask))
        assert relative(np.asarray(ours)[mask], theirs[mask]) < 1e-5, padding
        if padding == "none":
            assert relative(plain({"params": params}, tokens), theirs) < 1e-5


def loss_and_gradients(decoder):
    apply = nn.apply(next_token_loss, Networks(decoder))

    def mean(params, batch):
        loss = apply({"params": {"decoder": params}}, batch)
        return (loss.values * loss.weights).sum() / loss.weights.sum()

    return jax.jit(jax.value_and_grad(mean))


def test_loss_and_gradients(models):
    reference, decoder, params = models
    tokens = make_tokens(decoder)
    ours = loss_and_gradients(decoder)
    for padding in ("none", "right"):
        mask = make_mask(padding, tokens.shape)
        reference.zero_grad()
        theirs = reference(
            input_ids=torch.tensor(tokens), labels=torch.tensor(np.where(mask, tokens, -100))
        ).loss
        theirs.backward()
        batch = {"tokens": jnp.asarray(tokens), "weights": jnp.asarray(mask[:, 1:], jnp.float32)}
        loss, gradients = ours(params, batch)
        assert relative(loss, theirs.detach()) < 1e-5
        expected = convert({k: v.grad for k, v in reference.named_parameters()}, decoder.num_heads)
        assert_close(gradients, expected, 1e-4)


def test_adamw_step(models):
    """Clipping, moments, decay of matrices only; both sides get the same gradients."""
    reference, decoder, params = models
    tokens = torch.tensor(make_tokens(decoder))
    reference(input_ids=tokens, labels=tokens).loss.backward()
    named = dict(reference.named_parameters())
    gradients = convert({name: p.grad for name, p in named.items()}, decoder.num_heads)
    groups = [
        {"params": [p for p in named.values() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
    torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.99), eps=1e-8).step()
    optimizer = adamw(1e-2, 0.1, 0.9, 0.99, eps=1e-8)

    expected = convert(dict(reference.named_parameters()), decoder.num_heads)
    assert_close(stepped(optimizer, gradients, params), expected, 1e-5)


def assert_close(ours, theirs, tolerance):
    jax.tree.map_with_path(lambda path, a, b: _assert_close(path, a, b, tolerance), ours, theirs)


def _assert_close(path, ours, theirs, tolerance):
    # The bias of the keys moves every score of a query alike, so its gradient is rounding.
    if path[-2:] == (jax.tree_util.DictKey("qkv"), jax.tree_util.DictKey("bias")):
        ours, theirs = ours[jnp.array([0, 2])], theirs[jnp.array([0, 2])]
    assert relative(ours, theirs) < tolerance, jax.tree_util.keystr(path)


def test_what_decays(models):
    _, _, params = models
    for path, decays in jax.tree.leaves_with_path(is_decayed(params)):
        assert decays == (path[-1].key in ("kernel", "embedding"))


@pytest.mark.long
def test_greedy_generation(models):
    reference, decoder, params = models
    prompts = make_tokens(decoder, length=9)
    num_tokens = decoder.context - 9
    keys = jax.random.split(jax.random.key(0), len(prompts))

    def greedy(decoder, mask):
        return generate(decoder, jnp.asarray(prompts), num_tokens, keys, mask, temperature=0.0)

    ours = jax.jit(lambda mask: nn.apply(greedy, decoder)({"params": params}, mask))
    for padding in ("none", "left"):
        mask = make_mask(padding, prompts.shape)
        theirs = reference.generate(
            input_ids=torch.tensor(prompts),
            attention_mask=torch.tensor(mask.astype(np.int64)),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[:, 9:]
        np.testing.assert_array_equal(ours(jnp.asarray(mask)), theirs)
