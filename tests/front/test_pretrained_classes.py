"""BERT, T5 and ViT as runs start from them: sizes, heads, numbers, and what comes out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genax.core.data import Shard, open_data
from genax.front.experiments import configure, load, reopen
from tests.cli.command import call, metrics, succeed, train
from tests.front import directories
from tests.parity import require

pytestmark = pytest.mark.long

BERT = "experiments/transformer/bert.py:stdlib"
TUNING = "experiments/transformer/bert_fine_tuning.py:smoke-classes"
T5 = "experiments/transformer/t5.py:smoke"
VIT = "experiments/transformer/vit.py:digits"
STEP = {"steps": 1, "steps_per_call": 1, "log_every": 1, "dropout": 0.0, "num_samples": 1}


def first_batch(workdir):
    """The run, and the batch of its first step as tensors."""
    [torch] = require("torch")
    run = reopen(workdir)
    data = open_data(run.experiment.data, run.workdir)
    batch = next(data.train(run.config["batch_size"], run.config["seed"], Shard()))
    return {name: torch.from_numpy(np.asarray(array)) for name, array in batch.items()}


def first_loss(workdir, phase):
    return next(line[f"{phase}/loss"] for line in metrics(workdir) if f"{phase}/loss" in line)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """An encoder alone, as sentence-transformers publish it."""
    folder = tmp_path_factory.mktemp("minilm")
    directories.make_bert(folder / "theirs")
    said = succeed("import", folder / "theirs", folder / "out").out
    assert "genax has no experiment for BertModel" in said
    return folder


def test_an_encoder_alone_is_no_run_and_is_exported(minilm, tmp_path):
    for verb in ("sample", "eval"):
        said = call(verb, minilm / "out").refusal()
        assert "`genax import` for classes that genax has an experiment and a tokenizer for" in said
    succeed("export", minilm / "out", tmp_path / "again")
    names = sorted(path.name for path in (minilm / "theirs").iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names


def test_an_encoder_gets_a_new_head(minilm, tmp_path):
    [transformers] = require("transformers")
    settings = STEP | {"pretrained": minilm / "out", "num_labels": 2}
    succeed(*train(TUNING, tmp_path / "run", **settings))
    config = reopen(tmp_path / "run").config
    assert (config["positions"], config["context"], config["mlp_size"]) == (40, 40, 40)
    assert (config["epsilon"], config["vocab_size"]) == (1e-5, 400)
    succeed("export", tmp_path / "run", tmp_path / "new")
    model, report = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path / "new", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert model.config.num_labels == 2
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert again.cls_token == "[CLS]"
    said = call(*train(TUNING, tmp_path / "other", **settings | {"hidden_size": 48})).refusal()
    assert "config.hidden_size=48 differs from 24 of the weights in" in said


def test_an_encoder_is_pretrained_on_with_new_heads(minilm, tmp_path):
    settings = STEP | {"pretrained": minilm / "out"}
    said = call(*train(BERT, tmp_path / "run", **settings)).refusal()
    assert "nothing under 'params/*_head' to start from; if that is a head, start it anew" in said
    succeed(*train(BERT, tmp_path / "run", **settings | {"new_head": "true"}))
    assert reopen(tmp_path / "run").config["mask_token"] == 4


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForMaskedLM"])
def test_pretraining_goes_on(kind, tmp_path):
    directories.make_bert(tmp_path / "theirs", kind)
    succeed("import", tmp_path / "theirs", tmp_path / "out")
    assert "validation/masked" in succeed("eval", tmp_path / "out", "--json").json
    both = {"next_sentence": str(kind == "BertForPreTraining").lower()}
    settings = STEP | {"pretrained": tmp_path / "out"} | both
    told = succeed(*train(BERT, tmp_path / "run", **settings))
    assert "kept as initialised 0: none" in told.out + told.err
    succeed("export", tmp_path / "run", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["architectures"] == [kind]


def test_a_classifier_samples_and_goes_on_with_its_head(tmp_path):
    _, transformers = require("torch", "transformers")
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    directories.make_bert(tmp_path / "theirs", "BertForSequenceClassification", **labels)
    succeed("import", tmp_path / "theirs", tmp_path / "out")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "theirs")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    text = "def f(self): pass"
    row = tokenizer(text, return_tensors="pt")
    expected = model(input_ids=row.input_ids, attention_mask=row.attention_mask).logits
    told = succeed("sample", tmp_path / "out", "--prompt", text, "--num", 1).out
    assert told.splitlines()[1].startswith(f"> {expected.argmax().item()}")

    settings = STEP | {"pretrained": tmp_path / "out", "new_head": "false"}
    succeed(*train(TUNING, tmp_path / "run", **settings))
    batch = first_batch(tmp_path / "run")
    loss = model(
        input_ids=batch["tokens"].long(),
        attention_mask=batch["real"].long(),
        labels=batch["label"].long(),
    ).loss.item()
    assert first_loss(tmp_path / "run", "bert") == pytest.approx(loss, rel=1e-5)
    succeed("export", tmp_path / "run", tmp_path / "new")
    new = json.loads((tmp_path / "new" / "config.json").read_text())
    assert new["id2label"] == {"0": "bad", "1": "good"}


def test_t5_writes_what_transformers_writes_and_goes_on(tmp_path):
    torch, transformers = require("torch", "transformers")
    directories.make_t5(tmp_path / "theirs")
    succeed("import", tmp_path / "theirs", tmp_path / "out")
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "theirs").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    text = "def _(self): return 1"
    tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    tokens = torch.cat([tokens, torch.ones_like(tokens[:, :1])], dim=1)
    row = model.generate(tokens, max_new_tokens=15, num_beams=1, suppress_tokens=[0])[0]
    settings = ("--config.num_beams=1", "--config.target_context=16")
    told = succeed("sample", tmp_path / "out", "--prompt", text, "--num", 1, *settings).out
    expected = tokenizer.decode(row, skip_special_tokens=True)
    assert told.partition("\n> ")[2].startswith(f"{expected}\n")

    settings = STEP | {"pretrained": tmp_path / "out", "scored": 1}
    succeed(*train(T5, tmp_path / "run", **settings))
    batch = {name: array.long() for name, array in first_batch(tmp_path / "run").items()}
    labels = batch["target"][:, 1:]
    loss = model(
        input_ids=batch["source"],
        attention_mask=(batch["source"] != 0).long(),
        labels=labels.masked_fill(labels == 0, -100),
    ).loss.item()
    assert first_loss(tmp_path / "run", "transformer") == pytest.approx(loss, rel=1e-5)
    succeed("export", tmp_path / "run", tmp_path / "new")
    old, new = (json.loads((tmp_path / at / "config.json").read_text()) for at in ("theirs", "new"))
    names = ("eos_token_id", "pad_token_id", "decoder_start_token_id", "feed_forward_proj")
    assert {name: new[name] for name in names} == {name: old[name] for name in names}
    transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "new").generate(tokens)


def test_vit_keeps_its_head_or_gets_a_new_one(tmp_path):
    _, transformers = require("torch", "transformers")
    directories.make_vit(tmp_path / "theirs")
    succeed("import", tmp_path / "theirs", tmp_path / "out")
    assert "test" in succeed("eval", tmp_path / "out", "--json").json
    settings = STEP | {"pretrained": tmp_path / "out", "new_head": "false"}
    succeed(*train(VIT, tmp_path / "run", **settings))
    batch = first_batch(tmp_path / "run")
    model = transformers.ViTForImageClassification.from_pretrained(tmp_path / "theirs").eval()
    pixels = batch["image"].permute(0, 3, 1, 2)
    loss = model(pixel_values=pixels, labels=batch["label"].long()).loss.item()
    assert first_loss(tmp_path / "run", "classifier") == pytest.approx(loss, rel=1e-5)
    succeed("export", tmp_path / "run", tmp_path / "new")
    found = json.loads((tmp_path / "new" / "config.json").read_text())
    assert found["id2label"]["3"] == "digit 3"

    directories.make_vit(tmp_path / "five", num_labels=5)
    succeed("import", tmp_path / "five", tmp_path / "other")
    fresh = {"pretrained": tmp_path / "other"}
    told = succeed(*train(VIT, tmp_path / "fresh", **STEP | fresh))
    assert "kept as initialised 2: params/classifier/head/bias" in told.out + told.err
    kept = {"pretrained": str(tmp_path / "other"), "new_head": "false"}
    assert configure(load(VIT), kept).num_classes == 5
    said = call(*train(VIT, tmp_path / "bad", **STEP | kept | {"num_classes": 10})).refusal()
    assert "config.num_classes=10 differs from 5 of the weights in" in said
    said = call(*train(VIT, tmp_path / "bad", **STEP | fresh | {"patch_size": 2})).refusal()
    assert "config.patch_size=2 differs from 4 of the weights in" in said


def test_an_agent_takes_its_sizes(tmp_path):
    torch, transformers = require("torch", "transformers")
    torch.manual_seed(0)
    sizes = {"state_dim": 3, "act_dim": 1, "hidden_size": 24, "n_layer": 2, "n_head": 3}
    config = transformers.DecisionTransformerConfig(**sizes, max_ep_len=200, n_positions=64)
    transformers.DecisionTransformerModel(config).save_pretrained(tmp_path / "theirs")
    assert (
        "genax has no experiment for"
        in succeed("import", tmp_path / "theirs", tmp_path / "out").out
    )
    pendulum = load("experiments/transformer/decision_transformer.py:pendulum-smoke")
    found = configure(pendulum, {"pretrained": str(tmp_path / "out")})
    assert (found.num_layers, found.num_heads, found.trunk_tables) == (2, 3, (1, 64))
    experiment = pendulum.build(found)
    assert experiment.pretrained == {str(tmp_path / "out"): {"params/agent": "params/agent"}}


def test_a_translator_goes_on_from_a_trained_one(tmp_path):
    translator = "experiments/transformer/encoder_decoder.py:smoke"
    small = STEP | {"scored": 1, "evaluated": 4}
    succeed(*train(translator, tmp_path / "first", **small | {"hidden_size": 48, "bias": "true"}))
    settings = small | {"pretrained": tmp_path / "first"}
    told = succeed(*train(translator, tmp_path / "next", **settings))
    assert "kept as initialised 0: none" in told.out + told.err
    config = reopen(tmp_path / "next").config
    assert (config["hidden_size"], config["bias"]) == (48, True)
    texts = [(tmp_path / name / "tokenizer.json").read_text() for name in ("first", "next")]
    assert texts[0] == texts[1]
