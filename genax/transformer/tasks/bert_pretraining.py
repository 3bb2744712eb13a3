"""What BERT is pretrained on, masked tokens and next sentences, and the settings of that."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Loss, Phase, Stage, Task, example_keys
from genax.core.task import Batch
from genax.data import given_or
from genax.data.text.sentence_pairs import SentencePairs
from genax.nn.lora import SETTINGS as LORA
from genax.nn.lora import adaptable
from genax.nn.optimizers import bert_adamw
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config, start_from
from genax.settings.ranges import AMOUNT, COUNT, Range, Ranges
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead, encoder_parts
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import SHORT_RUN, SMALL_NETWORK
from genax.transformer.tasks.masking import mask_tokens

# The works of Shakespeare, for a CPU.
DEFAULTS: dict[str, Any] = {
    **SHORT_RUN,
    **LORA,
    **SMALL_NETWORK,
    "dataset": "shakespeare",
    "vocab_size": 4_096,
    # A run, or what `genax import` wrote, whose weights, sizes and tokenizer are taken; "" is none.
    "pretrained": "",
    # Whether the heads start anew all the same.
    "new_head": False,
    # Positions of the network; 0 is as many as a row has tokens.
    "positions": 0,
    "dropout": 0.0,
    # Whether there is a second loss, of what follows.
    "next_sentence": True,
    # The share of the tokens that are guessed, and how many at most.
    "mask_rate": 0.15,
    "mask_most": 10,
    # The number of [MASK] in the WordPiece that the data makes.
    "mask_token": 4,
    # See `genax.nn.attention`.
    "attention": "auto",
    "learning_rate": 1e-3,
    "warmup_steps": 200,
    "decay_steps": 4_000,
    "weight_decay": 0.01,
    # Passages of the validation text that are scored; 0 is all.
    "evaluated": 2_000,
    "steps": 4_000,
    "log_every": 100,
    "sample_every": 0,
    "eval_every": 500,
}
RANGES: Ranges = {
    **TRANSFORMER,
    "mask_rate": Range(above=0, most=1),
    "mask_most": COUNT,
    "mask_token": AMOUNT,
}

# An embedded text and a network small enough for a test.
STDLIB: dict[str, Any] = {
    "dataset": "stdlib",
    "vocab_size": 1_024,
    "context": 32,
    "hidden_size": 32,
    "num_layers": 1,
    "mask_most": 5,
    "evaluated": 64,
    "batch_size": 16,
    "eval_batch_size": 32,
    "steps": 40,
}


class Networks(nn.Module):
    """Networks of BERT's pretraining.

    encoder: the encoder with its pooler.
    masked_head: head of the masked tokens.
    next_sentence_head: head of the next sentence. None means that only masked tokens are guessed.
    """

    encoder: BERT
    masked_head: MaskedLMHead
    next_sentence_head: LinearHead | None


@adaptable("masked_head", "next_sentence_head")
def experiment(encoder: BERT, config: ConfigDict, data: Any = None) -> Experiment:
    """Return the experiment of guessing masked tokens and, if asked for, what follows.

    config: settings, those of `DEFAULTS` among them.
    data: see `given_or`.
    """
    dtype = jnp.dtype(config.dtype)
    networks = Networks(
        encoder,
        masked_head=MaskedLMHead(encoder.epsilon, dtype=dtype),
        next_sentence_head=LinearHead(num_labels=2, dtype=dtype) if config.next_sentence else None,
    )
    trained: tuple[str, ...] = ("encoder", "masked_head", "next_sentence_head")
    trained = trained if config.next_sentence else trained[:2]
    loss = partial(
        pretraining_loss,
        mask_token=config.mask_token,
        rate=config.mask_rate,
        most=config.mask_most,
    )
    task = Task(
        networks,
        [Stage([Phase("bert", loss, trained, from_config(bert_adamw, config))])],
        evaluators={"validation": Evaluator(partial(loss, train=False))},
        rules=PARTITION_RULES,
    )
    own = partial(from_config, SentencePairs, config, name=config.dataset)
    held_out = partial(own, split="validation", limit=config.evaluated or None)
    heads = ("*_head",) if config.next_sentence else ("masked_head",)
    taken = (*encoder_parts(encoder), *(() if config.new_head else heads))
    train, test = given_or(data, lambda: (own(), held_out()))
    return Experiment(task, train, test, start_from(config, *taken))


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
