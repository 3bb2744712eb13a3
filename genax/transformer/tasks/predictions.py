"""Predictions of a fine-tuned encoder beside the truth: classes, numbers, entities, answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from genax.core import GenaxError, Sampler
from genax.core.data import global_index
from genax.core.task import Batch
from genax.data.text.answer_spans import AnswerSpans, right_answers
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.scored_text import ScoredText
from genax.data.text.tagged_text import TaggedText
from genax.data.text.text_formats import iob2
from genax.data.text.token_data import Example, TokenData
from genax.data.text.tokenizers import Subwords
from genax.evaluation.answers import best_answers, span_rows
from genax.evaluation.entities import tag_rows, tags_of_sentences
from genax.evaluation.regression import value_rows
from genax.transformer.tasks.fine_tuning import (
    class_logits,
    regression_values,
    span_logits,
    tag_logits,
)

Rows = Mapping[str, np.ndarray]
NO_ANSWER = "(no answer)"

# Words as in CoNLL-2003: "U.S." and "2,000" are one, "John's" is two, a comma is a word by itself.
_WORD = re.compile(r"(?:\w\.){2,}|'s\b|\w+(?:[-.,&'](?!s\b)\w+)*|\S")


def _sampler(
    data: TokenData,
    find: Callable[[Any, Batch], Mapping[str, Array]],
    compare: Callable[[Rows, Sequence[Example], Subwords], Iterable[tuple[str, str, str]]],
    keep: Callable[[Example], Example],
    parse: Callable[[str], Example],
) -> Sampler:
    """Sampler of the first test examples, or of a prompt.

    A prompt is one example, whatever the number of samples asked for.

    data: the test data.
    find: (nets, batch) -> the predictions.
    compare: (predictions, examples, tokenizer) -> input, prediction and truth of each example, as
      text.
    keep: an example -> the fields that `compare` needs.
    parse: a prompt -> an example with a blank truth.
    """

    def batch(examples: Sequence[Example], known: bool, workdir: Any) -> Batch:
        # A copy without a split leaves no window out, and does not touch the rows that `data`
        # keeps.
        reader = replace(data, split="", name=data.name if known else "--prompt")
        rows = reader.encode(data.opened(workdir).get_tokenizer(), examples)
        count = len(rows["tokens"])
        return {**rows, "index": global_index(count), "examples": examples, "known": known}

    def condition(num: int, workdir: Any) -> Batch:
        return batch([keep(example) for example in data.examples[:num]], True, workdir)

    def prompt(text: str, num: int, workdir: Any) -> Batch:
        return batch([parse(text)], False, workdir)

    def render(samples: Rows, batch: Batch, workdir: Any) -> str:
        lines = compare(samples, batch["examples"], data.opened(workdir).get_tokenizer())
        return "\n".join(
            f"{given}\n> {found}\n" + (f"true: {true}\n" if batch["known"] else "")
            for given, found, true in lines
        )

    return Sampler(find, render, condition, prompt)


def class_finder(data: ClassifiedText) -> Sampler:
    """Sampler of the likeliest class of a text, by name or else by number, and its probability."""

    def find(nets: Any, batch: Batch) -> Mapping[str, Array]:
        shares = jax.nn.softmax(class_logits(nets, batch))
        return {"class": shares.argmax(-1), "share": shares.max(-1)}

    def compare(samples: Rows, examples: Sequence[Example], tokenizer: Subwords):
        names = dict(enumerate(data.class_names))
        for kind, share, example in zip(samples["class"], samples["share"], examples, strict=True):
            given = _given(tokenizer, example[data.text], data.context - 2)
            true = example[data.label]
            yield given, f"{names.get(int(kind), kind)} ({share:.1%})", names.get(true, true)

    def parse(text: str) -> Example:
        if not text.strip():
            raise GenaxError("--prompt is empty; give the text whose class is to be found.")
        return {data.text: text, data.label: 0}

    return _sampler(data, find, compare, partial(_only, (data.text, data.label)), parse)


def value_finder(data: ScoredText) -> Sampler:
    """Sampler of the number of a text or of a pair. A prompt gives a pair as "TEXT || SECOND"."""

    def compare(samples: Rows, examples: Sequence[Example], tokenizer: Subwords):
        for found, example in zip(samples["found"], examples, strict=True):
            given = " || ".join(example[side] for side in data.sides)
            yield given, f"{found:.3g}", f"{example[data.label]:.3g}"

    def parse(text: str) -> Example:
        parts = [part.strip() for part in text.split("||")] if data.second else [text.strip()]
        if len(parts) != len(data.sides) or not all(parts):
            form = '"TEXT || SECOND"' if data.second else "the text whose number is to be found"
            raise GenaxError(f"--prompt does not have the form that is needed: {form}.")
        return dict(zip(data.sides, parts, strict=True)) | {data.label: 0.0}

    find = partial(value_rows, values=regression_values)
    return _sampler(data, find, compare, partial(_only, (*data.sides, data.label)), parse)


def entity_finder(data: TaggedText, names: Sequence[str]) -> Sampler:
    """Sampler of sentences with their entities in brackets.

    names: names of the labels ("O", "B-PER", ...).
    """

    def compare(samples: Rows, examples: Sequence[Example], tokenizer: Subwords):
        found, true = (tags_of_sentences(samples, what, names) for what in ("found", "labels"))
        for number, example in enumerate(examples):
            words = example[data.words]
            tags = (bracketed(words, tags.get(number, [])) for tags in (found, true))
            yield " ".join(words), *tags

    def parse(text: str) -> Example:
        words = _WORD.findall(text)
        if not words:
            raise GenaxError("--prompt is empty; give the sentence whose entities are to be found.")
        return {data.words: words, data.labels: [0] * len(words)}

    find = partial(tag_rows, logits=tag_logits)
    return _sampler(data, find, compare, partial(_only, (data.words, data.labels)), parse)


def bracketed(words: Sequence[str], labels: Sequence[str]) -> str:
    """Return words and their IOB labels as "[PER John] lives in [LOC New York] ."."""
    parts: list[str] = []
    for word, label in zip(words, iob2(labels), strict=True):
        if label.startswith("I-"):
            parts[-1] = f"{parts[-1][:-1]} {word}]"
        else:
            parts.append(word if label == "O" else f"[{label[2:]} {word}]")
    return " ".join(parts)


def answer_finder(data: AnswerSpans, threshold: float = 0.0) -> Sampler:
    """Sampler of the answer to a question from its context: the best span of all windows, or none.

    threshold: see `best_answers`. It holds for prompts, and for data with unanswerable questions.
    """

    def compare(samples: Rows, examples: Sequence[Example], tokenizer: Subwords):
        reader = replace(data, split="")
        reader.encode(tokenizer, examples)
        # The truth of a prompt is blank, and its data need not be at hand.
        may_lack = any(not right_answers(example) for example in examples) or data.has_unanswerable
        best = best_answers(samples, reader, threshold if may_lack else None)
        for number, example in enumerate(examples):
            question = _given(tokenizer, example["question"], data.question_length)
            yield question, best[number] or NO_ANSWER, example["answer"] or NO_ANSWER

    def keep(example: Example) -> Example:
        answer, start = next(iter(right_answers(example)), ("", 0))
        return _only(("question", "context"), example) | {"start": start, "answer": answer}

    def parse(text: str) -> Example:
        question, _, context = (part.strip() for part in text.partition("||"))
        if not question or not context:
            raise GenaxError('--prompt needs a question and its context: "QUESTION || CONTEXT".')
        return {"question": question, "context": context, "start": 0, "answer": ""}

    return _sampler(data, partial(span_rows, logits=span_logits), compare, keep, parse)


def _given(tokenizer: Subwords, text: str, most: int) -> str:
    """Return a text, cut after the tokens that were read."""
    ((_, places),) = tokenizer.encode_places([text])
    return text if len(places) <= most else f"{text[: places[most - 1, 1]]} [the rest is not read]"


def _only(names: Sequence[str], example: Example) -> dict[str, Any]:
    return {name: example[name] for name in names}
