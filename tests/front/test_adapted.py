"""Imported weights, tuned by adapters: PEFT on the directory that came in does the same."""

from __future__ import annotations

import pytest

from tests.cli.command import succeed, train
from tests.front import directories
from tests.parity import require

torch, transformers, peft = require("torch", "transformers", "peft")

pytestmark = pytest.mark.long

SMALL = {
    "context": 16,
    "batch_size": 4,
    "steps": 3,
    "steps_per_call": 1,
    "log_every": 1,
    "evaluation_windows": 8,
    "num_samples": 1,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "lora.rank": 2,
}
CASES = {
    "gpt": (directories.make_gpt2, "**/qkv,**/feed_forward"),
    "llama": (directories.make_llama, "**/query,**/value"),
}


@pytest.mark.parametrize("name", CASES)
def test_peft_on_what_came_in_is_the_merged_export(name, tmp_path):
    make, targets = CASES[name]
    theirs, out, run = make(tmp_path / "theirs"), tmp_path / "out", tmp_path / "run"
    succeed("import", theirs, out)
    settings = SMALL | {"pretrained": out, "lora.targets": targets}
    succeed(*train(f"experiments/transformer/{name}.py:stdlib", run, **settings))
    assert succeed("sample", run, "--num", "1", "--prompt", "import os").out
    succeed("export", run, tmp_path / "merged")
    succeed("export", run, tmp_path / "adapter", "--adapter")
    auto, tokens = transformers.AutoModelForCausalLM, torch.arange(10)[None]
    base = auto.from_pretrained(theirs).eval()
    plain = base(tokens).logits
    merged = auto.from_pretrained(tmp_path / "merged").eval()(tokens).logits
    assert (plain - merged).abs().max() > 1e-3
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(model(tokens).logits, merged, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        model.merge_and_unload()(tokens).logits, merged, rtol=1e-5, atol=1e-5
    )
