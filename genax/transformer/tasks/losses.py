"""Losses of language models."""

from __future__ import annotations

import jax.numpy as jnp

from genax.core import Loss
from genax.core.task import Batch
from genax.transformer.cross_entropy import chunked_cross_entropy, cross_entropy


def next_token_loss(nets, batch: Batch, train: bool = True, chunk: int | None = None) -> Loss:
    """Loss -log p(token | tokens before it), in nats: Radford et al. 2018, eq. 1.

    Values are [b, context]. Metric: accuracy, the share of tokens that are the likeliest.

    nets.decoder: a `Decoder`.
    batch["tokens"]: int32 [b, context + 1].
    batch["weights"]: float [b, context], optional, the weight of each predicted token.
    batch["segments"]: int32 [b, context + 1], optional, the numbers of packed documents, 0 for
      padding. A token is predicted from its own document alone.
    train: whether dropout is on. Evaluators set it to False.
    chunk: number of tokens of the vocabulary whose logits exist at a time, see
      `chunked_cross_entropy`. None means all.
    """
    tokens, weights, segments = batch["tokens"], batch.get("weights"), batch.get("segments")
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    more = {}
    if segments is not None:
        same = (segments[:, :-1] == segments[:, 1:]) & (segments[:, 1:] > 0)
        weights = same.astype(jnp.float32) * (1.0 if weights is None else weights)
        more["segments"] = segments[:, :-1]
    if chunk is None:
        logits = nets.decoder(inputs, train=train, **more)
        nats, hits = cross_entropy(logits, targets), logits.argmax(-1) == targets
    else:
        hidden = nets.decoder.hidden(inputs, train=train, **more)
        table = nets.decoder.head_table.embedding.astype(hidden.dtype)
        nats, hits = chunked_cross_entropy(hidden, table, targets, chunk)
    return Loss(nats, weights, {"accuracy": Loss(hits.astype(jnp.float32), weights)})
