"""Samples of a language model as text."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from genax.core import example_keys
from genax.core.task import Batch
from genax.data import load_tokenizer
from genax.transformer.decoding import generate


def sample_tokens(
    nets: Any,
    batch: Batch,
    num_tokens: int,
    start_token: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Int[Array, "b num_tokens"]:
    """Continue start_token for each element of batch["index"]; see `generate`."""
    keys = example_keys(nets, batch)
    prompts = jnp.full((len(keys), 1), start_token, jnp.int32)
    return generate(nets.decoder, prompts, num_tokens, keys, temperature=temperature, top_k=top_k)


def as_text(samples: Int[np.ndarray, "n t"], workdir: Any) -> str:
    """The samples in the tokenizer of the run in workdir, each under a line with its number."""
    tokenizer = load_tokenizer(workdir)
    parts = (f"--- {number}\n{tokenizer.decode(row)}\n" for number, row in enumerate(samples))
    return "\n".join(parts)
