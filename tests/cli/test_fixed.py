"""A run with a network that never changes: kept once, moved with its folder, never lost."""

import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import tree
from genax.running.checkpoint import Checkpoints
from tests.cli.command import call, files, inspect, metrics, succeed, timeless, train
from tests.cli.test_faults import flipped, refused

LATENT = str(Path(__file__).with_name("latent.py"))
VAE = "experiments/vae/vae.py:digits"
VAE_SETTINGS = {"hidden": "(16,)", "latent_size": 4, "num_samples": 0, "importance_samples": 1}


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("autoencoder")
    settings = VAE_SETTINGS | {"steps": 10, "checkpoint_every": 10, "batch_size": 8}
    succeed(*train(VAE, workdir, **settings))
    return workdir


@pytest.fixture(scope="module")
def whole(autoencoder, tmp_path_factory):
    """A run of eight steps without a break, not to be touched."""
    workdir = tmp_path_factory.mktemp("whole")
    result = succeed(*train(LATENT, workdir, autoencoder=autoencoder))
    assert f"from {autoencoder}: taken 10: params/vae/decoder/" in result.out
    assert "cast to another dtype 10: params/vae/decoder/" in result.out
    return workdir


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.mark.long
def test_it_is_kept_once_and_in_its_dtype(whole, autoencoder):
    saved = Checkpoints(whole, keep=None)
    assert not [
        path for path in tree.flatten(saved._checkpointer.metadata(8).metadata) if "vae" in path
    ]
    arrays, source = saved.arrays(8), Checkpoints(autoencoder, keep=None).arrays(10)
    kept = {path: x for path, x in arrays.items() if path.startswith("params/vae/")}
    assert len(kept) == 10
    for path, array in kept.items():
        assert array.dtype == jnp.bfloat16
        original = source[path.replace("/vae", "")]
        np.testing.assert_array_equal(array, original.astype(jnp.bfloat16), err_msg=path)
    assert {path for path in arrays if path.startswith("ema/")} == {
        "ema/denoiser/bias",
        "ema/denoiser/kernel",
    }
    assert inspect(whole)["fixed"] == tree.digest(tree.nest(kept))


@pytest.mark.long
def test_its_folder_is_moved_and_it_resumes_to_the_bit(whole, autoencoder, tmp_path):
    """Then what it began with may be gone."""
    source = shutil.copytree(autoencoder, tmp_path / "source")
    first, moved = tmp_path / "first", tmp_path / "elsewhere" / "moved"
    succeed(*train(LATENT, first, autoencoder=source, steps=4))
    shutil.rmtree(source)
    moved.parent.mkdir()
    first.rename(moved)
    assert "resuming at step 4" in succeed(*train(LATENT, moved, autoencoder=source)).out
    resumed, never = inspect(moved), inspect(whole)
    for fact in ("step", "digest", "params_digest", "fixed", "checkpoints"):
        assert resumed[fact] == never[fact], fact
    losses, same = (
        [timeless(line) for line in metrics(workdir) if "denoise/loss" in line]
        for workdir in (moved, whole)
    )
    assert losses == same
    for workdir in (moved, whole):
        succeed("sample", workdir, "--out", tmp_path / f"{workdir.name}.png")
    pictures = files(tmp_path)
    assert pictures["moved.png"] == pictures[f"{whole.name}.png"]
    scores = [succeed("eval", workdir, "--json").json for workdir in (moved, whole)]
    assert scores[0] == scores[1]
    assert scores[0]["error"] > 0


