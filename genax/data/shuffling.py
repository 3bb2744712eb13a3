"""Shuffled orders of training examples: a pure function of (seed, position), without state.

A Feistel network over the record numbers, walked until it lands inside them, is a permutation that
costs nothing to set up and handles any number of records. Grain's own `index_shuffle` uses four
rounds, after which neighbours are still correlated (0.1 at 60,000 records, 0.5 at 10^9); and the
streams of NumPy's `Generator.permutation` may change between NumPy versions, which would break
resuming a run.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_ROUNDS, _BLOCK = 8, 4096


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble uint64 numbers (the finaliser of MurmurHash3): a bijection."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


def _keys(*entropy: int, count: int) -> np.ndarray:
    # NumPy promises never to change SeedSequence.
    return np.random.SeedSequence(entropy).generate_state(count, np.uint64)


def permute(numbers: np.ndarray, size: int, *entropy: int) -> np.ndarray:
    """Return where a pseudo-random permutation of range(size) takes numbers, int64 [n].

    It needs no memory beyond that.

    numbers: int64 [n] in [0, size).
    entropy: which permutation.
    """
    if size == 1:
        return np.zeros_like(numbers)
    bits = (size - 1).bit_length()
    keys = _keys(*entropy, count=_ROUNDS)
    result = np.array(numbers, np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        result[outside] = _feistel(result[outside], bits, keys)
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def _feistel(x: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """Permute range(2**bits). The halves differ by a bit if `bits` is odd."""
    low, high = (bits + 1) // 2, bits // 2
    left, right = x >> np.uint64(low), x & np.uint64((1 << low) - 1)
    for key in keys:
        scrambled = _mix(right ^ key) & np.uint64((1 << high) - 1)
        left, right = right, left ^ scrambled
        low, high = high, low
    return (left << np.uint64(low)) | right


def record_numbers(positions: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return the record at each position of an endless reading, int64 [n], shuffled every epoch.

    Each stretch [k * size, (k + 1) * size) of positions holds every record once.

    positions: int64 [n], examples since the start of training.
    size: records in the set.
    """
    epochs, numbers = np.divmod(positions, size)
    result = np.empty_like(numbers)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = permute(numbers[here], size, seed, int(epoch))
    return result


def consecutive_numbers(start: int, count: int, size: int, seed: int) -> np.ndarray:
    """Return `record_numbers` of `count` positions from `start` on, int64 [count].

    They are computed in blocks, and the latest blocks are kept. One batch at a time, the calls to
    NumPy would cost more than the numbers.
    """
    first, last = start // _BLOCK, (start + count - 1) // _BLOCK
    blocks = np.concatenate([_block(number, size, seed) for number in range(first, last + 1)])
    return blocks[start - first * _BLOCK :][:count]


@lru_cache(maxsize=8)
def _block(number: int, size: int, seed: int) -> np.ndarray:
    return record_numbers(np.arange(_BLOCK, dtype=np.int64) + number * _BLOCK, size, seed)


def coin_flips(positions: np.ndarray, seed: int) -> np.ndarray:
    """Return one fair coin per position, bool [n], whatever process or batch holds it."""
    key = _keys(seed, 1, 2, count=1)
    return (_mix(_mix(positions.astype(np.uint64)) ^ key) >> np.uint64(63)).astype(bool)


def random_bits(numbers: np.ndarray, count: int, *entropy: int) -> np.ndarray:
    """Return `count` random numbers of 64 bits for each of some numbers, uint64 [n, count].

    Those of one number do not depend on what others stand beside it: each is the state of a
    SplitMix64 generator (Steele et al. 2014) of its own.

    numbers: int64 [n], such as positions or record numbers.
    entropy: which random numbers.
    """
    first, second = _keys(*entropy, 1, 5, count=2)
    own = _mix(_mix(numbers.astype(np.uint64) ^ first) ^ second)
    counters = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _mix(own[:, None] + counters)


def random_numbers(numbers: np.ndarray, count: int, below: int, *entropy: int) -> np.ndarray:
    """Return `count` whole numbers in [0, below) for each record, int64 [n, count].

    below: at most 2**32, to which the numbers are even but for `below` in 2**32 parts.
    numbers, entropy: see `random_bits`.
    """
    high = random_bits(numbers, count, *entropy) >> np.uint64(32)
    return ((high * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


def uniforms(numbers: np.ndarray, count: int, *entropy: int) -> np.ndarray:
    """Return `count` uniform numbers in [0, 1) for each of some numbers, float32 [n, count].

    numbers, entropy: see `random_bits`.
    """
    bits = random_bits(numbers, count, *entropy)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def named_seed(seed: int, name: str) -> int:
    """Return a seed that belongs to a name, so that sources of one run differ in their orders."""
    return int(_keys(seed, 1, 4, *name.encode(), count=1)[0])


def generator(position: int, seed: int) -> np.random.Generator:
    """Return a random generator that belongs to one example of one reading."""
    key = _keys(seed, 1, 3, count=2)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, position]))
