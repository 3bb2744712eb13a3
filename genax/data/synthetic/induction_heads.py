"""Induction heads: remember what followed a special token, until it comes again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from genax.core.errors import GenaxError
from genax.data.shuffling import random_numbers
from genax.data.synthetic.recall import RecallData


@dataclass(frozen=True)
class InductionHeads(RecallData):
    """The task of Gu & Dao 2023 (arXiv:2312.00752), section 4.1.2; Olsson et al. 2022.

    Random tokens, among which the special token stands once, at a random position, and once more at
    the end. The answer, at the end alone, is the token after its first appearance. The special
    token is the last of the vocabulary.

    length: tokens of a sequence, both special ones included.
    """

    length: int = 256

    def __post_init__(self):
        super().__post_init__()
        if self.vocab_size < 3 or self.length < 3:
            raise GenaxError(
                f"induction heads of length {self.length} with a vocabulary of {self.vocab_size} "
                "have nothing to remember; the length and config.vocab_size are at least 3."
            )

    @property
    def total(self) -> int:
        """Tokens of a sequence."""
        return self.length

    @property
    def num_answers(self) -> int:
        """Positions that are answered: the last."""
        return 1

    def make(
        self, ids: Int[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, "b t"], Int[np.ndarray, "b m"]]:
        """Return the tokens and the answers of records by their numbers."""
        special = self.vocab_size - 1
        tokens = random_numbers(ids, self.length, special, self.seed, 0)
        place = random_numbers(ids, 1, self.length - 2, self.seed, 1)
        np.put_along_axis(tokens, place, special, axis=1)
        tokens[:, -1] = special
        return tokens, np.take_along_axis(tokens, place + 1, axis=1)
