"""Questions whose answers are spans of a context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.features import check_features
from genax.data.fields import Number, Numbers, Text, Texts
from genax.data.text.token_data import Example, TokenData, padded, spec
from genax.data.text.tokenizers import Subwords

# The answers and where they begin, as SQuAD has them, and as genax's own sets do.
_SEVERAL = {"answers/text": Texts(), "answers/answer_start": Numbers()}
_SINGLE = {"answer": Text(), "start": Number()}


def right_answers(example: Example) -> Sequence[tuple[str, int]]:
    """Return the right answers of an example and where they begin.

    There is one in genax's own sets, one or more in SQuAD, and any number in SQuAD 2.0. An answer
    without a letter does not count.
    """
    if _SEVERAL.keys() <= example.keys():
        texts, starts = (example[name] for name in _SEVERAL)
    else:
        texts, starts = ([example[name]] for name in _SINGLE)
    return [(text, start) for text, start in zip(texts, starts, strict=True) if text.strip()]


@dataclass(frozen=True)
class AnswerSpans(TokenData):
    """Rows [CLS] question [SEP] context [SEP] with the answer's span: Devlin et al. 2018, 4.2.

    A question without an answer has the span [CLS], 0 to 0, in every window: section 4.3.

    A context that does not fit makes several rows, windows that begin `stride` tokens apart. If a
    window lacks the answer, its span is [CLS], 0 to 0; in training such a window is left out.
    "tokens", "segments" int32 [context] (1 is the context and its [SEP]), "real" bool [context],
    "start", "end" int32 [] (both inside), "row" int32 [], the row's number.

    question_length: tokens of a question; a longer one is cut.
    stride: tokens between the beginnings of two windows.
    Raises GenaxError if a question leaves no room for a context, or no row holds its answer.
    """

    question_length: int = 64
    stride: int = 128

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        row = (self.context,)
        numbers = {"start": spec(()), "end": spec(()), "row": spec(())}
        return {"tokens": spec(row), "segments": spec(row), "real": spec(row, np.bool_)} | numbers

    def check(self, examples: Sequence[Example]) -> None:
        """Raise GenaxError for examples without a question, or an answer outside its context."""
        check_features(examples, {"question": Text(), "context": Text()}, self.origin)
        for example in examples:
            self._check_answers(example)

    def _check_answers(self, example: Example) -> None:
        held = next((held for held in (_SEVERAL, _SINGLE) if held.keys() & example.keys()), None)
        if held is None:
            raise GenaxError(
                f"{self.origin} has no feature 'answers/text' with 'answers/answer_start', nor "
                "'answer' with 'start'; choose another split or another set."
            )
        check_features([example], held, self.origin)
        counts = {name: len(example[name]) for name in _SEVERAL if held is _SEVERAL}
        if len(set(counts.values())) > 1:
            raise GenaxError(
                f"{self.origin} has an example with {counts}, which must be of one length; choose "
                "another set."
            )
        length = len(example["context"])
        for text, start in right_answers(example):
            if not 0 <= start <= length - len(text):
                raise GenaxError(
                    f"{self.origin} has an answer of {len(text)} characters from {start} on, "
                    f"outside its context of {length}; choose another set."
                )

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """Return what a new tokenizer is trained on."""
        return (example[part] for example in examples for part in ("question", "context"))

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Return rows [n, ...]; keep for `text_of` what they come from."""
        first, last = tokenizer.special("[CLS]"), tokenizer.special("[SEP]")
        questions = tokenizer.encode_all([example["question"] for example in examples])
        contexts = tokenizer.encode_places([example["context"] for example in examples])
        rows: list[list[int]] = []
        segments: list[list[int]] = []
        spans: list[tuple[int, int]] = []
        origins: list[tuple[int, str, int, np.ndarray]] = []
        for number, (example, question, (tokens, places)) in enumerate(
            zip(examples, questions, contexts, strict=True)
        ):
            answers = right_answers(example)
            answer, begin = answers[0] if answers else ("", 0)
            end = begin + len(answer)
            inside = np.flatnonzero((places[:, 0] < end) & (places[:, 1] > begin))
            head = [first, *question[: self.question_length], last]
            room = self.context - len(head) - 1
            if room < 1:
                raise GenaxError(
                    f"a question of {self.name} fills a context of {self.context}; shorten it, or "
                    f"choose a larger one, or a question_length below {self.question_length}."
                )
            step = min(self.stride, room)
            for start in range(0, max(1, len(tokens) - room + step), step):
                window = tokens[start : start + room]
                held = len(inside) and start <= inside[0] and inside[-1] < start + room
                if answers and not held and self.is_training:
                    continue
                shift = len(head) - start
                rows.append([*head, *window, last])
                segments.append([0] * len(head) + [1] * (len(window) + 1))
                spans.append((inside[0] + shift, inside[-1] + shift) if held else (0, 0))
                origins.append(
                    (number, example["context"], len(head), places[start : start + room])
                )
        if not rows:
            raise GenaxError(
                f"no answer of {self.name} fits a context of {self.context}; choose a larger one."
            )
        self._kept["origins"] = origins
        lengths = np.array([len(row) for row in rows])
        found = np.array(spans, np.int32)
        return {
            "tokens": padded(rows, self.context, tokenizer.special("[PAD]")),
            "segments": padded(segments, self.context, 0),
            "real": np.arange(self.context) < lengths[:, None],
            "start": found[:, 0],
            "end": found[:, 1],
            "row": np.arange(len(rows), dtype=np.int32),
        }

    def text_of(self, row: int, start: int, end: int) -> tuple[int, str]:
        """Return a row's example and the text of its tokens from start to end, inclusive."""
        number, context, offset, places = self._kept["origins"][row]
        if start < offset or end - offset >= len(places):
            return number, ""
        begin, stop = places[start - offset, 0], places[end - offset, 1]
        return number, context[begin:stop]

    def answers(self, number: int) -> Sequence[str]:
        """Return the right answers of an example; there may be none."""
        return [text for text, _ in right_answers(self.examples[number])]

    @property
    def has_unanswerable(self) -> bool:
        """Whether a question has no answer, as in SQuAD 2.0."""
        return not all(right_answers(example) for example in self.examples)
