"""Scores of disentanglement: by hand, and of codes of which they are known."""

from __future__ import annotations

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.drawn import Drawn
from genax.evaluation.disentanglement import (
    discretised,
    disentanglement,
    entropy,
    factor_vae_score,
    mutual_information,
    mutual_information_gap,
)
from genax.running.evaluate import evaluate
from tests.core.toys import line_task

RNG = np.random.default_rng(0)
FACTORS = RNG.integers(0, (3, 4, 8), (4_000, 3))
NOISE = RNG.normal(size=(4_000, 3))
PERFECT = FACTORS * (1.0, -2.0, 0.5) + 1e-3 * NOISE
RANDOM = RNG.normal(size=(4_000, 5))


def test_bins_are_of_equal_width():
    codes = np.array([[0.0, 5.0], [0.5, 5.0], [0.049, 5.0], [1.0, 5.0], [0.051, 5.0]])
    assert discretised(codes, 20)[:, 0].tolist() == [0, 10, 0, 19, 1]
    assert set(discretised(codes, 20)[:, 1].tolist()) == {0}


def test_information_is_that_of_the_joint_table():
    one, other = RNG.integers(0, 5, 300), RNG.integers(0, 3, 300)
    other = np.where(RNG.random(300) < 0.5, one % 3, other)
    table = np.zeros((5, 3))
    for pair in zip(one, other, strict=True):
        table[pair] += 1 / 300
    outer = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    known = (table[table > 0] * np.log(table[table > 0] / outer[table > 0])).sum()
    assert mutual_information(one, other) == pytest.approx(known, abs=1e-12)
    assert mutual_information(one, other) == pytest.approx(mutual_info_score(one, other), abs=1e-9)
    assert entropy(np.arange(8)) == pytest.approx(math.log(8))


def test_gap_by_hand():
    """A code that copies one factor, and half of the time the other."""
    copied, other = RNG.integers(0, 2, (2, 10_000))
    mixed = np.where(RNG.random(10_000) < 0.5, copied, other)
    codes = np.stack([copied, mixed, np.zeros(10_000)], axis=1).astype(float)
    gaps = []
    for factor in (copied, other):
        told = sorted(mutual_info_score(code.astype(int), factor) for code in codes.T)
        gaps.append((told[-1] - told[-2]) / mutual_info_score(factor, factor))
    found = mutual_information_gap(codes, np.stack([copied, other], axis=1))
    assert found == pytest.approx(np.mean(gaps), abs=1e-9)


def test_a_perfect_code_has_the_best_scores_and_a_random_one_the_worst():
    assert mutual_information_gap(PERFECT, FACTORS) > 0.98
    assert factor_vae_score(PERFECT, FACTORS) == {"score": 1.0, "pruned": 0.0}
    assert mutual_information_gap(RANDOM, FACTORS) < 0.02
    # Three factors that are guessed.
    assert factor_vae_score(RANDOM, FACTORS)["score"] < 0.45


def test_a_rotated_code_tells_all_but_has_no_gap():
    even = RNG.integers(0, 8, (4_000, 2))
    rotated = even @ np.array([[1.0, 1.0], [1.0, -1.0]])
    assert mutual_information_gap(even.astype(float), even) == pytest.approx(1, abs=0.02)
    assert mutual_information_gap(rotated, even) < 0.05
    assert mutual_information_gap(np.c_[PERFECT, PERFECT], FACTORS) == pytest.approx(0, abs=1e-9)


def test_factors_of_one_value_and_codes_that_do_not_vary_are_left_out():
    factors = np.c_[FACTORS, np.full(4_000, 7)]
    codes = np.c_[PERFECT, 1e-4 * NOISE[:, :2]]
    assert mutual_information_gap(codes, factors) == mutual_information_gap(codes, FACTORS)
    assert factor_vae_score(codes, factors) == {"score": 1.0, "pruned": 2.0}
    # The unused dimensions would win every vote by their smaller variance, were they not scaled.
    assert factor_vae_score(np.zeros((4_000, 2)), FACTORS) == {"score": 0.0, "pruned": 2.0}
    assert mutual_information_gap(PERFECT[:, :1], FACTORS) > 0.3
    for score in (mutual_information_gap, factor_vae_score):
        with pytest.raises(GenaxError, match="factor"):
            score(PERFECT, np.zeros_like(FACTORS))
    with pytest.raises(GenaxError, match="no value of two examples"):
        factor_vae_score(PERFECT[:3], np.c_[[0, 1, 2], [0, 0, 1]])


def test_an_evaluator_of_a_set_with_factors(tmp_path):
    data = ImageData("shapes", factors=("shape", "scale", "x", "y"))
    drawn = Drawn(data, 500)

    def encode(nets, batch):
        return batch["factors"].astype(jnp.float32)

    scores = {"code": disentanglement(encode, drawn, data.factors)}
    task = replace(line_task(), evaluators=scores)
    found = evaluate(task, {"params": {}}, None, 100, tmp_path)
    assert found["code/mig"] > 0.98
    assert found["code/factor_vae"] == 1
    assert found["code/pruned"] == 0
    assert found.said["code"]["examples"] == 500
    assert found.said["code"]["factors"] == ["shape", "scale", "x", "y"]

    def lost(nets, batch):
        return jnp.full(batch["factors"].shape, jnp.nan)

    task = replace(task, evaluators={"code": disentanglement(lost, drawn)})
    assert math.isnan(evaluate(task, {"params": {}}, None, 100, tmp_path)["code/mig"])
    with pytest.raises(GenaxError, match=r"digits.* has no factors, .* such as dsprites"):
        disentanglement(encode, ImageData("digits"))
