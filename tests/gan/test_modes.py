"""Data with known modes, the counts of those that samples reach, and the two experiments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genax.core import init_state, make_step
from genax.core.data import Shard, numeric
from genax.data import ImageData
from genax.evaluation.extractors import Extractor
from genax.gan import modes
from genax.gan.modes import GaussianGrid, grid_modes, mode_scores, scatter
from genax.running.evaluate import evaluate
from genax.running.sampling import variables
from genax.settings.overrides import override
from tests.experiments import config_of, load

GRID = GaussianGrid(size=5_000)


def test_points_are_of_25_gaussians():
    assert sorted(map(tuple, GRID.means.tolist()))[0] == (-4.0, -4.0)
    assert len(np.unique(GRID.means, axis=0)) == 25
    gaps = GRID.points[:, None] - GRID.means
    nearest = np.abs(gaps).max(-1).argmin(1)
    inside = gaps[np.arange(len(nearest)), nearest]
    np.testing.assert_allclose(inside.std(0), 0.05, rtol=0.05)
    assert np.bincount(nearest, minlength=25).min() > 100
    batch = next(GRID.train(4, 0, Shard()))
    np.testing.assert_array_equal(batch["image"], GRID.points[batch["id"]])
    assert GRID.fingerprint() != GaussianGrid(side=3, size=5_000).fingerprint()


def test_what_is_even_has_no_divergence():
    assert mode_scores(np.repeat(np.arange(4), 3), 4) == {"modes": 4.0, "kl": 0.0}
    one = mode_scores(np.zeros(5, int), 4)
    assert one == {"modes": 1.0, "kl": pytest.approx(np.log(4))}
    assert mode_scores(np.zeros(0, int), 4) == {"modes": 0.0, "kl": np.inf}
    uneven = mode_scores(np.array([0, 0, 0, 1]), 2)["kl"]
    assert uneven == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))


def test_a_point_within_three_deviations_is_of_its_mode():
    near = GRID.means[3] + [0.1, 0.1]  # 2.83 deviations
    far = GRID.means[7] + [0.11, 0.11]  # 3.11 deviations
    points = np.float32([near, far, GRID.means[3], GRID.means[24]])
    found = grid_modes(lambda nets, batch: None, GRID).summarize(points, None)
    assert (found["modes"], found["high_quality"]) == (2.0, 0.75)
    true = grid_modes(lambda nets, batch: None, GRID).summarize(GRID.points, None)
    assert true["modes"] == 25
    # 1 - exp(-9 / 2), of a Gaussian of two dimensions.
    assert true["high_quality"] == pytest.approx(0.989, abs=0.005)
    assert true["kl"] < 0.01


def test_stacked_digits_have_a_mode_for_each_triple(monkeypatch):
    """A classifier that reads the first pixel tells the digits."""

    def classes(arrays, pixels):
        return pixels[:, 0, 0, 0].astype(jnp.int32)

    extractor = Extractor("reader", lambda *_: None, lambda workdir: {"none": np.zeros(1)})
    object.__setattr__(extractor, "classes", classes)
    monkeypatch.setattr(modes, "image_classifier", lambda train, test: extractor)
    digits = ImageData("digits")
    levels = np.array([[1, 2, 3], [9, 9, 9], [1, 2, 3]])
    images = jnp.asarray(np.tile(levels[:, None, None], (1, 8, 8, 1)) / 127.5 - 1, jnp.float32)
    evaluator = modes.stacked_modes(lambda nets, batch: images, digits, digits, 3)
    rows = evaluator.function(None, {}, {})
    np.testing.assert_array_equal(rows["mode"], [123, 999, 123])
    found = evaluator.summarize({"mode": np.asarray(rows["mode"])}, None)
    assert found["modes"] == 2
    assert found["kl"] == pytest.approx(2 / 3 * np.log(2000 / 3) + 1 / 3 * np.log(1000 / 3))
    assert evaluator.says({"mode": np.zeros(3)}, None)["samples"] == 3


def test_points_are_drawn_where_they_are():
    rendered = scatter(np.float32([[0.0, 0.0], [5.9, 5.9], [50.0, 0.0]]))
    import io

    picture = np.asarray(Image.open(io.BytesIO(rendered.content)))
    rows, columns = np.nonzero(picture == 0)
    assert rendered.suffix == ".png"
    assert {(int(r) // 128, int(c) // 128) for r, c in zip(rows, columns, strict=True)} <= {
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
        (0, 3),
    }
    assert (rows < 20).any()


SMALL = {"hidden": "(8,)", "units": "(4,)", "steps": "2", "batch_size": "12", "mode_samples": "50"}


@pytest.mark.parametrize(
    ("file", "variant", "settings"),
    [
        pytest.param("modes", "packed-4", SMALL, marks=pytest.mark.long),
        ("modes", "wgan-gp", SMALL),
        pytest.param("modes", "r3gan", SMALL, marks=pytest.mark.long),
        pytest.param(
            "stacked_mnist", "digits", {"pack": "2", "batch_size": "4"}, marks=pytest.mark.long
        ),
        pytest.param(
            "stacked_mnist",
            "digits",
            {"penalty": "r1_r2", "game": "relativistic", "normalise": "false", "batch_size": "4"},
            marks=pytest.mark.long,
        ),
    ],
)
def test_experiments_move_both_players(file, variant, settings):
    module = load(f"experiments/gan/{file}.py")
    config = override(config_of(module, variant), settings)
    experiment = module.build(config)
    state = init_state(experiment.task, 0, experiment.data.element)
    batch = numeric(next(experiment.data.train(config.batch_size, 0, Shard())))
    moved, metrics = jax.jit(make_step(experiment.task))(state, batch)
    for player in ("generator", "discriminator"):
        assert metrics[f"{player}/finite"]
        pairs = zip(
            *map(jax.tree.leaves, (state.params[player], moved.params[player])), strict=True
        )
        assert any((one != other).any() for one, other in pairs)
    if file == "modes":
        scores = evaluate(experiment.task, variables(moved), None, 25, None)
        assert {"points/modes", "points/kl", "points/high_quality"} == scores.keys()
