"""Directories as older programs wrote them: other names of tensors, copies, buffers, settings."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError, tree
from genax.interop import export_pretrained, load_pretrained
from genax.nn.sinusoids import sinusoids
from tests.cli.command import succeed
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(name, size) -> a directory as transformers saves it, not to be touched."""
    folders = {}

    def save(name, size=0):
        if (name, size) not in folders:
            case = BY_NAME[name]
            model = make_reference(case, case.sizes[size])  # skips without PyTorch
            folders[name, size] = tmp_path_factory.mktemp(name)
            model.save_pretrained(folders[name, size])
        return folders[name, size]

    return save


def altered(directory, out, change=None, **fields):
    """A copy with other tensors, change: tensors -> tensors, and other settings; None: without."""
    shutil.copytree(directory, out)
    path = out / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    if change is not None:
        save_file(change(load_file(out / "model.safetensors")), out / "model.safetensors")
    return out


def digest(directory):
    return tree.digest(load_pretrained(directory)[1]["params"])


def rename(*pairs):
    def change(tensors):
        found = {}
        for name, tensor in tensors.items():
            for old, new in pairs:
                name = name.replace(old, new)
            found[name] = tensor
        return found

    return change


def copy(of, name):
    return lambda tensors: tensors | {name: tensors[of]}


def with_masks(tensors):
    """As GPT-2's first files: no prefix, and the mask of each layer."""
    masks = {f"h.{layer}.attn.bias": np.tri(12, dtype=np.float32)[None, None] for layer in (0, 1)}
    return rename(("transformer.", ""))(tensors) | masks


GAMMA = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
CROSS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
OLD = {
    "GPT-2 without prefix": ("GPT2LMHeadModel", 0, with_masks),
    "GPT-2 untied": ("GPT2LMHeadModel", 1, rename(("transformer.", ""))),
    "GPT-2 by its head": ("GPT2LMHeadModel", 0, rename(("transformer.wte", "lm_head"))),
    "GPT-1 without prefix": ("OpenAIGPTLMHeadModel", 0, rename(("transformer.", ""))),
    "BERT's gamma": ("BertForMaskedLM", 0, rename(*GAMMA)),
    "BERT without prefix": ("BertForTokenClassification", 0, rename(("bert.", ""))),
    "BERT with prefix": ("BertModel", 0, lambda t: {f"bert.{name}": t[name] for name in t}),
    "T5's unused distances": (
        "T5ForConditionalGeneration",
        0,
        lambda t: t | {CROSS: np.ones((32, 3), np.float32)},
    ),
    "T5 by its encoder": (
        "T5ForConditionalGeneration",
        0,
        rename(("shared", "encoder.embed_tokens")),
    ),
}


@pytest.mark.parametrize("what", OLD)
def test_names_of_older_files(what, saved, tmp_path):
    name, size, change = OLD[what]
    found = altered(saved(name, size), tmp_path / "old", change)
    assert digest(found) == digest(saved(name, size))


def test_a_tensor_under_both_names(saved, tmp_path):
    wte = "transformer.wte.weight"
    found = altered(saved("GPT2LMHeadModel"), tmp_path / "two", copy(wte, "wte.weight"))
    with pytest.raises(GenaxError, match=r"holds transformer.wte.weight twice"):
        load_pretrained(found)


def test_heads_that_the_class_does_not_have(saved, tmp_path):
    (transformers,) = require("transformers")
    pretrained = load_file(saved("BertForPreTraining") / "model.safetensors")
    found = altered(saved("BertForMaskedLM"), tmp_path / "both", lambda _: pretrained)
    with pytest.warns(match=r"BertForMaskedLM has no .*cls.seq_relationship.weight; left out"):
        _, variables = load_pretrained(found)
    config = json.loads((found / "config.json").read_text())
    export_pretrained(config, variables, tmp_path / "out")
    model = transformers.BertForMaskedLM
    _, report = model.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    surplus = altered(
        saved("BertForSequenceClassification"),
        tmp_path / "surplus",
        copy("classifier.bias", "cls.seq_relationship.bias"),
    )
    with pytest.raises(GenaxError, match=r"has surplus cls.seq_relationship.bias"):
        load_pretrained(surplus)


