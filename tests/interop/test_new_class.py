"""A class of a family file of its own and one entry of the table: with BatchNorm, by diffusers."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.interop import export_pretrained, families, load_pipeline, load_pretrained
from genax.interop.architecture import Architecture, Family
from genax.interop.conversion import batch_norm, dense
from tests.cli.command import succeed
from tests.parity import require

CONFIG = {
    "_class_name": "NormedModel",
    "_diffusers_version": "0.36.0",
    "inner": {"hidden_size": 5, "norm_eps": 1e-3},
    "out_channels": 2,
}


# What a family file holds.
class NormedModel(nn.Module):
    hidden_size: int
    epsilon: float
    out_channels: int

    @nn.compact
    def __call__(self, sample, train: bool = False):
        x = nn.Dense(self.hidden_size, name="expand")(sample)
        x = nn.BatchNorm(not train, epsilon=self.epsilon, name="norm")(x)
        return nn.Dense(self.out_channels, name="output")(nn.relu(x))


def build(architecture, config, names):
    inner = config.section("inner")
    return NormedModel(
        inner.need("hidden_size"), inner.real("norm_eps", 1e-5), config.need("out_channels")
    )


def conversions(model):
    return [*dense("expand", "first"), *batch_norm("norm", "bn"), *dense("output", "last")]


FAMILY = Family(
    {
        "NormedModel": Architecture(
            build,
            conversions,
            lambda model: {"sample": jnp.zeros((1, 3))},
            buffers=(r"bn\.num_batches_tracked",),
        )
    }
)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A network of PyTorch whose weights and statistics are no initial ones, and its directory."""
    [torch] = require("torch")
    from safetensors.torch import save_file

    for name, architecture in FAMILY.architectures.items():
        monkeypatch.setitem(families.ARCHITECTURES, name, architecture)
    torch.manual_seed(0)
    layers = {"first": torch.nn.Linear(3, 5), "bn": torch.nn.BatchNorm1d(5, 1e-3)}
    layers |= {"relu": torch.nn.ReLU(), "last": torch.nn.Linear(5, 2)}
    found = torch.nn.Sequential()
    for name, layer in layers.items():
        found.add_module(name, layer)
    with torch.no_grad():
        for tensor in (*found.parameters(), found.bn.running_mean):
            tensor.add_(torch.randn_like(tensor))
        found.bn.running_var.uniform_(0.5, 2)
    directory = tmp_path / "model"
    directory.mkdir()
    save_file(found.state_dict(), directory / "diffusion_pytorch_model.safetensors")
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return found.eval(), directory


def test_batch_statistics_are_read_and_written(model, tmp_path):
    [torch] = require("torch")
    from safetensors.torch import load_file

    reference, directory = model
    module, variables = load_pretrained(directory)
    assert set(variables) == {"params", "batch_stats"}
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = reference(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5, atol=1e-5)

    succeed("import", directory, tmp_path / "run")
    succeed("export", tmp_path / "run", tmp_path / "out")
    assert tree.digest(load_pretrained(tmp_path / "out")[1]) == tree.digest(variables)
    found = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    kept = {k: v for k, v in reference.state_dict().items() if "tracked" not in k}
    assert set(found) == set(kept)
    assert all(torch.equal(found[name], tensor) for name, tensor in kept.items())

    with pytest.raises(GenaxError, match=r"do not fit config.json: batch_stats/norm/mean"):
        export_pretrained(CONFIG, {"params": variables["params"]}, tmp_path / "lacking")


def test_it_is_a_part_of_a_pipeline(model):
    _, directory = model
    index = {"_class_name": "P", "model": ["diffusers", "NormedModel"]}
    (directory.parent / "model_index.json").write_text(json.dumps(index))
    parts, variables = load_pipeline(directory.parent)
    assert parts["model"] == load_pretrained(directory)[0]
    leaves = jax.tree.leaves(variables["model"]["batch_stats"])
    assert sorted(leaf.shape for leaf in leaves) == [(5,), (5,)]


def test_what_is_refused(model):
    _, directory = model
    (directory / "config.json").write_text(json.dumps(CONFIG | {"inner": {"hidden_size": 6}}))
    with pytest.raises(GenaxError, match=r"tensor first.weight has shape \[5, 3\]"):
        load_pretrained(directory)
