"""Directories: round trips to the bit, transformers reads them, and what is wrong is said."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError, tree
from genax.interop import export_pretrained, load_pretrained
from genax.interop.export import to_pretrained
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead
from genax.transformer.networks import Networks
from genax.transformer.t5 import T5
from genax.transformer.tasks import bert_pretraining, classification, fine_tuning, translation
from genax.transformer.vit import ViT
from tests.cli.command import call, succeed, train
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
GPT2 = next(case for case in CASES if case.name == "GPT2LMHeadModel")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A GPT-2 as transformers saves it, not to be touched."""
    folder = tmp_path_factory.mktemp("gpt2")
    make_reference(GPT2, GPT2.sizes[0]).save_pretrained(folder)
    return folder


@pytest.fixture
def directory(saved, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(saved, tmp_path / "directory")


def digest(variables):
    return tree.digest(variables["params"])


@each_case
def test_round_trip(case, tmp_path):
    [torch] = require("torch")
    model = make_reference(case, case.sizes[1])
    model.save_pretrained(tmp_path / "theirs")
    first = load_pretrained(tmp_path / "theirs")[1]
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    export_pretrained(config, first, tmp_path / "ours")
    assert digest(load_pretrained(tmp_path / "ours")[1]) == digest(first)
    again, report = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["unexpected_keys"]
    for (name, old), (_, new) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert torch.equal(old, new), name


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype, tmp_path):
    [torch] = require("torch")
    model = make_reference(GPT2, GPT2.sizes[0]).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    _, variables = load_pretrained(tmp_path)
    table = variables["params"]["decoder"]["token_embedding"]["embedding"]
    assert table.dtype == np.float32
    expected = model.transformer.wte.weight.detach().float().numpy()
    np.testing.assert_array_equal(table, expected)


def test_shards(saved, tmp_path):
    require("torch")
    make_reference(GPT2, GPT2.sizes[0]).save_pretrained(tmp_path, max_shard_size="10KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert digest(load_pretrained(tmp_path)[1]) == digest(load_pretrained(saved)[1])
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(GenaxError, match="model-00002"):
        load_pretrained(tmp_path)


def change_config(directory, **fields):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(directory, change):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architectures": ["GPTJForCausalLM"]}, "of architecture GPTJForCausalLM; the supported"),
        ({"architectures": None}, 'add a field "architectures" .* among BertModel'),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn=True, but"),
        ({"activation_function": "mish"}, "activation_function='mish'; the known ones are gelu"),
        ({"sliding_window": 4}, "not supported and may change the result: sliding_window=4"),
        ({"n_embd": None}, "has no field 'n_embd'"),
        ({"n_embd": 48}, "tensor transformer.wte.weight has shape"),
        ({"n_layer": 3}, "lacks transformer.h.2.attn.c_attn.bias"),
        ({"n_layer": 1}, "has surplus transformer.h.1.attn.c_attn.bias"),
    ],
)
def test_settings_that_do_not_fit(fields, said, directory):
    change_config(directory, **fields)
    with pytest.raises(GenaxError, match=said):
        load_pretrained(directory)


def test_tensors_that_are_missing_or_surplus(directory):
    def change(tensors):
        tensors["transformer.extra.weight"] = tensors.pop("transformer.ln_f.weight")

    change_tensors(directory, change)
    said = r"lacks transformer.ln_f.weight; it has surplus transformer.extra.weight"
    with pytest.raises(GenaxError, match=said):
        load_pretrained(directory)


def test_a_copy_of_a_tied_table(directory):
    change_tensors(directory, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"]}))
    load_pretrained(directory)
    change_tensors(directory, lambda t: t.update({"lm_head.weight": t["lm_head.weight"] + 1}))
    with pytest.raises(GenaxError, match=r"lm_head.weight should repeat transformer.wte.weight"):
        load_pretrained(directory)


def test_damaged_files(directory, tmp_path):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GenaxError, match="damaged or cut short"):
        load_pretrained(directory)
    path.rename(directory / "pytorch_model.bin")
    with pytest.raises(GenaxError, match="other formats are not read"):
        load_pretrained(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(GenaxError, match="not readable as JSON"):
        load_pretrained(directory)
    with pytest.raises(GenaxError, match=r"config.json is missing"):
        load_pretrained(tmp_path / "nowhere")


def test_an_index_that_leaves_the_directory(directory):
    index = {"weight_map": {"transformer.wte.weight": "../other.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(GenaxError, match="outside the directory"):
        load_pretrained(directory)


def test_import_and_export(saved, tmp_path):
    out = succeed("import", saved, tmp_path / "run").out
    assert out.startswith("GPT2LMHeadModel of ")
    succeed("export", tmp_path / "run", tmp_path / "again")
    assert digest(load_pretrained(tmp_path / "again")[1]) == digest(load_pretrained(saved)[1])
    assert "is not an empty folder" in call("import", saved, tmp_path / "run").refusal()
    assert "is not empty" in call("export", tmp_path / "run", tmp_path / "again").refusal()
    assert "holds no run" in call("export", tmp_path, tmp_path / "new").refusal()
    config = tmp_path / "run" / "hugging_face" / "config.json"
    for content, said in (("[]", "no JSON object"), ("{", "JSON"), ("{}", "architecture")):
        config.write_text(content)
        assert said in call("export", tmp_path / "run", tmp_path / "new").refusal()
        assert not (tmp_path / "new").exists()
    gpt = "experiments/transformer/gpt.py:stdlib"
    assert "no run to go on with" in call(*train(gpt, tmp_path / "run", num_layers=1)).refusal()


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"scan_layers": "true"}, {"bias": "true"}])
def test_a_trained_gpt_is_exported(settings, tmp_path):
    torch, transformers = require("torch", "transformers")
    small = {"hidden_size": 16, "num_layers": 2, "context": 16, "evaluation_windows": 8}
    small |= {"bias": "false", "steps": 2, "steps_per_call": 1, "num_samples": 1, "batch_size": 4}
    succeed(*train("experiments/transformer/gpt.py:stdlib", tmp_path / "run", **small | settings))
    succeed("export", tmp_path / "run", tmp_path / "out")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out").eval()
    tokens = np.random.default_rng(0).integers(0, 256, (2, 16))
    module, variables = load_pretrained(tmp_path / "out")
    ours = jax.jit(module.apply)(variables, jax.numpy.asarray(tokens)).logits
    theirs = model(torch.from_numpy(tokens)).logits.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


