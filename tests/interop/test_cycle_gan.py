"""CycleGAN's generators: files of the official code's names, and translations by them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genax
from genax.cli.main import main
from genax.core import GenaxError
from genax.interop.cycle_gan import load_cycle_gan
from tests.experiments import ROOT
from tests.parity import require


def official(torch, width=4, blocks=2):
    """The layers of `ResnetGenerator` in one sequence, by which its tensors are numbered."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            layers = []
            for _ in range(2):
                layers += [nn.ReflectionPad2d(1), nn.Conv2d(4 * width, 4 * width, 3)]
                layers += [nn.InstanceNorm2d(4 * width), nn.ReLU()]
            self.conv_block = nn.Sequential(*layers[:-1])

        def forward(self, x):
            return x + self.conv_block(x)

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
            layers += [nn.InstanceNorm2d(width), nn.ReLU()]
            for wide in (width, 2 * width):
                layers += [nn.Conv2d(wide, 2 * wide, 3, 2, 1)]
                layers += [nn.InstanceNorm2d(2 * wide), nn.ReLU()]
            layers += [Block() for _ in range(blocks)]
            for wide in (4 * width, 2 * width):
                layers += [nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, 1)]
                layers += [nn.InstanceNorm2d(wide // 2), nn.ReLU()]
            layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
            self.model = nn.Sequential(*layers)

        def forward(self, x):
            return self.model(x)

    torch.manual_seed(0)
    return Generator()


def arrays_of(generator):
    return {name: tensor.numpy() for name, tensor in generator.state_dict().items()}


def test_a_file_translates_like_the_official_code(tmp_path):
    [torch] = require("torch")
    theirs = official(torch)
    path = tmp_path / "to_b.npz"
    np.savez(path, **arrays_of(theirs))
    module, variables = load_cycle_gan(path)
    assert (module.generator.width, module.generator.num_blocks) == (4, 2)
    image = np.random.default_rng(0).uniform(-1, 1, (2, 16, 12, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(image.transpose(0, 3, 1, 2).copy()))
    found = jax.jit(module.apply)(variables, jnp.asarray(image))
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_a_file_becomes_a_checkpoint_that_a_generator_starts_from(tmp_path, capsys, monkeypatch):
    [torch] = require("torch")
    monkeypatch.chdir(tmp_path)
    np.savez("to_b.npz", **arrays_of(official(torch, width=16, blocks=3)))
    assert main(["import", "to_b.npz", "imported"]) == 0
    said = capsys.readouterr().out
    assert "ResnetGenerator of" in said
    assert "is not sampled or scored by itself" in said
    settings = ["--config.steps=1", "--config.num_samples=2", "--config.learning_rate=0"]
    arguments = ["--workdir", "run", "--init-from", "imported", *settings]
    mapped = ["--map", "params/generator=params/to_b"]
    file = str(ROOT / "experiments/gan/cycle_gan.py:digits")
    assert main(["train", file, *arguments, *mapped]) == 0
    run = genax.open("run")
    kernel = run.variables()["params"]["to_b"]["last"]["kernel"]
    _, variables = load_cycle_gan("to_b.npz")
    np.testing.assert_array_equal(kernel, variables["params"]["generator"]["last"]["kernel"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("model.1.weight"), "lacks the convolutions model.1 and"),
        (lambda arrays: arrays.pop("model.11.conv_block.5.bias"), "it lacks model.11.conv_block"),
        (lambda arrays: arrays.update(extra=np.ones(1)), "it also has extra"),
        (lambda arrays: arrays.update({"model.4.bias": np.ones(3)}), r"model.4.bias has the shape"),
    ],
)
def test_other_arrays_are_refused(change, said, tmp_path):
    [torch] = require("torch")
    arrays = arrays_of(official(torch))
    change(arrays)
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(GenaxError, match=said):
        load_cycle_gan(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"none")
    with pytest.raises(GenaxError, match="cannot be read as arrays"):
        load_cycle_gan(path)
