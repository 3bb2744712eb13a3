"""Runs that train adapters: small checkpoints, a base that stays, both kinds of export."""

import json

import numpy as np
import pytest

from genax.running.checkpoint import Checkpoints
from tests.cli.command import call, succeed, train
from tests.parity import require

torch, transformers, peft = require("torch", "transformers", "peft")

pytestmark = pytest.mark.long

GPT = "experiments/transformer/gpt.py:stdlib"
CLASSES = "experiments/transformer/bert_fine_tuning.py:smoke-classes"
SMALL = {"hidden_size": 32, "context": 16, "evaluation_windows": 16, "log_every": 1, "keep": 9}
ADAPTED = SMALL | {"steps_per_call": 1, "lora.rank": 2, "lora.targets": "**/qkv,**/expand"}


def kept(arrays, folder):
    return {path: x for path, x in arrays.items() if path.startswith(folder)}


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def newest(workdir):
    checkpoints = Checkpoints(workdir, keep=None)
    return checkpoints.arrays(checkpoints.steps[-1])


def test_a_run_is_adapted_resumed_sampled_scored_and_exported(tmp_path):
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    succeed(*train(GPT, base, steps=1, steps_per_call=1, **SMALL))
    start = ("--init-from", base)
    succeed(*train(GPT, tuned, steps=1, learning_rate=0.1, **ADAPTED), *start)
    succeed(*train(GPT, tuned, steps=2, learning_rate=0.1, **ADAPTED))

    arrays, before = newest(tuned), newest(base)
    for path, array in kept(before, "params/").items():
        np.testing.assert_array_equal(arrays[path], array, err_msg=path)
    counts = succeed("params", GPT, "--json", *train(GPT, tuned, **ADAPTED)[4:]).json
    adapters = 2 * (2 * (32 + 96) + 2 * (32 + 128))
    assert counts["total"] - counts["fixed"]["decoder"] == adapters
    assert size(tuned / "checkpoints" / "2") < size(base / "checkpoints" / "1") / 2

    assert "validation/loss" in succeed("eval", tuned, "--json").json
    assert succeed("sample", tuned, "--num", "1", "--prompt", "def").out.startswith("--- 0\ndef")
    succeed("export", tuned, tmp_path / "merged")
    out = succeed("export", tuned, tmp_path / "adapter", "--adapter").out
    assert out.startswith("adapters of 4 layers of GPT2LMHeadModel of step 2 in ")
    succeed("export", base, tmp_path / "plain")
    tokens = torch.arange(10)[None]
    auto = transformers.AutoModelForCausalLM
    merged = auto.from_pretrained(tmp_path / "merged")(tokens).logits
    plain = auto.from_pretrained(tmp_path / "plain")
    assert (plain(tokens).logits - merged).abs().max() > 1e-3
    model = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    torch.testing.assert_close(model(tokens).logits, merged, rtol=1e-5, atol=1e-5)
    refused = call("export", base, tmp_path / "none", "--adapter")
    assert "this run has no adapters" in refused.refusal()


def test_fine_tuning_takes_the_encoder_and_trains_a_new_head(tmp_path):
    source, tuned = tmp_path / "source", tmp_path / "tuned"
    small = {"log_every": 1, "checkpoint_every": 1, "keep": 9, "examples": 16}
    succeed(*train(CLASSES, source, steps=1, **small))
    settings = small | {"pretrained": source, "lora.rank": 2, "seed": 5}
    succeed(*train(CLASSES, tuned, steps=1, **settings))
    before, after = newest(source), newest(tuned)
    for path, array in kept(before, "params/encoder/").items():
        np.testing.assert_array_equal(after[path], array, err_msg=path)
    path = "params/classifier/projection/kernel"
    assert np.abs(after[path] - before[path]).max() > 0
    succeed("export", tuned, tmp_path / "adapter", "--adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
