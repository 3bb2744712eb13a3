"""Losses of a pretrained encoder with a new head: classes, numbers, labels of words, spans."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import Loss
from genax.core.task import Batch
from genax.transformer.bert import BERT, LinearHead
from genax.transformer.cross_entropy import cross_entropy


class Networks(nn.Module):
    """Networks of fine-tuning.

    encoder: the pretrained encoder.
    classifier: head on whole texts (pooled) or on tokens.
    """

    encoder: BERT
    classifier: LinearHead


class RegressionNetworks(Networks):
    """Networks whose classifier gives each text one number."""


class SpanNetworks(Networks):
    """Networks whose classifier scores each token as the start and as the end of an answer."""


def class_logits(nets: Any, batch: Batch, train: bool = False) -> Float[Array, "b classes"]:
    """Return scores of each text's classes.

    batch: a batch of `ClassifiedText` or `ScoredText`.
    """
    hidden = nets.encoder(batch["tokens"], batch["real"], batch.get("segments"), train)
    return nets.classifier(nets.encoder.pool(hidden), train)


def class_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Loss -log p(label | text), in nats: Devlin et al. 2018, section 4.1. Metric: accuracy.

    batch: a batch of `ClassifiedText`.
    train: whether dropout is on.
    """
    logits = class_logits(nets, batch, train)
    hits = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
    return Loss(cross_entropy(logits, batch["label"]), aux={"accuracy": hits})


def regression_values(nets: Any, batch: Batch, train: bool = False) -> Float[Array, " b"]:
    """Return the number of each text or pair.

    batch: a batch of `ScoredText`.
    """
    return class_logits(nets, batch, train).astype(jnp.float32)[..., 0]


def regression_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Loss (value - label)^2 of transformers' problem_type "regression", as for STS-B in GLUE.

    batch: a batch of `ScoredText`.
    train: whether dropout is on.
    """
    return Loss(jnp.square(regression_values(nets, batch, train) - batch["label"]))


def tag_logits(nets: Any, batch: Batch, train: bool = False) -> Float[Array, "b t labels"]:
    """Return scores of each token's labels.

    batch: a batch of `TaggedText`.
    """
    hidden = nets.encoder(batch["tokens"], batch["real"], train=train)
    return nets.classifier(hidden, train)


def tag_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Loss -log p(label of a word), in nats: Devlin et al. 2018, section 5.3. Metric: accuracy.

    batch: a batch of `TaggedText`. A token whose label is below 0 does not count.
    train: whether dropout is on.
    """
    logits, labels = tag_logits(nets, batch, train), batch["labels"]
    weights = (labels >= 0).astype(jnp.float32)
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    nats = cross_entropy(logits, jnp.maximum(labels, 0))
    return Loss(nats, weights, {"accuracy": Loss(hits, weights)})


def span_logits(nets: Any, batch: Batch, train: bool = False) -> Float[Array, "b t 2"]:
    """Return scores of each token as an answer's start and end. Padding gets -1e9.

    batch: a batch of `AnswerSpans`.
    """
    hidden = nets.encoder(batch["tokens"], batch["real"], batch["segments"], train)
    logits = nets.classifier(hidden, train).astype(jnp.float32)
    return jnp.where(batch["real"][..., None], logits, -1e9)


def span_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Mean of -log p(start) and -log p(end), in nats: Devlin et al. 2018, section 4.2.

    Metric: exact, the share of spans whose start and end are both the likeliest.

    batch: a batch of `AnswerSpans`.
    train: whether dropout is on.
    """
    logits = span_logits(nets, batch, train)
    starts, ends = batch["start"], batch["end"]
    nats = cross_entropy(logits[..., 0], starts) + cross_entropy(logits[..., 1], ends)
    likeliest = logits.argmax(1)
    exact = (likeliest[:, 0] == starts) & (likeliest[:, 1] == ends)
    return Loss(nats / 2, aux={"exact": exact.astype(jnp.float32)})
