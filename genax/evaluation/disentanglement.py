"""How well single dimensions of a code stand for single factors of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from genax.core import Evaluator
from genax.core.data import Data
from genax.core.errors import GenaxError
from genax.core.task import Batch

Codes = Float[np.ndarray, "n z"]
Factors = Int[np.ndarray, "n k"]

BINS = 20
# Votes that decide what a dimension stands for, and as many that judge it; and codes of a vote.
VOTES = 800
VOTE_EXAMPLES = 200
# A dimension of less standard deviation, relative to the largest, takes no part in the votes.
LEAST_DEVIATION = 0.05


def _varying(factors: Factors) -> list[int]:
    """Return the numbers of the factors that have more than one value."""
    return [number for number in range(factors.shape[1]) if np.ptp(factors[:, number]) > 0]


def discretised(codes: Codes, bins: int = BINS) -> Int[np.ndarray, "n z"]:
    """Return the bin of each number, of `bins` of equal width between a dimension's ends."""
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum(((codes - low) / width * bins).astype(np.int64), bins - 1)


def _shares(*values: Int[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Return how often each combination of values comes."""
    _, counts = np.unique(np.stack(values), axis=1, return_counts=True)
    return counts / counts.sum()


def entropy(*values: Int[np.ndarray, " n"]) -> float:
    """Return the entropy of combinations of values in nats, of their shares."""
    shares = _shares(*values)
    return float(-(shares * np.log(shares)).sum())


def mutual_information(one: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> float:
    """Return the mutual information of two variables in nats, of their joint shares."""
    return entropy(one) + entropy(other) - entropy(one, other)


def mutual_information_gap(codes: Codes, factors: Factors) -> float:
    """Return the mutual information gap, MIG: Chen et al. 2018 (arXiv:1802.04942), eq. 6.

    For each factor v, (I(z_1; v) - I(z_2; v)) / H(v) of the two dimensions of the code that tell
    most of it, averaged over the factors. Each dimension is cut into 20 bins of equal width, as in
    disentanglement_lib (Locatello et al. 2019). Factors of one value are left out. A code of one
    dimension has no second one, whose information is then 0.

    Raises GenaxError if no factor varies.
    """
    varying = _varying(factors)
    if not varying:
        raise GenaxError("every factor has one value only, so no code can tell any; draw more.")
    cut = discretised(codes)
    gaps = []
    for number in varying:
        factor = factors[:, number]
        told = sorted(mutual_information(cut[:, code], factor) for code in range(cut.shape[1]))
        gaps.append((told[-1] - (told[-2] if len(told) > 1 else 0.0)) / entropy(factor))
    return float(np.mean(gaps))


def factor_vae_score(
    codes: Codes, factors: Factors, seed: int = 0, votes: int = VOTES, examples: int = VOTE_EXAMPLES
) -> dict[str, float]:
    """Return the metric of FactorVAE: Kim & Mnih 2018 (arXiv:1802.05983), section 4.

    A vote takes a factor, `examples` codes of one value of it, and the dimension whose variance
    over them is least, relative to its variance over all. `votes` of them decide by majority which
    factor each dimension stands for; the score is how often as many others are of that factor.
    Dimensions of less than 0.05 of the largest deviation, which the encoder does not use, do not
    take part.

    The codes of a vote are drawn from the given ones, with replacement; each (factor, value) needs
    at least two different ones. Returns "score", and "pruned", the number of dimensions that take
    no part; without a dimension that varies the score is 0.

    Raises GenaxError if no factor varies, or no value of a factor has two codes.
    """
    draw, variances = np.random.default_rng(seed), codes.var(0)
    active = np.flatnonzero(variances > LEAST_DEVIATION**2 * variances.max())
    pruned = float(codes.shape[1] - len(active))
    groups: list[list[np.ndarray]] = []
    for number in _varying(factors):
        values = np.unique(factors[:, number])
        places = [np.flatnonzero(factors[:, number] == value) for value in values]
        groups.append([place for place in places if len(place) > 1])
    if not groups or not all(groups):
        raise GenaxError(
            "a factor has no value of two examples, or none varies; draw more examples of the set."
        )
    if not len(active):
        return {"score": 0.0, "pruned": pruned}
    kept = codes[:, active] / np.sqrt(variances[active])
    counts = np.zeros((2, len(active), len(groups)), np.int64)
    for vote in range(2 * votes):
        factor = draw.integers(len(groups))
        group = groups[factor][draw.integers(len(groups[factor]))]
        chosen = kept[group[draw.integers(len(group), size=examples)]]
        counts[vote % 2, chosen.var(0).argmin(), factor] += 1
    stands_for = counts[0].argmax(1)
    right = counts[1][np.arange(len(active)), stands_for].sum()
    return {"score": float(right / counts[1].sum()), "pruned": pruned}


def disentanglement(
    encode: Callable[[Any, Batch], Array],
    data: Data,
    names: Sequence[str] = (),
    examples: int | None = None,
) -> Evaluator:
    """Evaluator of the codes of examples whose factors are known.

    Its scores are "mig", "factor_vae" and "pruned": see `mutual_information_gap` and
    `factor_vae_score`.

    encode: (nets, batch) -> codes [b, z], such as the means of a posterior.
    data: examples with "factors" [k], in a random order if not all of them are read: see `Drawn`.
    names: of the factors, for the result.
    examples: how many are read.
    Raises GenaxError, before data is read, if it has no factors.
    """
    if "factors" not in data.element:
        raise GenaxError(
            f"{data} has no factors, which scores of disentanglement compare a code with; choose a "
            "set with factors, such as dsprites or shapes."
        )

    def rows(nets: Any, batch: Batch) -> dict[str, Any]:
        return {"codes": encode(nets, batch), "factors": batch["factors"]}

    def summarize(found: Mapping[str, np.ndarray], workdir: Any) -> dict[str, float]:
        codes = found["codes"].astype(np.float64)
        if not np.isfinite(codes).all():
            return dict.fromkeys(("mig", "factor_vae", "pruned"), math.nan)
        voted = factor_vae_score(codes, found["factors"])
        return {
            "mig": mutual_information_gap(codes, found["factors"]),
            "factor_vae": voted["score"],
            "pruned": voted["pruned"],
        }

    def says(found: Mapping[str, np.ndarray], workdir: Any) -> dict[str, Any]:
        return {
            "examples": len(found["codes"]),
            "factors": [*names] or found["factors"].shape[1],
            "mig_bins": BINS,
            "votes": f"2 x {VOTES} of {VOTE_EXAMPLES} examples, drawn from those above",
        }

    return Evaluator(rows, summarize, examples, data, says=says)
