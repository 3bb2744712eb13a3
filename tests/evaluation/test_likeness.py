"""Distances of translations to what they should be, beside those of the floor."""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter

import jax.numpy as jnp
import numpy as np

from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation.likeness import likeness, peak_ratio
from genax.evaluation.pictures import side_by_side
from genax.running.evaluate import evaluate
from tests.core.toys import line_task


def test_peak_ratio_is_that_of_eight_bits():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (2, 3, 4, 4, 3))
    squares = np.square(levels[0] - levels[1]).reshape(3, -1).mean(-1)
    found = peak_ratio(*(jnp.asarray(levels / 127.5 - 1, jnp.float32)))
    np.testing.assert_allclose(found, 10 * np.log10(255**2 / squares), rtol=1e-5)
    assert jnp.isfinite(peak_ratio(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)))).all()


def test_scores_are_means_over_the_data_and_its_floor(tmp_path):
    data = ImageData("digit_pairs", "test", image="colour", source="strokes")

    def white(nets, batch):
        return jnp.ones_like(batch["image"])

    task = replace(
        line_task(), evaluators={"near": likeness(white, itemgetter("source"), what="the source")}
    )
    scores = evaluate(task, {"params": {}}, data, 100, tmp_path)
    (batch,) = data.evaluate(297, Shard())
    expected = np.abs(1 - batch["image"]).mean()
    np.testing.assert_allclose(scores["near/l1"], expected, rtol=1e-5)
    said = scores.said["near"]
    floor = np.abs(batch["source"] - batch["image"]).mean()
    np.testing.assert_allclose(said["floor"]["l1"], floor, rtol=1e-5)
    assert (said["images"], said["floor_of"]) == (297, "the source")


def test_a_row_is_what_was_read_what_was_made_and_what_is_true():
    levels = np.zeros((2, 64, 64, 1))
    batch = {"source": levels - 1, "image": levels + 1}
    picture = side_by_side(levels, batch, None, itemgetter("source"), itemgetter("image"))
    assert picture.size == (3 * 66 + 2, 2 * 66 + 2)
    assert [picture.getpixel((34 + 66 * column, 34))[0] for column in range(3)] == [0, 128, 255]
    assert side_by_side(levels, batch, None, itemgetter("source")).size[0] == 2 * 66 + 2
