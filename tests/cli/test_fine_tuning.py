"""Fine-tuning as an experiment says it: from the weights of a folder, which may go afterwards."""

import json
import shutil

import numpy as np
import pytest

from genax.data.text import token_data
from genax.running.checkpoint import Checkpoints
from tests.cli.command import call, succeed, train

pytestmark = pytest.mark.long

EXPERIMENT = "experiments/transformer/bert_fine_tuning.py:smoke-classes"
ANSWERS = "experiments/transformer/bert_fine_tuning.py:smoke-answers"
REGRESSION = "experiments/transformer/bert_fine_tuning.py:smoke-regression"
VIT = "experiments/transformer/vit.py:digits"
SMALL = {"log_every": 1, "checkpoint_every": 1, "keep": 9, "examples": 16}


def encoder(workdir, step):
    arrays = Checkpoints(workdir, keep=None).arrays(step)
    return {path: x for path, x in arrays.items() if path.startswith("params/encoder/")}


def test_a_new_run_starts_from_a_folder_and_resumes_without_it(tmp_path):
    source, tuned = tmp_path / "source", tmp_path / "tuned"
    succeed(*train(EXPERIMENT, source, steps=1, **SMALL))
    settings = SMALL | {"pretrained": source, "seed": 5, "learning_rate": 0.0}

    missing = call(*train(EXPERIMENT, tuned, steps=1, **settings | {"pretrained": "nowhere"}))
    assert "nowhere holds no checkpoints" in missing.refusal()
    assert not (tuned / "checkpoints").exists() or not list((tuned / "checkpoints").iterdir())

    result = succeed(*train(EXPERIMENT, tuned, steps=1, **settings))
    assert f"from {source}: taken 19: params/encoder/blocks_0" in result.out + result.err
    # Frozen by a learning rate of zero, the encoder is the source's.
    given, had = encoder(tuned, 1), encoder(source, 1)
    for path in had:
        np.testing.assert_array_equal(given[path], had[path], err_msg=path)
    assert (tuned / "tokenizer.json").read_text() == (source / "tokenizer.json").read_text()

    shutil.rmtree(source)
    succeed(*train(EXPERIMENT, tuned, steps=2, **settings))
    succeed("eval", tuned)
    assert (tuned / "samples" / "found_00000002.txt").read_text().count("\ntrue: ") == 2
    assert succeed("sample", tuned, "--prompt", "f(self)").out.startswith("f(self)\n> ")


def test_a_regression_trains_scores_samples_and_is_exported(tmp_path):
    succeed(*train(REGRESSION, tmp_path / "run", steps=2, **SMALL))
    scores = succeed("eval", tmp_path / "run", "--json").json
    names = ("pearson", "spearman", "mean_squared_error")
    assert [name for name in scores if "/" in name] == [f"regression/{name}" for name in names]
    assert scores["test"] == pytest.approx(scores["regression/mean_squared_error"], rel=1e-5)
    told = succeed("sample", tmp_path / "run", "--prompt", "f(self)").out
    assert np.isfinite(float(told.splitlines()[1].removeprefix("> ")))
    shown = (tmp_path / "run" / "samples" / "found_00000002.txt").read_text().splitlines()
    assert {line for line in shown if line.startswith("true: ")} <= {"true: 0", "true: 1"}
    succeed("export", tmp_path / "run", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    out = succeed("import", tmp_path / "out", tmp_path / "again").out
    assert out.startswith("BertForSequenceClassification of ")


@pytest.mark.parametrize(
    ("experiment", "settings", "said"),
    [
        (EXPERIMENT, {"num_labels": 1}, "of stdlib_summaries has the method 1, which is no class"),
        (EXPERIMENT, {"label": "summary"}, "the feature 'summary' with the value"),
        (
            EXPERIMENT,
            {"label": "stars"},
            "split 'validation' of stdlib_summaries has no feature 's",
        ),
        (
            EXPERIMENT,
            {"text": "review"},
            "split 'validation' of stdlib_summaries has no feature 'r",
        ),
        (EXPERIMENT, {"task": "tags"}, "config.task='tags' is none of classes, regression"),
        (REGRESSION, {"num_labels": 2}, "num_labels=2 does not fit config.task='regression'"),
        (REGRESSION, {"label": "code"}, "and a finite number is needed"),
        (ANSWERS, {"dataset": "stdlib_names"}, "has no feature 'question'"),
        (
            VIT,
            {"num_classes": 5},
            "split 'test' of digits has the label 9, which is no class of 0 t",
        ),
    ],
)
def test_labels_and_features_that_do_not_fit_are_refused_before_the_first_step(
    experiment, settings, said, tmp_path
):
    result = call(*train(experiment, tmp_path / "run", **settings))
    assert said in result.refusal()
    assert not (tmp_path / "run").exists()


def test_an_evaluation_of_labels_that_are_no_class_prints_no_score(tmp_path, monkeypatch):
    succeed(*train(EXPERIMENT, tmp_path, steps=1, **SMALL))
    load = token_data.load_examples
    withheld = [{**example, "method": -1} for example in load("stdlib_summaries", "validation")]
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: withheld)
    result = call("eval", tmp_path)
    assert "split 'validation' of stdlib_summaries has the method -1" in result.refusal()
    assert "test" not in result.out


def test_a_question_is_answered_from_a_text_of_several_windows(tmp_path):
    settings = SMALL | {"evaluated": 4, "eval_batch_size": 4}
    succeed(*train(ANSWERS, tmp_path, steps=1, **settings))
    text = "".join(f"def f{number}(x, y): pass\n" for number in range(30))
    question = "what are the arguments of f3?"
    told = succeed("sample", tmp_path, "--prompt", f"{question} || {text}").out
    answer = told.partition("\n\n")[0].removeprefix(f"{question}\n> ")
    assert answer
    assert answer in text
    assert "QUESTION || CONTEXT" in call("sample", tmp_path, "--prompt", question).refusal()