SCALED = GPT2.sizes[-1]
MARIAN = next(case for case in CASES if case.name == "MarianMTModel")


@pytest.mark.parametrize(("case", "size"), [(GPT2, SCALED), (MARIAN, MARIAN.sizes[-1])])
def test_the_same_bytes_come_out(case, size, tmp_path):
    require("torch")
    make_reference(case, size).save_pretrained(tmp_path / "theirs")
    succeed("import", tmp_path / "theirs", tmp_path / "run")
    succeed("export", tmp_path / "run", tmp_path / "ours")
    found, expected = (
        load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs")
    )
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    configs = [(tmp_path / side / "config.json").read_text() for side in ("ours", "theirs")]
    assert configs[0] == configs[1]


@pytest.mark.long
def test_a_scanned_gpt_that_scales_by_layer(tmp_path):
    """Its logits are those of the directory that it came from, and so are its bytes."""
    make_reference(GPT2, SCALED).save_pretrained(tmp_path / "theirs")
    module, variables = load_pretrained(tmp_path / "theirs")
    decoder, params = module.decoder, variables["params"]["decoder"]
    layers = [params[f"blocks_{number}"] for number in range(decoder.num_layers)]
    scanned = {name: leaf for name, leaf in params.items() if not name.startswith("blocks_")}
    scanned |= {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)}
    networks = Networks(decoder.clone(scan_layers=True))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 41, (2, 12)))
    found = jax.jit(networks.decoder.apply)({"params": scanned}, tokens)
    expected = jax.jit(module.apply)(variables, tokens).logits
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    plain = decoder.clone(inverse_layer_scaling=False).apply({"params": params}, tokens)
    assert not np.allclose(plain, expected, atol=1e-3)

    config, exported = to_pretrained(networks, {"params": {"decoder": scanned}})
    assert config["scale_attn_by_inverse_layer_idx"] is True
    export_pretrained(config, exported, tmp_path / "ours")
    assert digest(load_pretrained(tmp_path / "ours")[1]) == digest(variables)
    assert load_pretrained(tmp_path / "ours")[0] == module


BERT_SIZES = {"vocab_size": 30, "context": 8, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
TRAINED = {
    "BertForPreTraining": bert_pretraining.Networks(
        BERT(**BERT_SIZES, scan_layers=True), MaskedLMHead(), LinearHead(2)
    ),
    "BertForMaskedLM": bert_pretraining.Networks(
        BERT(**BERT_SIZES, with_pooler=False), MaskedLMHead(), None
    ),
    "BertForSequenceClassification": fine_tuning.Networks(BERT(**BERT_SIZES), LinearHead(3)),
    "BertForSequenceClassification, regression": fine_tuning.RegressionNetworks(
        BERT(**BERT_SIZES), LinearHead(1)
    ),
    "BertForTokenClassification": fine_tuning.Networks(
        BERT(**BERT_SIZES, with_pooler=False), LinearHead(2)
    ),
    "BertForQuestionAnswering": fine_tuning.SpanNetworks(
        BERT(**BERT_SIZES, with_pooler=False), LinearHead(2)
    ),
    "ViTForImageClassification": classification.Networks(ViT(8, 4, 16, 2, 2, 5, scan_layers=True)),
    "T5ForConditionalGeneration": translation.Networks(
        T5(30, 8, 16, 2, 2, 32, use_bias=False, scan_layers=True, head_dim=6)
    ),
}


def visit(nets):
    """Call every network once."""
    tokens = jnp.zeros((1, 4), jnp.int32)
    if hasattr(nets, "transformer"):
        return nets.transformer(tokens, memory=nets.transformer.encode(tokens))
    if not hasattr(nets, "encoder"):
        return nets.classifier(jnp.zeros((1, 8, 8, 1)))
    hidden, encoder = nets.encoder(tokens), nets.encoder
    hidden = encoder.pool(hidden) if encoder.with_pooler else hidden
    if hasattr(nets, "masked_head"):
        nets.masked_head(hidden, encoder.token_embedding.embedding)
    head = nets.next_sentence_head if hasattr(nets, "masked_head") else nets.classifier
    return hidden if head is None else head(hidden)


@pytest.mark.long
@pytest.mark.parametrize("case", TRAINED)
def test_trained_networks_are_exported(case, tmp_path):
    (transformers,) = require("transformers")
    networks, (name, _, problem) = TRAINED[case], case.partition(", ")
    params = jax.jit(nn.init(visit, networks))(jax.random.key(0))["params"]
    config, exported = to_pretrained(networks, {"params": params})
    assert config["architectures"] == [name]
    export_pretrained(config, exported, tmp_path / "out")
    module, variables = load_pretrained(tmp_path / "out")
    assert type(module).__name__ == name
    assert digest(variables) == digest(exported)
    model, report = getattr(transformers, name).from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert getattr(module, "problem_type", None) == model.config.problem_type == (problem or None)
