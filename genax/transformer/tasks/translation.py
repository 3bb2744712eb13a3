"""The task of writing a target from a source: translation, summarisation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from genax.core import Evaluator, GenaxError, Loss, Phase, Sampler, Stage, Task
from genax.core.task import Batch
from genax.data.text.text_pairs import END, PAD, START, TextPairs
from genax.nn.placement import PARTITION_RULES
from genax.transformer.beam_search import beam_search, check_beams
from genax.transformer.cross_entropy import cross_entropy, smoothed_cross_entropy


class Networks(nn.Module):
    """Networks of translation.

    transformer: an encoder-decoder, `EncoderDecoder` or `T5`.
    """

    transformer: nn.Module


def target_loss(nets: Any, batch: Batch, smoothing: float = 0.1, train: bool = True) -> Loss:
    """Loss -log p(target token | source, tokens before it), with smoothed labels, in nats.

    Vaswani et al. 2017, section 5.4. Values are [b, t], without padding. Metrics: "nats", without
    smoothing, and accuracy.

    batch: a batch of `TextPairs`.
    smoothing: see `smoothed_cross_entropy`.
    train: whether dropout is on.
    """
    net, source, target = nets.transformer, batch["source"], batch["target"]
    memory = net.encode(source, source != PAD, train)
    places = jnp.arange(target.shape[1] - 1)[None]
    logits = net(
        target[:, :-1],
        train=train,
        memory=memory,
        memory_mask=source != PAD,
        positions=places,
    )
    labels = target[:, 1:]
    weights = (labels != PAD).astype(jnp.float32)
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    metrics = {"accuracy": Loss(hits, weights)}
    if smoothing:
        metrics["nats"] = Loss(cross_entropy(logits, labels), weights)
    return Loss(smoothed_cross_entropy(logits, labels, smoothing), weights, metrics)


def write_targets(
    nets: Any, batch: Batch, num_tokens: int, num_beams: int = 4, length_penalty: float = 0.6
) -> Int[Array, "b num_tokens"]:
    """Return the targets that beam search finds for batch["source"].

    Vaswani et al. 2017, section 6.1.
    """
    net, source = nets.transformer, batch["source"]
    real = source != PAD
    starts = jnp.full((len(source), 1), START, jnp.int32)
    memory = {"memory": net.encode(source, real), "memory_mask": real}
    forbidden = (PAD, START)
    return beam_search(
        net, starts, num_tokens, num_beams, END, length_penalty, None, PAD, forbidden, **memory
    )[0]


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
        return {
            "source": np.take(data.opened(workdir).rows()["source"], range(num), 0, mode="wrap")
        }

    loss = partial(target_loss, smoothing=smoothing)
    return Task(
        Networks(transformer),
        [Stage([Phase("transformer", loss, ("transformer",), optimizer)])],
        samplers={"target": Sampler(write, render, condition, prompt)},
        evaluators={
            "validation": Evaluator(partial(target_loss, smoothing=0.0, train=False)),
            "written": scores(write, data, scored),
        },
        rules=PARTITION_RULES,
    )
