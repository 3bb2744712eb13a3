"""What sequence models are asked at the end of a sequence: loss and scores."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from genax.core import GenaxError, Loss
from genax.core.task import Batch, Evaluator
from genax.data.synthetic.recall import RecallData
from genax.transformer.cross_entropy import cross_entropy


def recall_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Loss -log p(answer | tokens so far), in nats, at the positions that are answered alone.

    Values are [b, m]. Metrics: accuracy, the share of answers that are the likeliest token; and
    solved, the share of sequences whose answers all are, if there are several.

    nets.decoder: a network with `hidden` and `logits` as a `Decoder` has them.
    batch["tokens"]: int32 [b, t].
    batch["answers"]: int32 [b, m], of the last m positions.
    train: whether dropout is on. Evaluators set it to False.
    """
    count = batch["answers"].shape[1]
    hidden = nets.decoder.hidden(batch["tokens"], train=train)
    return _scored(nets.decoder.logits(hidden[:, -count:]), batch["answers"])


def recurrent_recall(nets: Any, batch: Batch, chunk: int) -> Loss:
    """Loss of `recall_loss` by the network's recurrent form, whose memory is that of one chunk.

    nets.decoder: a network with `empty_cache` and `decode` as a `Decoder` has them. The state of
      one of state spaces is as large for any length; that of attention grows with it.
    chunk: tokens that are read at a time.
    """
    logits = read_in_chunks(nets.decoder, batch["tokens"], batch["answers"].shape[1], chunk)
    return _scored(logits, batch["answers"])


def read_in_chunks(
    decoder: Any, tokens: Int[Array, "b t"], count: int, chunk: int
) -> Float[Array, "b m vocab"]:
    """Return the scores at the last `count` positions, with the state carried from chunk to chunk.

    Those before them are read `chunk` at a time, they themselves one by one.

    Raises GenaxError for more tokens than the network has positions.
    """
    # A bound module cannot be called inside lax.scan.
    module, variables = decoder.unbind()
    size, length = tokens.shape
    check_length(module, length)
    first = length - count + 1
    chunks = (first - 1) // chunk

    def read(cache, start, count):
        part = lax.dynamic_slice_in_dim(tokens, start, count, axis=1)
        logits, cache = module.apply(variables, part, cache, method="decode")
        return cache, logits

    cache = module.empty_cache(size, length)
    if chunks:
        starts = chunk * jnp.arange(chunks)
        cache, _ = lax.scan(lambda cache, at: (read(cache, at, chunk)[0], None), cache, starts)
    cache, logits = read(cache, chunks * chunk, first - chunks * chunk)
    _, later = lax.scan(lambda cache, at: read(cache, at, 1), cache, jnp.arange(first, length))
    return jnp.concatenate([logits[:, None], later.swapaxes(0, 1)], axis=1)


def recall_scores(
    data: RecallData, decoder: Any, chunk: int, tokens: int = 2**23, most: int = 256
) -> Evaluator:
    """Scores of `recurrent_recall` over sequences of one length.

    data: of the length to score; how many records are read follows from the budget.
    decoder: the network, without variables.
    chunk: see `recurrent_recall`.
    tokens: that are read at most, though never less than one sequence.
    most: sequences.
    """
    size = max(1, min(most, tokens // data.total))
    kept = jax.eval_shape(lambda: jax.tree.leaves(decoder.empty_cache(1, data.total)))
    says = {
        "tokens_of_a_sequence": data.total,
        "sequences": size,
        "read_at_a_time": chunk,
        "bytes_kept_of_a_sequence": sum(x.size * x.dtype.itemsize for x in kept),
    }
    return Evaluator(
        partial(recurrent_recall, chunk=chunk), data=replace(data, size=size), says=says
    )


def answer(nets: Any, batch: Batch) -> Int[Array, "b m"]:
    """Return the likeliest answers to the sequences of a batch, see `recall_loss`."""
    count = batch["answers"].shape[1]
    hidden = nets.decoder.hidden(batch["tokens"], train=False)
    return nets.decoder.logits(hidden[:, -count:]).argmax(-1)


def as_answers(samples: Int[np.ndarray, "n m"], batch: Batch, workdir: Any) -> str:
    """Return a line for each sequence: what is right, and what the network answers if it is not."""
    lines = []
    for number, (found, wanted) in enumerate(zip(samples, batch["answers"], strict=True)):
        right = " ".join(map(str, wanted))
        wrong = "" if (found == wanted).all() else f", answered {' '.join(map(str, found))}"
        lines.append(f"{number}: {right}{wrong}")
    return "\n".join(lines)


def check_length(decoder: Any, length: int) -> None:
    """Raise GenaxError for sequences that exceed the positions of a network."""
    if decoder.context is not None and length > decoder.context:
        raise GenaxError(
            f"sequences of {length} tokens exceed the {decoder.context} positions of the network; "
            "raise config.positions or leave that length out."
        )


def check_recall(decoder: Any, data: Any) -> None:
    """Raise GenaxError for data that a network cannot read, or that asks for nothing."""
    missing = sorted({"tokens", "answers"} - set(data.element))
    if missing:
        raise GenaxError(
            f"the data has no {missing[0]!r}, which this task reads beside "
            f"{', '.join(sorted(data.element))}; give SelectiveCopying, InductionHeads or data of "
            'their form: "tokens" int32 [t] and "answers" int32 [m].'
        )
    check_length(decoder, data.element["tokens"].shape[0])
    size = getattr(data, "vocab_size", 0)
    if size > decoder.vocab_size:
        raise GenaxError(
            f"the data has {size} tokens, but the network {decoder.vocab_size}; build the network "
            f"with a vocabulary of {size}."
        )


def _scored(logits: Float[Array, "b m vocab"], answers: Int[Array, "b m"]) -> Loss:
    hits = (logits.argmax(-1) == answers).astype(jnp.float32)
    aux = {"accuracy": hits} | ({"solved": hits.min(1)} if hits.shape[1] > 1 else {})
    return Loss(cross_entropy(logits, answers), aux=aux)
