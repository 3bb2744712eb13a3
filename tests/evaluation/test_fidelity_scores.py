"""Distances between features, against the formulas written plainly in scipy and numpy."""

import numpy as np
import pytest
import scipy.linalg

from genax.evaluation import fidelity_scores as scores
from genax.evaluation.fidelity_scores import (
    frechet_distance,
    kernel_distance,
    manifold_scores,
    memorisation_scores,
    moments,
    nearest,
)


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((60, 5)), rng.standard_normal((45, 5))
    mixing = rng.standard_normal((5, 5))
    return (one @ mixing + 3).astype(np.float32), (1.5 * other @ mixing).astype(np.float32)


def distances(x, y):
    return np.sqrt(((x[:, None].astype(np.float64) - y[None]) ** 2).sum(-1))


@pytest.fixture(params=[7, 1000])
def block(request, monkeypatch):
    monkeypatch.setattr(scores, "BLOCK", request.param)
    monkeypatch.setattr(scores, "PAIRS", 50 * request.param)


def test_moments_are_those_of_numpy(sets, block):
    found, x = moments(sets[0]), sets[0].astype(np.float64)
    assert found.count == 60
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-13)


def test_moments_far_from_zero_keep_their_digits(block):
    x = 1e6 + np.random.default_rng(1).standard_normal((40, 3))
    np.testing.assert_allclose(moments(x).covariance, np.cov(x, rowvar=False), rtol=1e-9)


def test_frechet_distance_is_that_of_the_matrix_root(sets):
    (m, a), (n, b) = ((x.astype(np.float64).mean(0), np.cov(x.T.astype(np.float64))) for x in sets)
    root = scipy.linalg.sqrtm(a @ b).real
    expected = ((m - n) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(*map(moments, sets)) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_singular_covariances():
    """The matrix root of scipy is imaginary there."""
    x = np.random.default_rng(0).standard_normal((6, 20))
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(moments(x), moments(x + 2)) == pytest.approx(80, rel=1e-6)


def test_kernel_distance_is_the_unbiased_estimate(sets):
    x, y = (each[:45].astype(np.float64) for each in sets)
    d, n = 5, 45
    total = sum(
        ((x[i] @ x[j] / d + 1) ** 3 + (y[i] @ y[j] / d + 1) ** 3) / (n * (n - 1))
        for i in range(n)
        for j in range(n)
        if i != j
    ) - 2 * np.mean([(x[i] @ y[j] / d + 1) ** 3 for i in range(n) for j in range(n)])
    # Subsets of all examples are the same set.
    assert kernel_distance(x, y, subsets=3) == pytest.approx(total, rel=1e-10)


def test_kernel_distance_is_a_mean_over_subsets_of_a_seed(sets):
    found = [kernel_distance(*sets, seed, subsets=4, size=10) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    many = kernel_distance(*sets, subsets=500, size=30)
    assert many == pytest.approx(kernel_distance(sets[0][:45], sets[1]), rel=0.3)


def test_manifold_scores_are_the_published_ones(sets, block):
    samples, data = sets
    between = distances(samples, data)

    def radius(x, k):
        return np.sort(distances(x, x), axis=1)[:, k]

    precise, dense, recall = radius(data, 3), radius(data, 5), radius(samples, 3)
    assert manifold_scores(samples, data) == pytest.approx(
        {
            "precision": (between < precise).any(1).mean(),
            "recall": (between < recall[:, None]).any(0).mean(),
            "density": (between < dense).sum() / (5 * len(samples)),
            "coverage": (between < dense).any(0).mean(),
        },
        rel=1e-12,
    )


def test_manifold_scores_of_a_collapsed_model():
    data = np.random.default_rng(0).standard_normal((200, 2))
    found = manifold_scores(np.repeat(data[:1], 200, 0) + 1e-6, data)
    assert found["precision"] == 1
    assert found["recall"] < 0.05
    assert found["coverage"] < 0.1


def test_nearest_neighbours(sets, block):
    expected = np.sort(distances(*sets), axis=1)
    for found, rank in zip(nearest(*sets, [1, 4, 99]), (0, 3, -1), strict=True):
        np.testing.assert_allclose(found, expected[:, rank], rtol=1e-9)


def test_copies_of_training_images_are_told_from_new_ones():
    rng = np.random.default_rng(0)
    train, unseen, new = (rng.standard_normal((400, 3)) for _ in range(3))
    copied = memorisation_scores(train[:200] + 1e-5, unseen, train)
    fresh = memorisation_scores(new, unseen, train)
    assert copied["near_train"] == 1
    assert copied["nearest_q50"] < 1e-4
    assert fresh["near_train"] < 0.05
    expected = np.quantile(distances(new, train).min(1), 0.1)
    assert fresh["nearest_q10"] == pytest.approx(expected)
    assert memorisation_scores(unseen, unseen, train)["near_train"] == pytest.approx(0.01)


def test_samples_that_are_not_finite_have_no_score(sets):
    broken = sets[0].copy()
    broken[3, 2] = np.nan
    found = scores.fidelity_scores(broken, sets[1], sets[1])
    assert set(found) == set(scores.fidelity_scores(sets[0], sets[1], sets[1]))
    assert all(map(np.isnan, found.values()))
