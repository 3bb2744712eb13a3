"""transformers' GPT-2 with the weights of a genax decoder: the other side of the comparisons."""

from __future__ import annotations

import jax
import numpy as np
import torch
import transformers

from genax.transformer.gpt import GPT

# Ours to theirs within a block; our kernels [*in, *out] are their matrices [in, out].
_BLOCK = {
    "attention_norm/scale": "ln_1.weight",
    "attention_norm/bias": "ln_1.bias",
    "attention/qkv/kernel": "attn.c_attn.weight",
    "attention/qkv/bias": "attn.c_attn.bias",
    "attention/output/kernel": "attn.c_proj.weight",
    "attention/output/bias": "attn.c_proj.bias",
    "feed_forward_norm/scale": "ln_2.weight",
    "feed_forward_norm/bias": "ln_2.bias",
    "feed_forward/expand/kernel": "mlp.c_fc.weight",
    "feed_forward/expand/bias": "mlp.c_fc.bias",
    "feed_forward/output/kernel": "mlp.c_proj.weight",
    "feed_forward/output/bias": "mlp.c_proj.bias",
}
_OUTSIDE = {
    "token_embedding/embedding": "wte.weight",
    "position_embedding/embedding": "wpe.weight",
    "final_norm/scale": "ln_f.weight",
    "final_norm/bias": "ln_f.bias",
}


def make_torch_gpt(decoder: GPT, params) -> transformers.GPT2LMHeadModel:
    """The same network without dropout. Where genax has no biases, these stay at zero."""
    if decoder.scan_layers:
        raise ValueError("make_torch_gpt copies decoders without scan_layers")
    transformers.logging.set_verbosity_error()
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=decoder.vocab_size,
            n_positions=decoder.context,
            n_embd=decoder.hidden_size,
            n_layer=decoder.num_layers,
            n_head=decoder.num_heads,
            n_inner=decoder.mlp_size,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    theirs = dict(model.transformer.named_parameters())
    names = dict(_OUTSIDE)
    for number in range(decoder.num_layers):
        names |= {f"blocks_{number}/{a}": f"h.{number}.{b}" for a, b in _BLOCK.items()}
    for path, leaf in jax.tree.leaves_with_path(params):
        target = theirs.pop(names[jax.tree_util.keystr(path, simple=True, separator="/")])
        with torch.no_grad():
            target.copy_(torch.tensor(np.array(leaf).reshape(target.shape)))
    for rest in theirs.values():
        torch.nn.init.zeros_(rest)
        rest.requires_grad_(False)
    return model


def make_torch_adamw(model, weight_decay: float, b1: float, b2: float) -> torch.optim.AdamW:
    """AdamW whose decay is on matrices only; the caller sets the learning rate."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(b1, b2), eps=1e-8)