def test_positions_in_the_file(saved, tmp_path):
    def add(encoder, decoder):
        table = sinusoids(16, 24, halves=True)
        names = [f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")]
        return lambda t: t | {names[0]: encoder * table, names[1]: decoder * table}

    original = saved("MarianMTModel")
    assert digest(altered(original, tmp_path / "right", add(1, 1))) == digest(original)
    with pytest.raises(GenaxError, match=r"decoder.embed_positions.weight differs"):
        load_pretrained(altered(original, tmp_path / "wrong", add(1, 2)))


def test_t5_with_a_head_of_its_own(saved, tmp_path):
    """T5 1.1, as newer versions save it: "tied", but with a head and unscaled."""
    torch, transformers = require("torch", "transformers")
    head = np.random.default_rng(0).normal(size=(41, 20)).astype(np.float32)
    original = saved("T5ForConditionalGeneration", 1)
    older = altered(
        original,
        tmp_path / "older",
        lambda t: t | {"lm_head.weight": head},
        tie_word_embeddings=False,
        scale_decoder_outputs=None,
    )
    model = transformers.T5ForConditionalGeneration.from_pretrained(older).eval()
    model.save_pretrained(tmp_path / "newer")
    tokens = np.random.default_rng(1).integers(2, 41, (2, 5))
    expected = model(torch.from_numpy(tokens), decoder_input_ids=torch.from_numpy(tokens))
    expected = expected.logits.detach().numpy()
    for folder in (older, tmp_path / "newer"):
        module, variables = load_pretrained(folder)
        found = jax.jit(module.apply)(variables, tokens, decoder_input_ids=tokens).logits
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_t5_has_no_last_position(saved, tmp_path):
    found = altered(saved("T5ForConditionalGeneration"), tmp_path / "old", n_positions=3)
    module, variables = load_pretrained(found)
    tokens = jnp.ones((1, 5), jnp.int32)
    assert jax.jit(module.apply)(variables, tokens, decoder_input_ids=tokens).logits.shape[1] == 5


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("BertModel", {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first"}),
        ("BertForMaskedLM", {"language": "english", "name": "Bert", "finetuning_task": "x"}),
        ("BertForTokenClassification", {"_num_labels": 9, "torch_dtype": "float16"}),
        ("GPT2LMHeadModel", {"n_ctx": 12, "_num_labels": 1, "repetition_penalty": 1.2}),
        ("MarianMTModel", {"_num_labels": 3, "classif_dropout": 0.0, "num_hidden_layers": 2}),
        ("LlamaForCausalLM", {"max_sequence_length": 2048, "pretraining_tp": 2}),
    ],
)
def test_settings_of_older_files(name, fields, saved, tmp_path):
    assert digest(altered(saved(name), tmp_path / "old", **fields)) == digest(saved(name))


def test_files_of_tokenizers_are_kept(saved, tmp_path):
    found = altered(saved("T5ForConditionalGeneration"), tmp_path / "x")
    for name in ("spiece.model", "added_tokens.json"):
        (found / name).write_text("{}")
    succeed("import", found, tmp_path / "run")
    succeed("export", tmp_path / "run", tmp_path / "out")
    assert {"spiece.model", "added_tokens.json"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_number_of_labels(saved, tmp_path):
    original = saved("BertForSequenceClassification", 1)
    none = {"id2label": None, "label2id": None}
    assert digest(altered(original, tmp_path / "old", num_labels=5, **none)) == digest(original)
    with pytest.raises(GenaxError, match=r"classifier.weight has shape"):
        load_pretrained(altered(original, tmp_path / "two", **none))


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
NEW = {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 500.0},
        {"rope_scaling": LLAMA3 | {"rope_theta": 300.0}},
        {"rope_scaling": LLAMA3 | {"rope_theta": 300.0}, "rope_theta": 500.0},
        {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 16}, "rope_theta": 500.0},
        {"rope_scaling": LLAMA3, "rope_theta": 500.0} | NEW,
        {"rope_theta": 500.0} | NEW,
    ],
)
def test_rotary_settings(fields, saved, tmp_path):
    (transformers,) = require("transformers")
    found = altered(saved("LlamaForCausalLM"), tmp_path / "x", **{"rope_parameters": None} | fields)
    theirs = transformers.LlamaConfig.from_pretrained(found).rope_parameters
    decoder = load_pretrained(found)[0].decoder
    assert decoder.theta == theirs["rope_theta"]
    assert (decoder.scaling is not None) == (theirs["rope_type"] == "llama3")
    if decoder.scaling is not None:
        assert decoder.scaling.original_context == theirs["original_max_position_embeddings"]
