"""The task of BERT's pretraining: masked tokens and next sentences."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import Loss, example_keys
from genax.core.task import Batch
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.tasks.masking import mask_tokens


class Networks(nn.Module):
    """Networks of BERT's pretraining.

    encoder: the encoder with its pooler.
    masked_head: head of the masked tokens.
    next_sentence_head: head of the next sentence. None means that only masked tokens are guessed.
    """

    encoder: BERT
    masked_head: MaskedLMHead
    next_sentence_head: LinearHead | None


def pretraining_loss(
    nets: Any,
    batch: Batch,
    mask_token: int,
    rate: float = 0.15,
    most: int = 20,
    train: bool = True,
) -> dict[str, Loss]:
    """Mean -log p of masked tokens plus that of next sentences: Devlin et al. 2018, app. A.2.

    The terms are "masked", values [b, most], with weights where a token was chosen (see
    `mask_tokens`), and "next", values [b]. Metrics: accuracy of each.

    batch: a batch of `SentencePairs`.
    mask_token, rate, most: see `mask_tokens`.
    train: whether dropout is on.
    """
    encoder = nets.encoder
    masked = mask_tokens(
        example_keys(nets, batch),
        batch["tokens"],
        batch["maskable"],
        encoder.vocab_size,
        mask_token,
        rate,
        most,
    )
    hidden = encoder(masked.tokens, batch["real"], batch["segments"], train)
    at = jnp.take_along_axis(hidden, masked.places[..., None], axis=1)
    logits = nets.masked_head(at, encoder.token_embedding.embedding)
    losses = {"masked": _scored(logits, masked.targets, masked.weights)}
    if nets.next_sentence_head is not None:
        # Class 0 means "follows", as in the published weights.
        logits = nets.next_sentence_head(encoder.pool(hidden), train)
        losses["next"] = _scored(logits, 1 - batch["follows"])
    return losses


def _scored(
    logits: Float[Array, "*b classes"], labels: Array, weights: Array | None = None
) -> Loss:
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    return Loss(cross_entropy(logits, labels), weights, {"accuracy": Loss(hits, weights)})
