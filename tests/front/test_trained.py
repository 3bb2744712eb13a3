"""Networks of runs as encoders: an autoencoder's latents of digits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

import genax
from genax.core import Experiment, GenaxError, Loss, Phase, Stage, Task
from genax.core.data import Shard
from genax.data import ImageData, Joined, Latents
from genax.front.experiments import configure, load
from genax.front.trained import TrainedNetwork
from genax.running.checkpoint import Checkpoints
from genax.running.loop import train
from genax.running.run import Run
from genax.settings import base_config

pytestmark = pytest.mark.long

DIGITS = ImageData("digits", "test[:20]", range=(0.0, 1.0))
SMALL = {
    "batch_size": "8",
    "steps": "2",
    "steps_per_call": "1",
    "checkpoint_every": "1",
    "sample_every": "0",
    "eval_every": "0",
    "keep": "9",
    "importance_samples": "1",
    "num_samples": "1",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small autoencoder."""
    folder = tmp_path_factory.mktemp("vae")
    loaded = load("experiments/vae/vae.py:digits")
    train(loaded.run(configure(loaded, SMALL), folder))
    return str(folder)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAX_DATA", str(tmp_path))
    return tmp_path / "latents"


def caches(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_latents_of_a_run(run, cache, monkeypatch):
    data = Latents(DIGITS, TrainedNetwork(run, "encoder"))
    assert {name: spec.shape for name, spec in data.element.items()} == {
        "latent": (8,),
        "label": (),
    }
    assert not cache.exists()
    batch = next(data.train(10, 0, Shard()))
    weights = data.encoder.load()
    (images,) = DIGITS.evaluate(20, Shard())
    made = weights(images)
    assert set(made) == {"mean", "deviation"}
    ids = batch["id"]
    scaled = (batch["latent"] - made["mean"][ids]) / made["deviation"][ids]
    assert 0.5 < scaled.std() < 1.5
    np.testing.assert_array_equal(batch["label"], images["label"][ids])
    # Opened again, the cache is read and the network is not.
    monkeypatch.setattr(TrainedNetwork, "load", None)
    again = next(Latents(DIGITS, TrainedNetwork(run, "encoder")).train(10, 0, Shard()))
    np.testing.assert_array_equal(again["latent"], batch["latent"])


def test_another_checkpoint_makes_another_cache(run, cache):
    first, newest = (Latents(DIGITS, TrainedNetwork(run, "encoder", step=n)) for n in (1, None))
    one, two = (next(data.train(20, 0, Shard()))["latent"] for data in (first, newest))
    assert abs(one - two).max() > 1e-6
    assert caches(cache) == sorted([first.fingerprint(), newest.fingerprint()])
    assert (
        newest.fingerprint()
        == Latents(DIGITS, TrainedNetwork(run, "encoder", step=2)).fingerprint()
    )


def test_refusals(run, tmp_path, cache):
    for wrong in ("enocder", "encoder.encode"):
        with pytest.raises(
            GenaxError, match=f"no network or method '{wrong}'; its networks are de"
        ):
            Latents(DIGITS, TrainedNetwork(run, wrong)).element  # noqa: B018
    with pytest.raises(GenaxError, match="holds no run"):
        Latents(DIGITS, TrainedNetwork(str(tmp_path), "encoder")).element  # noqa: B018
    with pytest.raises(GenaxError, match="has no checkpoint of step 7, but"):
        Latents(DIGITS, TrainedNetwork(run, "encoder", step=7)).fingerprint()


class Networks(nn.Module):
    """The networks of `resumable`."""

    linear: nn.Module


def resumable(data, folder, steps):
    """Train a linear map of latents and pixels for so many steps in all."""

    def loss(nets, batch):
        both = [batch["z_latent"], batch["x_image"].reshape(len(batch["x_image"]), -1)]
        made = nets.linear(jnp.concatenate(both, -1))
        return Loss(jnp.square(made - batch["z_latent"]).sum(-1))

    task = Task(Networks(nn.Dense(8)), [Stage([Phase("fit", loss, ("linear",), optax.adam(1e-2))])])
    config = base_config(steps=steps, batch_size=8, log_every=1, checkpoint_every=2, keep=9)
    experiment = Experiment(task, data, None)
    train(Run(experiment, config.to_dict(), epath.Path(folder), ("linear.py", "cpu")))
    state = Checkpoints(folder, keep=None)
    return state.record(steps)["position"], state.arrays(steps)


def test_a_run_on_latents_and_pixels_resumes_to_the_bit(run, cache, tmp_path):
    """Two sources of different lengths, one of them drawn anew at each reading."""

    def data(step=None):
        latents = Latents(DIGITS, TrainedNetwork(run, "encoder", step=step))
        return Joined(z=latents, x=ImageData("digits", "train[:9]"))

    position, whole = resumable(data(), tmp_path / "whole", 4)
    assert position == {"examples": 32}
    resumable(data(), tmp_path / "parts", 2)
    _, parts = resumable(data(), tmp_path / "parts", 4)
    assert whole.keys() == parts.keys()
    for path, array in whole.items():
        np.testing.assert_array_equal(array, parts[path], err_msg=path)
    with pytest.raises(GenaxError, match=r"the data of the run in .* has changed"):
        resumable(data(step=1), tmp_path / "parts", 6)


ADAPTED = """
import flax.linen as nn
import optax

from genax.core import Experiment, Loss, Phase, Stage, Task
from genax.data import ImageData
from genax.nn.lora import adapted

DEFAULTS = {}


class Networks(nn.Module):
    encoder: nn.Module


def loss(nets, batch):
    return Loss((nets.encoder(batch["image"]) - 1) ** 2)


def build(config):
    phase = Phase("encoder", loss, ("encoder",), optax.sgd(0.1))
    task = Task(Networks(nn.Dense(3)), [Stage([phase])])
    return Experiment(adapted(task, rank=2, targets=("encoder",)), ImageData("digits"))
"""


def test_an_adapted_network_encodes_with_its_adapters(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(ADAPTED)
    loaded, folder = load(str(file)), tmp_path / "run"
    settings = {"batch_size": "8", "steps": "2", "sample_every": "0", "num_samples": "1"}
    train(loaded.run(configure(loaded, settings), folder))
    arrays = Checkpoints(folder, keep=None).arrays(2)
    layer = {path.removeprefix("params/encoder/"): np.array(x) for path, x in arrays.items()}
    (images,) = DIGITS.evaluate(20, Shard())
    made = TrainedNetwork(str(folder), "encoder").load()(images)["latent"]
    added = 8 * layer["adapter/lora_a"] @ layer["adapter/lora_b"]
    assert abs(added).max() > 1e-3
    expected = images["image"] @ (layer["kernel"] + added) + layer["bias"]
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    kernel = genax.open(folder).variables()["params"]["encoder"]["kernel"]
    np.testing.assert_allclose(kernel, layer["kernel"] + added, rtol=1e-5, atol=1e-6)
