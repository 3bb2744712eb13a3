"""Samples of a language model as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from genax.core import GenaxError, example_keys
from genax.core.task import Batch
from genax.data import load_tokenizer
from genax.data.text.tokenizers import Subwords
from genax.transformer.decoding import generate


def sample_tokens(
    nets: Any,
    batch: Batch,
    num_tokens: int,
    start_token: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    end_token: Sequence[int] = (),
) -> Int[Array, "b t"]:
    """Draw at most num_tokens tokens for each element of batch["index"].

    batch["prompt"]: int32 [b, p], optional. The samples then begin with the prompt.
    start_token: token that samples without a prompt continue.
    temperature, top_k, top_p, repetition_penalty, end_token: see `generate`.
    """
    keys = example_keys(nets, batch)
    start = jnp.full((len(keys), 1), start_token, jnp.int32)
    prompts = jnp.asarray(batch.get("prompt", start))
    if (limit := nets.decoder.context) is not None:
        num_tokens = min(num_tokens, limit - prompts.shape[1])
    chosen = (temperature, top_k, top_p, repetition_penalty, end_token)
    tokens = generate(nets.decoder, prompts, num_tokens, keys, None, *chosen)
    return jnp.concatenate([prompts, tokens], axis=1) if "prompt" in batch else tokens


def encode_prompt(text: str, num: int, workdir: Any, context: int | None, vocab_size: int) -> Batch:
    """Return a text for `num` samples to continue: {"prompt": int32 [num, p]}.

    context: tokens of a sequence at most. None is no limit.
    Raises GenaxError if the text is empty, leaves no room in the context or has unknown characters,
    and if the tokenizer in workdir has a token that the model has not.
    """
    tokenizer = load_tokenizer(workdir)
    if tokenizer.size > vocab_size:
        raise GenaxError(
            f"the tokenizer in {workdir} has tokens up to number {tokenizer.size - 1}, the model "
            f"up to {vocab_size - 1}: it is not the tokenizer of this run; put that one back."
        )
    tokens = tokenizer.encode(text)
    if isinstance(tokenizer, Subwords):
        tokens = np.concatenate([tokenizer.prefix, tokens])
    if not len(tokens) or (context is not None and len(tokens) >= context):
        most = "" if context is None else f", and at most {context - 1} of the context of {context}"
        raise GenaxError(f"--prompt has {len(tokens)} tokens; it needs at least one{most}.")
    return {"prompt": np.tile(tokens, (num, 1))}


def as_text(
    samples: Int[np.ndarray, "n t"],
    batch: Batch,
    workdir: Any,
    end_token: Sequence[int] = (),
) -> str:
    """Return the samples as text, each under a line with its number.

    The tokenizer is that of the run in workdir.

    end_token: tokens that end a sample. They and what follows are left out, but not of a prompt.
    """
    tokenizer = load_tokenizer(workdir)
    first = batch["prompt"].shape[1] if "prompt" in batch else 0
    texts = (tokenizer.decode(_before(row, end_token, first)) for row in samples)
    return "\n".join(f"--- {number}\n{text}\n" for number, text in enumerate(texts))


def _before(row: Int[np.ndarray, " t"], ends: Sequence[int], first: int) -> Int[np.ndarray, " k"]:
    """Return what comes before the first end from the place `first` on."""
    found = np.flatnonzero(np.isin(row[first:], ends))
    return row[: first + found[0]] if len(found) else row
