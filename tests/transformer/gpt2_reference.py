"""transformers' GPT-2 with random weights, and the same weights as genax's decoder has them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from genax.transformer.gpt import GPT
from tests.parity import require


def make_reference(
    vocab_size=61, context=20, hidden_size=24, num_layers=2, num_heads=3, mlp_size=None, seed=0
):
    """(GPT2LMHeadModel in eval mode, GPT of the same sizes); no weight is at its initial zero."""
    torch, transformers = require("torch", "transformers")
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=vocab_size,
            n_positions=context,
            n_embd=hidden_size,
            n_layer=num_layers,
            n_head=num_heads,
            n_inner=mlp_size,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    decoder = GPT(vocab_size, context, hidden_size, num_layers, num_heads, mlp_size)
    return model.eval(), decoder


def convert(tensors, num_heads: int) -> dict:
    """Parameters (or gradients) of the decoder from named tensors of GPT2LMHeadModel."""
    named = {
        name.removeprefix("transformer."): np.asarray(tensor.detach())
        for name, tensor in tensors.items()
        if name != "lm_head.weight"
    }
    params = {
        "token_embedding": {"embedding": named.pop("wte.weight")},
        "position_embedding": {"embedding": named.pop("wpe.weight")},
        "final_norm": {"scale": named.pop("ln_f.weight"), "bias": named.pop("ln_f.bias")},
    }
    number = 0
    while f"h.{number}.ln_1.weight" in named:
        params[f"blocks_{number}"] = _block(
            lambda name, number=number: named.pop(f"h.{number}.{name}"), num_heads
        )
        number += 1
    assert not named, sorted(named)
    return _map(jnp.asarray, params)


def _block(take, num_heads):
    qkv = take("attn.c_attn.weight")
    width = qkv.shape[0]
    heads = (num_heads, width // num_heads)
    return {
        "attention_norm": {"scale": take("ln_1.weight"), "bias": take("ln_1.bias")},
        "attention": {
            "qkv": {
                "kernel": qkv.reshape(width, 3, *heads),
                "bias": take("attn.c_attn.bias").reshape(3, *heads),
            },
            "output": {
                "kernel": take("attn.c_proj.weight").reshape(*heads, width),
                "bias": take("attn.c_proj.bias"),
            },
        },
        "feed_forward_norm": {"scale": take("ln_2.weight"), "bias": take("ln_2.bias")},
        "feed_forward": {
            "expand": {"kernel": take("mlp.c_fc.weight"), "bias": take("mlp.c_fc.bias")},
            "output": {"kernel": take("mlp.c_proj.weight"), "bias": take("mlp.c_proj.bias")},
        },
    }


def _map(function, tree):
    return {k: _map(function, v) if isinstance(v, dict) else function(v) for k, v in tree.items()}


def stack_blocks(params: dict) -> dict:
    """The same parameters as `scan_layers` has them: blocks along a leading axis."""
    numbers = range(sum(name.startswith("blocks_") for name in params))
    blocks = [params[f"blocks_{number}"] for number in numbers]
    rest = {name: value for name, value in params.items() if not name.startswith("blocks_")}
    return {**rest, "blocks": _stack(blocks)}


def _stack(trees):
    if isinstance(trees[0], dict):
        return {name: _stack([tree[name] for tree in trees]) for name in trees[0]}
    return jnp.stack(trees)
