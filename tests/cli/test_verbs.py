"""The verbs: what a stranger reads, and what a script relies on."""

import json
from pathlib import Path

import pytest

from genax.running import sampling
from tests.cli.command import ROOT, TOY, call, files, inspect, metrics, succeed, train

ARGUMENTS = {
    "list": ["--json"],
    "train": [
        "EXPERIMENT[:VARIANT]",
        "--workdir",
        "--config.KEY=VALUE",
        "--config.steps=",
        "--config.parallel.strategy=",
        "--config.parallel.mesh=",
        "--from-step",
        "--init-from",
        "--map",
        "--distributed",
        "--coordinator",
        "--num-processes",
        "--process-id",
    ],
    "sample": [
        *("WORKDIR", "--num", "--out", "--sampler", "--prompt", "--seed", "--step", "--raw"),
        "--config.KEY=VALUE",
    ],
    "eval": ["WORKDIR", "--step", "--raw", "--json", "--config.KEY=VALUE"],
    "inspect": ["WORKDIR", "--step", "--json"],
    "params": ["EXPERIMENT[:VARIANT]", "--config.KEY=VALUE", "--json"],
    "data": ["list", "prepare"],
    "import": ["DIR", "OUT"],
    "export": ["WORKDIR", "OUT", "--step", "--raw"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    settings = {"checkpoint_every": 4, "sample_every": 4, "eval_every": 4, "log_every": 2}
    succeed(*train(TOY, workdir, **settings, steps=8))
    return workdir


def test_help_names_every_verb():
    result = call("--help")
    assert result.code == 0
    for verb in ARGUMENTS:
        assert f"\n    {verb} " in result.out


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_help_names_every_argument(verb):
    result = call(verb, "--help")
    assert result.code == 0
    for argument in ARGUMENTS[verb]:
        assert argument in result.out, argument


@pytest.mark.parametrize("arguments", [(), ("fly",), ("train",), ("sample",), ("list", "--num", 3)])
def test_a_command_that_is_none(arguments):
    sentence = call(*arguments).refusal()
    assert "--help" in sentence


def test_list():
    found = {e["path"]: e for e in succeed("list", "--json").json["experiments"]}
    assert set(found) == {
        str(path.relative_to(ROOT)) for path in (ROOT / "experiments").rglob("*.py")
    }
    vae = found["experiments/vae/vae.py"]
    assert "Kingma & Welling 2014" in vae["paper"]
    assert {"cpu", "digits"} <= set(vae["variants"])
    text = succeed("list").out
    for path, experiment in found.items():
        assert path in text
        assert "cpu" in experiment["variants"], path
        assert all(experiment["variants"].values()), path


def test_params():
    counts = succeed("params", TOY, "--json").json
    assert counts == {"networks": {"regressor": 8 * 16 + 16 + 16 + 1}, "total": 161}
    wide = succeed("params", f"{TOY}:wide", "--json").json["total"]
    assert wide == succeed("params", TOY, "--config.width=64", "--json").json["total"] == 641
    assert succeed("params", f"{TOY}:wide").out.splitlines() == ["regressor: 641", "total: 641"]


def test_train_writes_what_scripts_rely_on(trained):
    lines = metrics(trained)
    losses = [line for line in lines if "fit/loss" in line]
    assert [line["step"] for line in losses] == [2, 4, 6, 8]
    for line in losses:
        assert {"fit/grad_norm", "fit/absolute", "polish/loss", "steps_per_second"} <= set(line)
        assert "fit/finite" not in line
    assert [line["step"] for line in lines if "eval/error" in line] == [4, 8]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    for step in (4, 8):
        assert (trained / "samples" / f"outputs_{step:08d}.txt").is_file()
    assert list((trained / "tensorboard").glob("events.*"))


def test_train_tells_the_scores_and_the_end(tmp_path):
    out = succeed(*train(TOY, tmp_path, steps=4)).out.splitlines()
    assert [line for line in out if line.startswith("done")] == [
        f"done: step 4, samples and checkpoints in {tmp_path}"
    ]
    assert any(line.startswith("error: ") for line in out)


def test_run_json(trained):
    run = json.loads((trained / "run.json").read_text())
    assert (run["experiment"], run["variant"]) == (TOY, "cpu")
    assert run["config"]["steps"] == 8
    assert run["config"]["data"] == {"records": 96}
    assert run["config"]["parallel"]["strategy"] == "jit"
    assert len(run["data"]) == 1
    assert run["parameters"] == {"regressor": 161}
    assert {"python", "jax", "flax", "optax", "orbax-checkpoint"} <= set(run["versions"])
    assert "unknown" not in run["versions"].values()
    assert run["device"]["count"] == 4
    assert run["device"]["processes"] == 1
    assert run["flops_per_step"] > 0
    assert run["matmul_peak"] > 1e8
    assert "commit" in run
    assert run["started"].endswith("Z")


def test_inspect(trained):
    before = files(trained)
    found = inspect(trained)
    assert (found["step"], found["checkpoints"]) == (8, [4, 8])
    for name in ("digest", "params_digest"):
        assert len(found[name]) == 64
        assert found[name] != inspect(trained, "--step", 4)[name]
    assert found["config"]["steps"] == 8
    assert {"versions", "experiment", "variant"} <= set(found)
    text = succeed("inspect", trained).out
    assert f"digest: {found['digest']}" in text
    assert "  learning_rate: 0.01" in text
    assert files(trained) == before


def test_eval(trained):
    scores = succeed("eval", trained, "--json").json
    assert scores["step"] == 8
    logged = next(line for line in metrics(trained) if line["step"] == 8 and "eval/error" in line)
    assert scores["error"] == pytest.approx(logged["eval/error"], rel=1e-5)
    assert scores["error/absolute"] == pytest.approx(logged["eval/error/absolute"], rel=1e-5)
    # Averaged weights by default; another checkpoint on demand.
    assert succeed("eval", trained, "--json", "--raw").json["error"] != scores["error"]
    assert succeed("eval", trained, "--json", "--step", 4).json["step"] == 4
    assert "error: " in succeed("eval", trained).out
    again = succeed("eval", trained, "--json", "--config.eval_batch_size=4").json
    assert again["error"] == pytest.approx(scores["error"], rel=1e-5)


def test_sample(trained, tmp_path):
    out = tmp_path / "deep" / "drawn.txt"
    result = succeed("sample", trained, "--num", 6, "--out", out)
    six = out.read_text().splitlines()
    assert len(six) == 6
    assert result.out.splitlines()[-1] == f"samples of step 8 in {out}"
    # The same picture that training drew at its end: averaged weights, seed 0.
    drawn = (trained / "samples" / "outputs_00000008.txt").read_text().splitlines()
    assert six[:4] == drawn
    bare = succeed("sample", trained, "--out", tmp_path / "bare", "--config.num_samples=2")
    assert (tmp_path / "bare.txt").read_text().splitlines() == drawn[:2]
    assert bare.out.splitlines()[-1].endswith("bare.txt")
    succeed("sample", trained, "--seed", 1)
    other = (trained / "samples" / "outputs_00000008_seed1.txt").read_text().splitlines()
    assert len(other) == 4
    assert other != drawn


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sampler", "pictures"), "no sampler 'pictures'; the task has outputs"),
        (("--prompt", "a cat"), "the sampler 'outputs' takes no --prompt"),
        (("--num", 0), "--num 0 must be at least 1"),
        (("--step", 3), "has no checkpoint of step 3, but [4, 8]"),
        (("--out", "drawn.foo"), ".foo is no ending of a picture"),
        (("--out", f"{TOY}/drawn.txt"), "drawn.txt can't be written"),
        (
            ("--out", "drawn.png"),
            "drawn.png: the sampler draws text; name a file that ends in .txt",
        ),
        (("--out", "drawn.hdf"), ".hdf is no ending of a picture"),
        (("--out", Path(TOY).parent), "is a folder; name a file"),
        (("--seed", -1), "--seed -1 must be at least 0 and at most 4294967295"),
        (("--seed", 99999999999999999999), "--seed 99999999999999999999 must be"),
        (("--num", 99999999999999999999), "must be at least 1 and at most"),
        (("--config.numsamples", 2), "the closest is config.num_samples"),
        (("--config.width", 4), "kernel is float32[8, 16], not float32[8, 4]"),
    ],
)
def test_samples_that_cannot_be_drawn(arguments, said, trained, monkeypatch):
    monkeypatch.setattr(sampling, "_draw", lambda *_: pytest.fail("draws"))
    assert said in call("sample", trained, *arguments).refusal()


def test_a_run_of_other_devices_can_be_read(tmp_path):
    """Trained on a mesh that this machine does not have, as its record says."""
    succeed(*train(TOY, tmp_path, parallel__mesh="data=2,fsdp=2", steps=4))
    scores = succeed("eval", tmp_path, "--json").json
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("data=2,fsdp=2", "data=2,fsdp=8"))
    assert succeed("eval", tmp_path, "--json").json == pytest.approx(scores, rel=1e-5)
    succeed("sample", tmp_path)
