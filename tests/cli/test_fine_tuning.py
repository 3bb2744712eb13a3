"""Fine-tuning as an experiment says it: from the weights of a folder, which may go afterwards."""

import shutil

import numpy as np

from genax.core.checkpoint import Checkpoints
from tests.cli.command import call, succeed, train

EXPERIMENT = "experiments/transformer/bert_fine_tuning.py:smoke-classes"
ANSWERS = "experiments/transformer/bert_fine_tuning.py:smoke-answers"
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
