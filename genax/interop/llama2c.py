"""Weights in the raw file format of llama2.c: a header, then float32 arrays one after another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genax.core.errors import GenaxError
from genax.interop.llama import LlamaForCausalLM
from genax.transformer.llama import LLaMA

HEADER = 7


def load_llama2c(path: str | Path) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Return the model of a version-0 file and its variables.

    The file's rotary positions turn neighbours and genax's turn halves, so rows of queries and keys
    are reordered. What follows the weights is not read.
    Raises GenaxError for a header that makes no model and for a file that is too short.
    """
    content = Path(path).read_bytes()
    header = np.frombuffer(content[: 4 * HEADER].ljust(4 * HEADER, b"\0"), "<i4")
    if (np.delete(header, 5) <= 0).any() or header[5] == 0:
        raise GenaxError(f"{path} is no llama2.c file of version 0: its header is {header}.")
    width, mlp_size, layers, heads, kv_heads, vocab, context = (int(number) for number in header)
    tied, vocab = vocab > 0, abs(vocab)
    decoder = LLaMA(
        vocab,
        context,
        width,
        layers,
        heads,
        mlp_size,
        tied_head=tied,
        num_kv_heads=kv_heads,
        theta=10_000.0,
    )
    try:
        _, size = decoder.cache_heads
    except GenaxError as error:
        raise GenaxError(f"{path} is no llama2.c file of version 0: {error}") from error
    at = 4 * HEADER

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        end = at + 4 * math.prod(shape)
        if end > len(content):
            raise GenaxError(f"{path} ends before its weights do: {len(content)} bytes.")
        array, at = np.frombuffer(content[at:end], "<f4").reshape(shape), end
        return array

    def halves(rows: np.ndarray, count: int) -> np.ndarray:
        """[layers, count * size, width] -> [layers, width, count, size], pairs (i, i + size/2)."""
        pairs = rows.reshape(layers, count, size // 2, 2, width).swapaxes(2, 3)
        return pairs.reshape(layers, count, size, width).transpose(0, 3, 1, 2)

    embedding = take(vocab, width)
    attention_norm = take(layers, width)
    query = halves(take(layers, heads * size, width), heads)
    key = halves(take(layers, kv_heads * size, width), kv_heads)
    value = take(layers, kv_heads * size, width).reshape(layers, kv_heads, size, width)
    value = value.transpose(0, 3, 1, 2)
    output = take(layers, width, heads * size).swapaxes(1, 2)
    feed_forward_norm = take(layers, width)
    gate = take(layers, mlp_size, width).swapaxes(1, 2)
    down = take(layers, width, mlp_size).swapaxes(1, 2)
    expand = take(layers, mlp_size, width).swapaxes(1, 2)
    final_norm = take(width)
    take(2, context, size // 2)  # tables of cosines and sines

    params: dict[str, Any] = {
        "token_embedding": {"embedding": embedding},
        "final_norm": {"scale": final_norm},
    }
    if not tied:
        params["head"] = {"embedding": take(vocab, width)}
    for n in range(layers):
        if kv_heads == heads:
            inputs = {"qkv": {"kernel": np.stack([query[n], key[n], value[n]], 1)}}
        else:
            key_value = np.stack([key[n], value[n]], 1)
            inputs = {"query": {"kernel": query[n]}, "key_value": {"kernel": key_value}}
        last = {"output": {"kernel": output[n].reshape(heads, size, width)}}
        params[f"blocks_{n}"] = {
            "attention_norm": {"scale": attention_norm[n]},
            "attention": inputs | last,
            "feed_forward_norm": {"scale": feed_forward_norm[n]},
            "feed_forward": {
                "gate": {"kernel": gate[n]},
                "expand": {"kernel": expand[n]},
                "output": {"kernel": down[n]},
            },
        }
    return LlamaForCausalLM(decoder), jax.tree.map(jnp.asarray, {"params": {"decoder": params}})
