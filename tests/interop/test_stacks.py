"""Weights from layers one by one to layers in a stack, and back, to the bit."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from genax.core import tree
from genax.front.experiments import reopen
from genax.front.restore import restore_variables
from genax.interop import load_pretrained
from genax.running.checkpoint import Checkpoints
from tests.cli.command import call, succeed, train
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

pytestmark = pytest.mark.long

GPT = "experiments/transformer/gpt.py:stdlib"
SIZES = {"n_layer": 3, "n_head": 2, "n_embd": 16, "n_positions": 24, "vocab_size": 256}
# Nothing is trained, so that a run ends with the weights that it began with.
FROZEN = {"learning_rate": 0.0, "final_learning_rate": 0.0, "weight_decay": 0.0, "steps": 1}
SETTINGS = FROZEN | {
    "num_layers": 3,
    "num_heads": 2,
    "hidden_size": 16,
    "context": 24,
    "batch_size": 4,
    "num_samples": 0,
    "steps_per_call": 1,
    "evaluation_windows": 4,
    "eval_batch_size": 4,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """GPT-2 as transformers saves it, as it is imported, and runs that begin with it."""
    require("torch")
    folder = tmp_path_factory.mktemp("stacks")
    case = next(case for case in CASES if case.name == "GPT2LMHeadModel")
    make_reference(case, SIZES).save_pretrained(folder / "theirs")
    succeed("import", folder / "theirs", folder / "imported")
    run(folder / "imported", folder / "stacked", scan_layers=True)
    run(folder / "stacked", folder / "single", scan_layers=False)
    return folder


def run(source: Path, workdir: Path, **settings) -> None:
    """A run that begins with the decoder of another."""
    result = succeed(*train(GPT, workdir, "--init-from", source, **SETTINGS | settings))
    assert "kept as initialised 0: none" in result.out
    assert result.out.startswith(f"from {source}: taken ")


def test_the_layers_are_in_a_stack(folders):
    stacked = Checkpoints(folders / "stacked", keep=None).arrays(1)
    assert stacked["params/decoder/blocks/attention/qkv/kernel"].shape[0] == 3
    single = Checkpoints(folders / "single", keep=None).arrays(1)
    imported = Checkpoints(folders / "imported", keep=None).arrays(0)
    params = [
        {path: x for path, x in arrays.items() if path.startswith("params/")}
        for arrays in (single, imported)
    ]
    assert tree.digest(params[0]) == tree.digest(params[1])


@pytest.mark.parametrize("name", ["stacked", "single"])
def test_the_logits_are_the_same(name, folders):
    module, variables = load_pretrained(folders / "theirs")
    tokens = jax.random.randint(jax.random.key(0), (2, 24), 0, 256)
    expected = module.apply(variables, input_ids=tokens).logits
    opened = reopen(folders / name)
    found, _ = restore_variables(opened, None, averaged=False)
    decoder = opened.task.networks.decoder
    logits = decoder.apply({"params": found["params"]["decoder"]}, tokens)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["stacked", "single", "imported"])
def test_exported_again_they_are_the_same_bytes(name, folders, tmp_path):
    succeed("export", folders / name, tmp_path / "out")
    weights = [folder / "model.safetensors" for folder in (tmp_path / "out", folders / "theirs")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"]


def test_a_stack_of_another_number_of_layers_is_refused(folders, tmp_path):
    for layers, said in (
        (2, "what is made of the source's layers has shape (3, "),
        (4, "what is made of the source's layers has shape (3, "),
    ):
        settings = SETTINGS | {"scan_layers": True, "num_layers": layers}
        result = call(*train(GPT, tmp_path, "--init-from", folders / "imported", **settings))
        assert said in result.refusal()


def test_some_layers_of_a_stack_are_refused(folders, tmp_path):
    layer = "params/decoder/blocks_2"
    arguments = ("--init-from", folders / "imported", "--map", f"{layer}={layer}")
    settings = SETTINGS | {"scan_layers": True}
    sentence = call(*train(GPT, tmp_path, *arguments, **settings)).refusal()
    assert "layers [0, 1] of params/decoder/blocks/" in sentence
