"""What the file of an evaluation says."""

import json

import jax
import numpy as np
import pytest
from etils import epath

from genax.core import Evaluator, Experiment
from genax.running.evaluate import evaluate
from genax.running.results import floors, result_path, shown_result, write_result
from genax.running.run import Run
from genax.running.sampling import variables
from genax.settings import base_config
from tests.core.toys import Points, line_state, line_task, noisy_error


def rows(nets, batch):
    return {"y": nets.line(batch["x"])}


def said(found, workdir):
    return {"solver": "euler", "count": len(found["y"]), "floor": {"mean": 0.25}}


EVALUATORS = {
    "error": Evaluator(noisy_error, says={"noise": "standard normal"}),
    "plain": Evaluator(noisy_error),
    "outputs": Evaluator(
        rows, lambda found, _: {"mean": found["y"].mean(), "wrong": np.nan}, says=said
    ),
}


@pytest.fixture
def scored(tmp_path):
    task = line_task(evaluators=EVALUATORS)
    values = variables(jax.jit(lambda: line_state(task))())
    scores = evaluate(task, values, Points(11), 4, tmp_path)
    experiment = Experiment(task, Points(8), Points(11))
    return Run(experiment, base_config().to_dict(), epath.Path(tmp_path), ("toy.py", "cpu")), scores


def test_scores_are_a_dict_with_what_is_said_of_them(scored):
    _, scores = scored
    assert scores["outputs/mean"] == pytest.approx(float(scores["outputs/mean"]))
    assert scores.said["error"] == {"noise": "standard normal"}
    assert scores.said["outputs"]["count"] == 11
    assert scores.said["plain"] == {}
    assert floors(scores) == {"outputs/mean": 0.25}


def test_a_result_says_how_it_came_about(scored):
    run, scores = scored
    found = json.loads(write_result(run, scores, 7).read_text())
    assert found["step"] == 7
    assert found["error"] == scores["error"]
    assert found["outputs/wrong"] is None
    assert found["not_finite"] == {"outputs/wrong": "nan"}
    assert found["floor"] == {"outputs/mean": 0.25}
    assert found["said"]["outputs"] == {"solver": "euler", "count": 11}
    assert (found["seed"], found["experiment"], found["variant"]) == (0, "toy.py", "cpu")
    assert found["weights"] == "as trained, since nothing is averaged"
    assert found["config"]["dtype"] == "float32"
    assert {"jax", "numpy"} <= set(found["versions"])
    assert found["device"]["platform"] == "cpu"


def test_results_of_other_settings_and_weights_stay_beside_each_other(scored):
    run, scores = scored
    changes = {"steps": 3, "parallel": {"mesh": "data=2,fsdp=2"}}
    paths = {
        write_result(run, scores, 7),
        write_result(run, scores, 8),
        write_result(run, scores, 7, averaged=False),
        write_result(run, scores, 7, changes=changes),
    }
    assert {path.name for path in paths} == {
        "00000007.json",
        "00000008.json",
        "00000007_raw.json",
        "00000007_parallel.mesh=data=2,fsdp=2_steps=3.json",
    }
    [changed] = [path for path in paths if "steps=3" in path.name]
    found = json.loads(changed.read_text())
    assert found["changed_settings"] == {"steps": "3", "parallel.mesh": "data=2,fsdp=2"}


def test_a_long_or_strange_name_is_cut_and_stays_apart(tmp_path):
    paths = {
        result_path(epath.Path(tmp_path), 1, True, {"dataset": f"folder:/{'x' * 300}/{end}"}).name
        for end in ("a", "b")
    }
    assert len(paths) == 2
    assert all(len(name) < 200 and "/" not in name for name in paths)


def test_shown_without_anything_said(scored):
    _, scores = scored
    del scores["outputs/wrong"]
    scores.said = {"error": {}}
    assert set(shown_result(scores, 3)) == {"step", *scores}
