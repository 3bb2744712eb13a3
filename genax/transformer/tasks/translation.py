"""The task of writing a target from a source, and the settings of such experiments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, GenaxError, Loss, Phase, Sampler, Stage, Task
from genax.core.data import global_index
from genax.core.task import Batch
from genax.data import given_or
from genax.data.text.text_pairs import END, PAD, START, TextPairs
from genax.nn.lora import SETTINGS as LORA
from genax.nn.lora import adaptable
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config, start_from
from genax.transformer.beam_search import beam_search, check_beams
from genax.transformer.cross_entropy import cross_entropy, smoothed_cross_entropy
from genax.transformer.settings import SHORT_RUN, SMALL_NETWORK

# Verses of the Bible in English and Spanish, and a network for a CPU.
DEFAULTS: dict[str, Any] = {
    **SHORT_RUN,
    **LORA,
    **SMALL_NETWORK,
    "dataset": "verses",
    # The names of the two texts in an example.
    "source": "en",
    "target": "es",
    "test_split": "test",
    "vocab_size": 4_000,
    # A run, or what `genax import` wrote, whose weights, sizes and tokenizer are taken; "" is none.
    "pretrained": "",
    # Numbers of padding, start and end in its tokenizer.
    "special_tokens": (PAD, START, END),
    # Tokens of a target; 0 is as many as of a source.
    "target_context": 0,
    "mlp_size": 512,
    "dropout": 0.1,
    # Multiplies the learning rate of the paper.
    "rate_scale": 1.0,
    # How targets are written: see `genax.transformer.beam_search`.
    "num_beams": 4,
    "length_penalty": 0.6,
    # Examples whose loss is measured, and whose written targets are scored; 0 is all.
    "evaluated": 500,
    "scored": 500,
    "log_every": 100,
    "num_samples": 8,
    "eval_batch_size": 50,
}

# Functions of the standard library, embedded, and the words of their names.
FUNCTION_NAMES: dict[str, Any] = {
    "dataset": "stdlib_names",
    "source": "code",
    "target": "name",
    "test_split": "validation",
    "vocab_size": 1_000,
    "context": 96,
    "target_context": 16,
    "num_layers": 2,
    "scored": 200,
    "batch_size": 32,
}

# The sizes of a run of seconds.
SMOKE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "mlp_size": 64,
    "context": 32,
    "evaluated": 8,
    "scored": 4,
    "eval_batch_size": 4,
    "batch_size": 8,
    "num_samples": 2,
    "steps": 20,
}

# The loop of the papers' sizes: whole test sets are scored, targets may be as long as sources.
PUBLISHED: dict[str, Any] = {
    "target_context": 0,
    "evaluated": 0,
    "scored": 0,
    "eval_every": 10_000,
    "sample_every": 10_000,
}


class Networks(nn.Module):
    """Networks of translation.

    transformer: an encoder-decoder, `EncoderDecoder` or `T5`.
    """

    transformer: nn.Module


def target_loss(
    nets: Any, batch: Batch, smoothing: float = 0.1, train: bool = True, pad: int = PAD
) -> Loss:
    """Loss -log p(target token | source, tokens before it), with smoothed labels, in nats.

    Vaswani et al. 2017, section 5.4. Values are [b, t], without padding. Metrics: "nats", without
    smoothing, and accuracy.

    batch: a batch of `TextPairs`.
    smoothing: see `smoothed_cross_entropy`.
    train: whether dropout is on.
    pad: number of the padding token.
    """
    net, source, target = nets.transformer, batch["source"], batch["target"]
    memory = net.encode(source, source != pad, train)
    places = jnp.arange(target.shape[1] - 1)[None]
    logits = net(
        target[:, :-1],
        train=train,
        memory=memory,
        memory_mask=source != pad,
        positions=places,
    )
    labels = target[:, 1:]
    weights = (labels != pad).astype(jnp.float32)
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    metrics = {"accuracy": Loss(hits, weights)}
    if smoothing:
        metrics["nats"] = Loss(cross_entropy(logits, labels), weights)
    return Loss(smoothed_cross_entropy(logits, labels, smoothing), weights, metrics)


def write_targets(
    nets: Any,
    batch: Batch,
    num_tokens: int,
    num_beams: int = 4,
    length_penalty: float = 0.6,
    special_tokens: Sequence[int] = (PAD, START, END),
) -> Int[Array, "b num_tokens"]:
    """Return the targets that beam search finds for batch["source"].

    Vaswani et al. 2017, section 6.1.

    special_tokens: see `TextPairs`.
    """
    net, source = nets.transformer, batch["source"]
    pad, start, end = special_tokens
    real = source != pad
    starts = jnp.full((len(source), 1), start, jnp.int32)
    memory = {"memory": net.encode(source, real), "memory_mask": real}
    forbidden = (pad, start)
    return beam_search(
        net, starts, num_tokens, num_beams, end, length_penalty, None, pad, forbidden, **memory
    )[0]


@adaptable()
def experiment(
    transformer: nn.Module,
    config: ConfigDict,
    optimizer: optax.GradientTransformation,
    scores: Callable[..., Evaluator],
    smoothing: float = 0.0,
    data: Any = None,
) -> Experiment:
    """Return the experiment of writing targets.

    config: settings, those of `DEFAULTS` among them.
    scores: see `translation`.
    smoothing: see `target_loss`.
    data: see `given_or`; data of one's own encodes and decodes texts as `TextPairs` does.
    """
    own = partial(from_config, TextPairs, config, name=config.dataset)
    held_out = partial(own, split=config.test_split, limit=config.evaluated or None)
    train, test = given_or(data, lambda: (own(), held_out()))
    task = from_config(
        translation,
        config,
        transformer=transformer,
        optimizer=optimizer,
        data=test,
        smoothing=smoothing,
        scores=scores,
        scored=config.scored or None,
    )
    return Experiment(task, train, test, start_from(config, "transformer"))


def translation(
    transformer: nn.Module,
    optimizer: optax.GradientTransformation,
    data: TextPairs,
    smoothing: float,
    num_beams: int,
    length_penalty: float,
    scores: Callable[..., Evaluator],
    scored: int | None,
) -> Task:
    """Task of writing targets, with its samples and scores.

    data: the data of the evaluation.
    smoothing: see `target_loss`.
    num_beams, length_penalty: see `beam_search`.
    scores: evaluator of generated texts, such as `bleu_scores`.
    scored: number of examples that `scores` reads. None means all.
    Raises GenaxError for beams that `check_beams` refuses.
    """
    check_beams(num_beams, length_penalty)
    write = partial(
        write_targets,
        num_tokens=data.target_length - 1,
        num_beams=num_beams,
        length_penalty=length_penalty,
        special_tokens=data.special_tokens,
    )

    def prompt(text: str, num: int, workdir: Any) -> Batch:
        tokenizer = data.opened(workdir).get_tokenizer()
        length = len(tokenizer.encode(text))
        if not 0 < length < data.context:
            raise GenaxError(
                f"--prompt has {length} tokens; it needs at least one, and at most "
                f"{data.context - 1} so that the end token fits the context of {data.context}."
            )
        source = data.encode_sources(tokenizer, [text])
        return {"source": np.repeat(source, num, axis=0)}

    def render(samples: Int[np.ndarray, "n t"], batch: Batch, workdir: Any) -> str:
        tokenizer = data.opened(workdir).get_tokenizer()
        sides = [tokenizer.decode_all(side) for side in (batch["source"], samples)]
        return "\n".join(f"{source}\n> {target}\n" for source, target in zip(*sides, strict=True))

    def condition(num: int, workdir: Any) -> Batch:
        source = data.opened(workdir).rows()["source"][:num]
        return {"source": source, "index": global_index(len(source))}

    loss = partial(target_loss, pad=data.special_tokens[0])
    smoothed = partial(loss, smoothing=smoothing)
    phase = Phase("transformer", smoothed, ("transformer",), optimizer)
    return Task(
        Networks(transformer),
        [Stage([phase])],
        samplers={"target": Sampler(write, render, condition, prompt)},
        evaluators={
            "validation": Evaluator(partial(loss, smoothing=0.0, train=False)),
            "written": scores(write, data, scored),
        },
        rules=PARTITION_RULES,
    )