@pytest.mark.parametrize("damage", [flipped, None])
def test_a_changed_or_missing_file_is_refused(damage, run):
    """Each file is damaged in turn, or removed if `damage` is None; the folder is left alone."""
    paths = [path for path in (run / "fixed").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(paths) >= 8
    verbs = (train(LATENT, run, steps=12), ("eval", run), ("sample", run), ("inspect", run))
    for number, path in enumerate(paths):
        if damage is None and path.name.startswith("checksums."):
            continue
        content = path.read_bytes()
        path.write_bytes(damage(content)) if damage else path.unlink()
        sentence = refused(run, *verbs[number % len(verbs)])
        assert f"{run / 'fixed'} is missing or damaged (" in sentence, path
        assert sentence.endswith("put it back as it was."), path
        path.write_bytes(content)
    assert inspect(run)["step"] == 8


def test_changed_content_is_refused_without_checksums(run):
    """A bucket keeps no checksums."""
    for path in (run / "fixed").glob("checksums.*"):
        path.unlink()
    assert inspect(run)["step"] == 8
    for path in (run / "fixed" / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    for verb in ("inspect", "sample"):
        assert "fixed is missing or damaged (it holds no array)" in refused(run, verb, run)


def test_other_networks_in_its_place_are_refused(run, tmp_path):
    other = tmp_path / "other"
    succeed(*train(LATENT, other, steps=4, seed=5))
    shutil.rmtree(run / "fixed")
    for arguments in (train(LATENT, run, steps=12), ("sample", run), ("inspect", run)):
        assert "is missing or damaged" in refused(run, *arguments)
    shutil.copytree(other / "fixed", run / "fixed")
    for arguments in (train(LATENT, run, steps=12), ("sample", run), ("inspect", run)):
        assert "another content than was written" in refused(run, *arguments)


def test_a_new_run_does_not_write_over_another_one_s(run):
    shutil.rmtree(run / "checkpoints")
    sentence = refused(run, *train(LATENT, run))
    assert "is not what this run keeps there" in sentence


def test_a_run_killed_before_its_first_checkpoint_begins_again(whole, autoencoder, run):
    shutil.rmtree(run / "checkpoints")
    before = files(run / "fixed")
    succeed(*train(LATENT, run, autoencoder=autoencoder))
    assert files(run / "fixed") == before
    assert inspect(run)["digest"] == inspect(whole)["digest"]


def test_the_run_of_a_task_that_fixes_something_else(run):
    """What is kept is in the dtype that the run began with."""
    sentence = refused(run, *train(LATENT, run, kept="float32", steps=12))
    assert "is of another model: fixed/params/vae/" in sentence
    assert "is bfloat16[16], not float32[16]" in sentence


def test_a_phase_that_trains_it_is_refused(tmp_path):
    result = call(*train(LATENT, tmp_path / "run", trains="vae/decoder"))
    assert "phase 'denoise' trains 'vae/decoder', but Task.fixed says" in result.refusal()
    assert not (tmp_path / "run").exists()


def test_one_at_random_is_kept_as_well(tmp_path):
    succeed(*train(LATENT, tmp_path, steps=4))
    before = files(tmp_path / "fixed")
    succeed(*train(LATENT, tmp_path, steps=8))
    assert files(tmp_path / "fixed") == before


@pytest.mark.long
def test_another_run_takes_it_from_there(whole, tmp_path):
    maps = ("--map", "params/vae/*coder=params/*coder")
    settings = VAE_SETTINGS | {"steps": 1, "steps_per_call": 1, "batch_size": 8}
    settings |= {"learning_rate": 0.0}
    result = succeed(*train(VAE, tmp_path, "--init-from", whole, *maps, **settings))
    assert "taken 10: params/decoder/" in result.out
    given, had = (Checkpoints(w, keep=None).arrays(s) for w, s in ((tmp_path, 1), (whole, 8)))
    for path in (path for path in had if path.startswith("params/vae/")):
        np.testing.assert_array_equal(given[path.replace("/vae", "")], had[path].astype("float32"))


def test_its_parameters_are_told_apart():
    found = succeed("params", LATENT, "--json").json
    assert found["fixed"] == {"vae": found["networks"]["vae"]}
    assert found["total"] == sum(found["networks"].values()) > found["fixed"]["vae"] > 0
    count, total = found["fixed"]["vae"], found["total"]
    assert succeed("params", LATENT).out.splitlines() == [
        "denoiser: 20",
        f"vae: {count:,}, {count:,} of them fixed",
        f"total: {total:,}, {count:,} of them fixed",
    ]


def test_the_memory_that_it_takes_is_counted():
    """Twice as much in float32 as in bfloat16, which are two bytes a parameter."""
    texts = ("--topology", "local", "--json")
    sizes = [
        succeed(
            "compile", LATENT, *texts, f"--config.kept={kept}", "--config.parallel.mesh=data=4"
        ).json["memory"]["arguments"]
        for kept in ("float32", "bfloat16")
    ]
    assert sizes[0] - sizes[1] == 2 * succeed("params", LATENT, "--json").json["fixed"]["vae"]
