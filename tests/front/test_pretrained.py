"""Runs that start from imported weights: their sizes, tokenizer, numbers, and what comes out."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from genax.core.data import Shard, open_data
from genax.front.experiments import configure, load, reopen
from genax.running.record import read_run
from tests.cli.command import call, metrics, succeed, train
from tests.front import directories
from tests.parity import require

GPT = "experiments/transformer/gpt.py:stdlib"
LLAMA = "experiments/transformer/llama.py:stdlib"
SMALL = {
    "context": 16,
    "batch_size": 4,
    "steps": 2,
    "steps_per_call": 1,
    "log_every": 1,
    "evaluation_windows": 8,
    "num_samples": 1,
}
PROMPT = "import os"


class Imported:
    """A directory of transformers, what `genax import` made of it, and its likeliest text."""

    def __init__(self, make, experiment, folder):
        self.experiment = experiment
        self.theirs, self.out = make(folder / "theirs"), folder / "out"
        self.text = directories.end_likeliest(self.theirs, PROMPT)
        succeed("import", self.theirs, self.out)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return Imported(directories.make_gpt2, GPT, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return Imported(directories.make_llama, LLAMA, tmp_path_factory.mktemp("llama"))


def each_model(function):
    models = ["gpt2", pytest.param("llama", marks=pytest.mark.long)]
    return pytest.mark.parametrize("model", models)(function)


@pytest.fixture
def imported(model, request):
    return request.getfixturevalue(model)


def greedy(workdir, *arguments):
    """The likeliest continuation that `genax sample` prints."""
    settings = ("--config.temperature=0", "--config.top_k=0", "--config.context=40")
    said = succeed("sample", workdir, "--prompt", PROMPT, "--num", 1, *settings, *arguments).out
    return said.removeprefix("--- 0\n").rpartition("\nsamples of step")[0].removesuffix("\n")


@each_model
def test_an_import_samples_as_transformers_does_and_is_scored(imported):
    assert greedy(imported.out) == imported.text
    scores = succeed("eval", imported.out, "--json", "--config.evaluation_windows=4").json
    assert np.isfinite(scores["validation/loss"])


@pytest.mark.long
@each_model
def test_a_run_starts_from_it_and_gives_back_what_came_in(imported, tmp_path):
    torch, transformers = require("torch", "transformers")
    arguments = train(imported.experiment, tmp_path / "run", pretrained=imported.out, **SMALL)
    succeed(*arguments)

    run = reopen(tmp_path / "run")
    data = open_data(run.experiment.data, run.workdir)
    batch = torch.from_numpy(next(data.train(4, run.config["seed"], Shard()))["tokens"]).long()
    assert batch.shape == (4, 17)
    model = transformers.AutoModelForCausalLM.from_pretrained(imported.theirs)
    expected = model(input_ids=batch, labels=batch).loss.item()
    first = next(line for line in metrics(tmp_path / "run") if "decoder/loss" in line)
    assert first["decoder/loss"] == pytest.approx(expected, rel=1e-5)

    succeed("export", tmp_path / "run", tmp_path / "new")
    names = sorted(path.name for path in imported.theirs.iterdir())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    old, new = (
        json.loads((at / "config.json").read_text()) for at in (imported.theirs, tmp_path / "new")
    )
    ours = {name: value for name, value in new.items() if old.get(name) != value}
    assert set(ours) <= {"dtype", "scale_attn_by_inverse_layer_idx"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    tokens = tokenizer(PROMPT, return_tensors="pt").input_ids
    # At this learning rate the likeliest text is another one, and ends at the same token.
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    row = model.generate(tokens, do_sample=False, max_new_tokens=38, pad_token_id=0)[0].tolist()
    ends = [at for at in row[tokens.shape[1] :] if at in np.atleast_1d(old["eos_token_id"])]
    assert ends == row[-1:] or not ends
    kept = tokenizer.decode(row[: len(row) - len(ends)])
    assert greedy(tmp_path / "run") == kept


@pytest.mark.long
def test_a_run_that_learned_nothing_ends_where_the_model_did(gpt2, tmp_path):
    _, transformers = require("torch", "transformers")
    settings = SMALL | {"steps": 1, "learning_rate": 1e-12, "final_learning_rate": 1e-12}
    succeed(*train(GPT, tmp_path / "run", pretrained=gpt2.out, **settings))
    assert greedy(tmp_path / "run") == gpt2.text
    succeed("export", tmp_path / "run", tmp_path / "new")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    tokens = tokenizer(PROMPT, return_tensors="pt").input_ids
    row = model.generate(tokens, do_sample=False, max_new_tokens=38, pad_token_id=0)[0]
    assert row[-1].item() == model.generation_config.eos_token_id
    assert tokenizer.decode(row[:-1]) == gpt2.text


def test_sizes_and_tokenizer_are_those_of_the_weights(gpt2):
    config = configure(load(GPT), {"pretrained": str(gpt2.out)})
    sizes = {"positions": 48, "hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_size": 40}
    assert {name: config[name] for name in sizes} == sizes
    assert (config.tokenizer, config.bias, config.context) == ("bpe", True, 48)
    assert config.end_token == (config.end_token[0],)
    shorter = configure(load(GPT), {"pretrained": str(gpt2.out), "context": "8"})
    assert (shorter.context, shorter.positions) == (8, 48)
    # The same may be said again.
    configure(load(GPT), {"pretrained": str(gpt2.out), "hidden_size": "24", "tokenizer": "bpe"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": 32}, "config.hidden_size=32 differs from 24 of the weights in"),
        ({"tokenizer": "bytes"}, "config.tokenizer=bytes differs from bpe of the weights in"),
        ({"positions": 64}, "config.positions=64 differs from 48 of the weights in"),
        ({"context": 64}, "config.context=64 exceeds the network's config.positions=48; set it"),
        ({"pretrained": "nowhere"}, "nowhere holds no checkpoints to start from"),
    ],
)
def test_what_differs_is_refused_by_name(settings, said, gpt2, tmp_path):
    settings = {"pretrained": gpt2.out} | settings
    assert said in call(*train(GPT, tmp_path / "run", **settings)).refusal()
    assert not (tmp_path / "run").exists()


def test_a_directory_that_was_not_imported_is_named_with_the_way(gpt2, tmp_path):
    said = call(*train(GPT, tmp_path / "run", pretrained=gpt2.theirs)).refusal()
    assert f"run `genax import {gpt2.theirs} OUT` and name OUT" in said


def test_another_network_is_refused(gpt2, tmp_path):
    said = call(*train(LLAMA, tmp_path / "run", pretrained=gpt2.out)).refusal()
    assert "is GPT2LMHeadModel, which has no LLaMA named 'decoder'" in said


@pytest.mark.long
def test_a_run_resumes_without_the_weights_and_others_start_from_it(gpt2, tmp_path):
    source = shutil.copytree(gpt2.out, tmp_path / "source")
    settings = SMALL | {"pretrained": source, "checkpoint_every": 2}
    succeed(*train(GPT, tmp_path / "first", **settings))
    # As if it had been killed before its first checkpoint, it starts again.
    shutil.rmtree(tmp_path / "first" / "checkpoints")
    succeed(*train(GPT, tmp_path / "first", **settings))
    shutil.rmtree(source)
    succeed(*train(GPT, tmp_path / "first", **settings | {"steps": 3}))
    assert read_run(tmp_path / "first")["config"]["hidden_size"] == 24

    succeed(*train(GPT, tmp_path / "next", **SMALL | {"pretrained": tmp_path / "first"}))
    config = read_run(tmp_path / "next")["config"]
    assert (config["tokenizer"], config["mlp_size"]) == ("bpe", 40)
    texts = [(tmp_path / name / "tokenizer.json").read_text() for name in ("first", "next")]
    assert texts[0] == texts[1]
    succeed("export", tmp_path / "next", tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").exists()


def test_an_import_is_no_run_to_go_on_with(gpt2):
    said = call(*train(GPT, gpt2.out, **SMALL)).refusal()
    assert f"--config.pretrained={gpt2.out} and choose another --workdir" in said


def test_embeddings_of_another_tokenizer_are_refused(gpt2, tmp_path):
    settings = SMALL | {"hidden_size": 24, "num_heads": 3, "vocab_size": 300}
    settings |= {"positions": 48, "num_layers": 2}
    start = (*train(GPT, tmp_path / "run", **settings), "--init-from", gpt2.out)
    said = call(*start, "--map", "params/decoder/token_embedding=params/decoder/token_embedding")
    assert "belong to its tokenizer ('bpe', 300 tokens), and this run has another" in said.refusal()
    assert f"name --config.pretrained={gpt2.out}" in said.refusal()
    assert not (tmp_path / "run" / "run.json").exists()
    norm = "params/decoder/final_norm"
    succeed(*start, "--map", f"{norm}={norm}")


def test_weights_without_a_tokenizer_are_no_run(gpt2, tmp_path):
    directory = shutil.copytree(gpt2.theirs, tmp_path / "theirs")
    (directory / "tokenizer.json").unlink()
    said = succeed("import", directory, tmp_path / "out").out
    assert f"{directory} has no tokenizer.json" in said
    assert "holds no run" in call("sample", tmp_path / "out").refusal()
    start = train(GPT, tmp_path / "run", **SMALL | {"pretrained": tmp_path / "out"})
    assert f"{tmp_path / 'out'} holds no tokenizer.json; import a" in call(*start).refusal()
