"""Asymmetric numeral systems (Duda 2009, arXiv:0902.0271): a stack of symbols, of several lanes.

A lane's head is a number in [2^31, 2^63). A symbol of the probability f / 2^p changes it to about
head 2^p / f, so it takes p - log2 f bits. What a head cannot hold goes to one tail of 32-bit words
that all lanes share, as in Giesen 2014 (arXiv:1402.3392). Pushes and pops are of one symbol a lane,
and popping undoes pushing in the opposite order to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from genax.core.errors import GenaxError

Numbers = Int[np.ndarray, " k"]

_LEAST = np.uint64(1 << 31)
_WORD = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


class Stack:
    """Symbols of several lanes.

    An empty stack is not zero: its heads and the words below its tail are random numbers of a seed,
    so that symbols can be popped off it. Whoever pushes these again leaves it as it was.

    heads: one number a lane.
    tail: words, the newest last.
    borrowed: words that were popped from below the tail, in their order.
    """

    def __init__(self, lanes: int, seed: int = 0):
        self._seed, self._supply = seed, np.random.default_rng(seed)
        self.heads = _LEAST + self._supply.integers(1 << 31, size=lanes, dtype=np.uint64)
        self.tail: list[int] = []
        self.borrowed: list[int] = []

    @property
    def lanes(self) -> int:
        """How many symbols a push takes at most."""
        return len(self.heads)

    def push(self, starts: Numbers, frequencies: Numbers, precision: int) -> None:
        """Push one symbol on each of the first k lanes.

        starts, frequencies: the part [start, start + frequency) of [0, 2^precision) that is the
          symbol's.
        precision: at most 24 for a cost of less than a hundredth of a bit.
        """
        start, frequency = (np.asarray(x).astype(np.uint64) for x in (starts, frequencies))
        heads = self.heads[: len(start)]
        full = heads >= frequency << np.uint64(63 - precision)
        if full.any():
            self.tail.extend((heads[full] & _LOW).tolist())
            heads[full] >>= _WORD
        whole, rest = np.divmod(heads, frequency)
        heads[:] = (whole << np.uint64(precision)) + rest + start

    def pop(
        self,
        find: Callable[[Numbers], tuple[Numbers, Numbers, Numbers]],
        precision: int,
        count: int | None = None,
    ) -> Numbers:
        """Pop one symbol off each of the first `count` lanes, or of all; return the symbols.

        find: numbers in [0, 2^precision), int64 [k] -> the symbol whose part holds each, with the
          part's start and frequency.
        """
        heads = self.heads[: self.lanes if count is None else count]
        place = heads & np.uint64((1 << precision) - 1)
        symbols, *part = find(place.astype(np.int64))
        start, frequency = (np.asarray(x).astype(np.uint64) for x in part)
        heads[:] = frequency * (heads >> np.uint64(precision)) + place - start
        low = heads < _LEAST
        missing = int(low.sum())
        if missing:
            heads[low] = (heads[low] << _WORD) | np.array(self._take(missing), np.uint64)
        return symbols

    def _take(self, count: int) -> list[int]:
        short = count - len(self.tail)
        if short > 0:
            words = self._supplied(short)
            # Of the words below the tail, the first one given is the highest.
            self.borrowed.extend(words)
            self.tail[:0] = words[::-1]
        taken = self.tail[-count:]
        del self.tail[-count:]
        return taken

    def _supplied(self, count: int) -> list[int]:
        return self._supply.integers(1 << 32, size=count, dtype=np.uint64).tolist()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left but what was there from the beginning."""
        fresh = Stack(self.lanes, self._seed)
        words = fresh._supplied(len(self.tail))
        return np.array_equal(fresh.heads, self.heads) and words[::-1] == self.tail

    def to_bytes(self) -> bytes:
        """Return heads and tail."""
        return self.heads.astype("<u8").tobytes() + np.array(self.tail, "<u4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes, lanes: int) -> Stack:
        """Return the stack of `to_bytes`. Raises GenaxError for content that is none."""
        size = 8 * lanes
        if len(content) < size or (len(content) - size) % 4:
            raise GenaxError(
                f"a stack of {lanes} lanes cannot have {len(content)} bytes; the file was cut off."
            )
        stack = cls(lanes)
        stack.heads = np.frombuffer(content[:size], "<u8").astype(np.uint64)
        stack.tail = np.frombuffer(content[size:], "<u4").tolist()
        return stack
