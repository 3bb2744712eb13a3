"""Distances between the features of samples and of data, in numpy float64."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "_ d"]
# What the scores depend on besides the features.
SETTINGS = {
    "kid_subsets": 100,
    "kid_subset_size": 1000,
    "kid_seed": 0,
    "precision_k": 3,
    "density_k": 5,
}
# Rows that are float64 at a time, and pairs whose distance is in memory at a time.
BLOCK, PAIRS = 1000, 4_000_000


def fidelity_scores(samples: Features, unseen: Features, seen: Features) -> dict[str, float]:
    """Return all scores of samples against features of test and training images.

    Samples that are not finite have no score: each is NaN.

    unseen, seen: features of test images, and of training images.
    """
    finite = bool(np.isfinite(samples).all())
    samples = samples if finite else np.zeros_like(samples)
    scores = {
        "fid": frechet_distance(moments(samples), moments(unseen)),
        "kid": kernel_distance(samples, unseen),
        **manifold_scores(samples, unseen),
        **memorisation_scores(samples, unseen, seen),
    }
    return scores if finite else dict.fromkeys(scores, math.nan)


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, collected block by block.

    scatter: the sum of (x - mean) (x - mean)^T.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased covariance."""
        return self.scatter / (self.count - 1)

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both parts together (Chan, Golub & LeVeque 1983)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)


def moments(features: Features) -> Moments:
    """Return the moments of features, in one pass over blocks of them."""
    found = [_moments(block) for _, block in _blocks(features, BLOCK)]
    whole = found[0]
    for part in found[1:]:
        whole = whole.joined(part)
    return whole


def _moments(block: Features) -> Moments:
    mean = block.mean(0)
    centred = block - mean
    return Moments(len(block), mean, centred.T @ centred)


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return the squared Frechet distance of two Gaussians (Heusel et al. 2017, eq. 6).

    The trace of the root of the product is the sum of the roots of the eigenvalues of
    A^(1/2) B A^(1/2), which is symmetric.
    """
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ other.covariance @ root
    shared = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    apart = ((one.mean - other.mean) ** 2).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return float(apart + traces - 2 * shared)


def kernel_distance(
    samples: Features,
    data: Features,
    seed: int = SETTINGS["kid_seed"],
    subsets: int = SETTINGS["kid_subsets"],
    size: int = SETTINGS["kid_subset_size"],
) -> float:
    """Return the mean of the squared maximum mean discrepancy over subsets (Binkowski et al. 2018).

    The kernel is (x y / d + 1)^3 and the estimate is unbiased, so it may be below 0.

    seed: of the subsets, which are drawn without replacement.
    size: examples in a subset, or all if there are fewer.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(samples), len(data))
    if size == len(samples) == len(data):
        subsets = 1  # all would be the same set
    total = 0.0
    for _ in range(subsets):
        x = samples[rng.choice(len(samples), size, replace=False)].astype(np.float64)
        y = data[rng.choice(len(data), size, replace=False)].astype(np.float64)
        pairs = size * (size - 1)
        within = sum((_cubic(z, z).sum() - _cubic_norms(z).sum()) / pairs for z in (x, y))
        total += within - 2 * _cubic(x, y).mean()
    return float(total / subsets)


def _cubic(x: Features, y: Features) -> Float[np.ndarray, "n m"]:
    products = x @ (y.T / x.shape[1])
    products += 1
    return products * products * products


def _cubic_norms(x: Features) -> Float[np.ndarray, " _"]:
    return ((x**2).sum(1) / x.shape[1] + 1) ** 3


def manifold_scores(
    samples: Features,
    data: Features,
    precision_k: int = SETTINGS["precision_k"],
    density_k: int = SETTINGS["density_k"],
) -> dict[str, float]:
    """Return precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem 2020).

    precision, density: how many samples lie among data. recall, coverage: how much of the data has
    samples. A neighbour is nearer than the k-th nearest other example of its set.
    """
    # Each example is its own nearest neighbour, at distance 0. Squares are in the same order.
    precise, dense = (r**2 for r in nearest(data, data, [precision_k + 1, density_k + 1]))
    recall = nearest(samples, samples, [precision_k + 1])[0] ** 2
    inside, close = 0, 0
    recalled, covered = np.zeros((2, len(data)), bool)
    for rows, squared in _squared_distances(samples, data):
        inside += (squared < precise).any(1).sum()
        near = squared < dense
        close += near.sum()
        recalled |= (squared < recall[rows, None]).any(0)
        covered |= near.any(0)
    return {
        "precision": float(inside / len(samples)),
        "recall": float(recalled.mean()),
        "density": float(close / (density_k * len(samples))),
        "coverage": float(covered.mean()),
    }


def nearest(x: Features, data: Features, ranks: Iterable[int]) -> list[Float[np.ndarray, " n"]]:
    """Return the distance of each x to its r-th nearest example of the data, for each rank r.

    Ranks begin at 1. A rank beyond the data is its last.
    """
    places = [min(rank, len(data)) - 1 for rank in ranks]
    found = [
        squared.min(1)[:, None].repeat(len(places), 1)
        if not any(places)
        else np.partition(squared, places, axis=1)[:, places]
        for _, squared in _squared_distances(x, data)
    ]
    return list(np.sqrt(np.concatenate(found)).T)


def memorisation_scores(samples: Features, held_out: Features, train: Features) -> dict[str, float]:
    """Return how near samples lie to training examples, beside held-out examples.

    nearest_q01, nearest_q10, nearest_q50: quantiles of the samples' distances to their nearest
    training example. near_train: the share of samples that lie nearer than the nearest hundredth of
    the held-out examples; 0.01 is what new examples have, and copies have 1.
    """
    [drawn], [unseen] = (nearest(x, train, [1]) for x in (samples, held_out))
    quantiles = {
        f"nearest_q{percent:02}": float(np.quantile(drawn, percent / 100))
        for percent in (1, 10, 50)
    }
    near = float((drawn < np.quantile(unseen, 0.01)).mean())
    return {**quantiles, "near_train": near}


def _blocks(x: Features, size: int) -> Iterable[tuple[slice, Features]]:
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, x[rows].astype(np.float64)


def _squared_distances(
    x: Features, data: Features
) -> Iterable[tuple[slice, Float[np.ndarray, "b m"]]]:
    """Squared Euclidean distances of blocks of x to all data."""
    y = data.astype(np.float64)
    squares = (y**2).sum(1)
    for rows, block in _blocks(x, max(1, PAIRS // len(y))):
        squared = block @ (-2 * y.T)
        squared += squares
        squared += (block**2).sum(1)[:, None]
        yield rows, np.maximum(squared, 0, out=squared)
