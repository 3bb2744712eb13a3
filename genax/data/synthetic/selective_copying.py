"""Selective copying: remember the data tokens among noise, in their order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from genax.core.errors import GenaxError
from genax.data.shuffling import random_bits, random_numbers
from genax.data.synthetic.recall import RecallData
from genax.settings.ranges import COUNT, check_fields

NOISE = 0


@dataclass(frozen=True)
class SelectiveCopying(RecallData):
    """The task of Gu & Dao 2023 (arXiv:2312.00752), section 4.1.1, as S4's code makes copying.

    `num_tokens` data tokens stand at random positions among noise. As many markers follow, and at
    the k-th marker the answer is the k-th data token. Token 0 is noise, the last of the vocabulary
    the marker, and all between are data.

    length: data tokens and noise; the markers come on top.
    num_tokens: data tokens of a sequence.
    """

    length: int = 4_096
    num_tokens: int = 16

    def __post_init__(self):
        super().__post_init__()
        check_fields(self, num_tokens=COUNT)
        if self.vocab_size < 4:
            raise GenaxError(
                f"selective copying with a vocabulary of {self.vocab_size} has nothing to tell "
                "apart; noise, marker and two data tokens need config.vocab_size=4 or more."
            )
        if self.num_tokens > self.length:
            raise GenaxError(
                f"{self.num_tokens} data tokens do not fit into a length of {self.length}; "
                "lower config.num_tokens or raise config.length."
            )

    @property
    def total(self) -> int:
        """Tokens of a sequence: data, noise and markers."""
        return self.length + self.num_tokens

    @property
    def num_answers(self) -> int:
        """Positions that are answered: the markers."""
        return self.num_tokens

    def make(
        self, ids: Int[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, "b t"], Int[np.ndarray, "b m"]]:
        """Return the tokens and the answers of records by their numbers."""
        data = 1 + random_numbers(ids, self.num_tokens, self.vocab_size - 2, self.seed, 0)
        # The places of the smallest of as many random numbers as there are places.
        keys = random_bits(ids, self.length, self.seed, 1)
        places = np.argpartition(keys, self.num_tokens - 1, axis=1)[:, : self.num_tokens]
        tokens = np.full((len(ids), self.total), NOISE)
        np.put_along_axis(tokens, np.sort(places, axis=1), data, axis=1)
        tokens[:, self.length :] = self.vocab_size - 1
        return tokens, data
