"""Losses of language models."""

from __future__ import annotations

import jax.numpy as jnp

from genax.core import Loss
from genax.core.task import Batch
from genax.transformer.cross_entropy import cross_entropy


def next_token_loss(nets, batch: Batch, train: bool = True) -> Loss:
    """-log p(token | tokens before it), in nats: Radford et al. 2018, eq. 1.

    batch["tokens"]: int32 [b, context + 1]. batch["weights"]: float [b, context], optional, what
    each predicted token counts. nets.decoder: tokens [b, t] -> logits [b, t, vocab]. Values are
    [b, context]. Metric: accuracy, the share of tokens that are the likeliest.
    train: whether dropout is on; evaluators set it to False.
    """
    tokens, weights = batch["tokens"], batch.get("weights")
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = nets.decoder(inputs, train=train)
    hits = (logits.argmax(-1) == targets).astype(jnp.float32)
    return Loss(cross_entropy(logits, targets), weights, {"accuracy": Loss(hits, weights)})
