"""Runs opened in Python: what they show is what the command shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import genax
from genax.core import GenaxError, Rendered
from genax.front.samples import Samples
from tests.cli.command import TOY, succeed, train

SETTINGS = {"steps": 6, "checkpoint_every": 3, "eval_every": 3, "keep": 2}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run trained by the command."""
    folder = tmp_path_factory.mktemp("command")
    succeed(*train(TOY, folder, **SETTINGS))
    return folder


def test_a_run_of_the_command_is_opened_in_python(workdir, tmp_path):
    run = genax.open(workdir)
    assert run.checkpoints == [3, 6]
    assert run.config.width == 16
    assert repr(run) == f"<run of toy.py:cpu in {workdir}, at step 6 of 6>"
    scores = succeed("eval", workdir, "--json").json
    assert run.evaluate() == {name: scores[name] for name in scores if name != "step"}
    assert run.evaluate(step=3) != run.evaluate()
    samples = run.sample(5)
    drawn = succeed("sample", workdir, "--num", 5).out.splitlines()[:5]
    assert repr(samples).splitlines() == drawn
    assert [f"{value:.6f}" for value in samples.arrays] == drawn
    assert samples.save(tmp_path / "a").read_text().splitlines() == drawn
    assert samples.save().parent == workdir / "samples"
    assert not np.array_equal(run.sample(5, seed=1).arrays, samples.arrays)
    kernel = run.variables()["params"]["regressor"]["Dense_0"]["kernel"]
    assert kernel.shape == (8, 16)
    assert not np.array_equal(
        kernel, run.variables(averaged=False)["params"]["regressor"]["Dense_0"]["kernel"]
    )


def test_a_run_of_python_is_opened_by_the_command(tmp_path):
    run = genax.train(TOY, tmp_path, SETTINGS)
    assert run.checkpoints == [3, 6]
    scores = succeed("eval", tmp_path, "--json").json
    assert scores == {"step": 6, **run.evaluate()}
    assert "samples of step 6" in succeed("sample", tmp_path).out
    # The command goes on, and Python after it.
    succeed(*train(TOY, tmp_path, **SETTINGS | {"steps": 9}))
    again = genax.train(
        genax.load(TOY), tmp_path, genax.load(TOY).config(**SETTINGS | {"steps": 12})
    )
    assert again.metrics()["step"].tolist() == list(range(1, 13))
    assert genax.train(TOY, tmp_path, {"steps": 12}, from_step=9).checkpoints[-1] == 12


def test_what_python_may_ask_of_a_run(workdir, tmp_path):
    run = genax.open(workdir)
    for arguments, said in (
        ({"name": "pictures"}, "no sampler 'pictures'; the task has outputs"),
        ({"num": 0}, "num 0 must be at least 1"),
        ({"seed": -1}, "seed -1 must be"),
        ({"prompt": "a cat"}, "the sampler 'outputs' takes no prompt"),
        ({"step": 4}, r"no checkpoint of step 4, but \[3, 6\]"),
    ):
        with pytest.raises(GenaxError, match=said):
            run.sample(**arguments)
    with pytest.raises(GenaxError, match="holds no run"):
        genax.open(tmp_path)
    with pytest.raises(GenaxError, match=r"the closest is config\.width"):
        genax.open(workdir, config={"widht": 3})


def test_settings_are_values_or_texts_and_checked(tmp_path):
    loaded = genax.load(TOY)
    config = loaded.config({"parallel.mesh": "data=2", "data": {"records": 9}}, width=np.int64(4))
    assert (config.parallel.mesh, config.data.records, config.width) == ("data=2", 9, 4)
    for changes, said in (
        ({"widht": 3}, r"no setting config\.widht; the closest is config\.width"),
        ({"width": 3.5}, r"config\.width=3\.5: expected int"),
        ({"width": "wide"}, r"config\.width=wide: expected int"),
        ({"learning_rate": float("nan")}, "expected a finite number"),
        ({"data": 3}, "no setting config.data; the closest is config.data.records"),
    ):
        with pytest.raises(GenaxError, match=said):
            genax.train(loaded, tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


def test_metrics_are_columns(tmp_path, workdir):
    columns = genax.open(workdir).metrics()
    assert columns["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(columns["fit/loss"]).all()
    assert np.isnan(columns["eval/error"]).tolist() == [True, True, False] * 2
    # Several lines of a step, one written again, one that is not finite, half a line at the end.
    lines = [{"step": 2, "a": 1.0}, {"step": 1, "a": 0.5}, {"step": 2, "b": "nan", "a": 3}]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 3, "a'
    (tmp_path / "metrics.jsonl").write_text(text)
    found = genax.front.metrics.read_metrics(tmp_path)
    assert found["step"].tolist() == [1, 2]
    assert found["a"].tolist() == [0.5, 3.0]
    assert np.isnan(found["b"]).all()


def test_samples_show_themselves(tmp_path):
    picture = Samples(None, Image.new("L", (4, 3)), {"index": np.arange(2)}, 7, tmp_path / "place")
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert repr(picture) == "<2 samples of step 7: picture of 4 x 3 pixels; save(path)>"
    assert Image.open(picture.save(tmp_path / "deep" / "a.jpg")).format == "JPEG"
    with pytest.raises(GenaxError, match=r"draws no \.txt but \.png; the samples are in"):
        picture.save(tmp_path / "a.txt")
    mesh = Samples(None, Rendered(b"ply", ".ply"), {"index": np.arange(2)}, 7, tmp_path / "place")
    assert mesh._repr_png_() is None
    assert "save(path)" in repr(mesh)
    assert mesh.save(tmp_path / "mesh").read_bytes() == b"ply"


def test_import_is_light():
    """What opens runs is imported when it is asked for."""
    import subprocess
    import sys

    code = "import sys, genax; assert not [m for m in sys.modules if m.startswith('genax.front')]"
    subprocess.run([sys.executable, "-c", code], check=True)
