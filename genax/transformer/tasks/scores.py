"""Scores of a language model on held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from genax.core import Evaluator, GenaxError, Loss
from genax.core.task import Batch
from genax.transformer.tasks.losses import next_token_loss


def _rows(nets: Any, batch: Batch, loss: Callable[[Any, Batch], Loss]) -> dict[str, Any]:
    measured = loss(nets, batch)
    weights = jnp.ones_like(measured.values) if measured.weights is None else measured.weights
    return {
        "nats": (measured.values * weights).sum(-1),
        "hits": (measured.aux["accuracy"].values * weights).sum(-1),
        "tokens": weights.sum(-1),
    }


def _summarize(rows: Mapping[str, np.ndarray], workdir: Any) -> dict[str, float]:
    nats, hits, tokens = (float(rows[k].sum(dtype=np.float64)) for k in ("nats", "hits", "tokens"))
    if not tokens:
        raise GenaxError("no token of the evaluation data counts: all weights are 0.")
    mean = nats / tokens
    return {
        "loss": mean,
        "perplexity": math.exp(min(mean, 700.0)),
        "bits_per_token": mean / math.log(2),
        "accuracy": hits / tokens,
    }


def next_token_scores(chunk: int | None = None) -> Evaluator:
    """Scores over all windows of held-out text, without dropout.

    loss: nats per token.
    perplexity: exp(loss).
    bits_per_token: loss / ln 2. These are bits per byte if the tokens are bytes.
    accuracy: share of tokens that were the likeliest.

    chunk: see `next_token_loss`.
    """
    return Evaluator(
        partial(_rows, loss=partial(next_token_loss, train=False, chunk=chunk)), _summarize
    )
