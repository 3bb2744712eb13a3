"""Questions whose answers are spans of a context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from genax.core.errors import GenaxError
from genax.data.token_data import Example, TokenData, padded, spec
from genax.data.tokenizers import Subwords


def right_answers(example: Example) -> tuple[int, Sequence[str]]:
    """Where the first right answer begins, and all of them: in genax's sets one, in SQuAD more."""
    if "answers/text" in example:
        return example["answers/answer_start"][0], example["answers/text"]
    return example["start"], [example["answer"]]


@dataclass(frozen=True)
class AnswerSpans(TokenData):
    """[CLS] question [SEP] context [SEP], and where the answer is: Devlin et al. 2018, section 4.2.

    A context that does not fit makes several rows, windows that begin `stride` tokens apart; where
    a window lacks the answer, its span is [CLS], 0 to 0. "tokens", "segments" int32 [context]
    (1 is the context and its [SEP]), "real" bool [context], "start", "end" int32 [] (both inside),
    "row" int32 []: the row's number. In training, windows without the answer are left out.
    question_length: longer questions are cut.
    Raises GenaxError where a question leaves no room for a context, or no row holds its answer.
    """

    question_length: int = 64
    stride: int = 128

    @property
    def element(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row's arrays; reads no data."""
        row = (self.context,)
        numbers = {"start": spec(()), "end": spec(()), "row": spec(())}
        return {"tokens": spec(row), "segments": spec(row), "real": spec(row, np.bool_)} | numbers

    def texts(self, examples: Sequence[Example]) -> Iterable[str]:
        """What a new tokenizer is trained on."""
        return (example[part] for example in examples for part in ("question", "context"))

    def encode(self, tokenizer: Subwords, examples: Sequence[Example]) -> Mapping[str, np.ndarray]:
        """Rows [n, ...]; what they come from is kept for `text_of`."""
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
            begin, (answer, *_) = right_answers(example)
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
                if not held and self.split == "train":
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
        """The example that a row is of, and the text of its tokens from start to end, inclusive."""
        number, context, offset, places = self._kept["origins"][row]
        if start < offset or end - offset >= len(places):
            return number, ""
        begin, stop = places[start - offset, 0], places[end - offset, 1]
        return number, context[begin:stop]

    def answers(self, number: int) -> Sequence[str]:
        """The right answers of an example."""
        return right_answers(self.examples[number])[1]
