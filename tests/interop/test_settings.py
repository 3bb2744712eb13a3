"""Settings, files and inputs that change the result agree with transformers, or are refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError
from genax.interop import export_pretrained, load_pretrained
from genax.interop.export import to_pretrained
from genax.interop.outputs import classification_loss, label_loss, span_loss
from genax.nn.gelu import gelu
from genax.transformer import networks
from genax.transformer.gpt import GPT
from genax.transformer.t5 import T5
from genax.transformer.tasks import translation
from genax.transformer.token_range import check_range
from tests.interop.agreement import CASES, as_torch, errors, make_reference
from tests.parity import require

BY_NAME = {case.name: case for case in CASES}
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> a directory as transformers saves it, not to be touched."""
    folders = {}

    def save(name):
        if name not in folders:
            case = BY_NAME[name]
            model = make_reference(case, case.sizes[0])  # skips without PyTorch
            folders[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(folders[name])
        return folders[name]

    return save


def altered(directory, out, **fields):
    """A copy with other settings; None: without."""
    shutil.copytree(directory, out)
    path = out / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return out


def test_epsilon_of_the_decision_transformer():
    """That of the norm after the embeddings is its own."""
    case = BY_NAME["DecisionTransformerModel"]
    found = errors(case, case.sizes[0] | {"layer_norm_epsilon": 1e-2})
    assert found["outputs"] < 1e-5
    assert found["gradients"] < 1e-4


@pytest.mark.parametrize("sides", [[12, 12], [12, 8]])
def test_images_of_two_sides(sides, saved, tmp_path):
    found = altered(saved("ViTForImageClassification"), tmp_path / "x", image_size=sides)
    if sides[0] == sides[1]:
        assert load_pretrained(found)[0].classifier.image_size == sides[0]
    else:
        with pytest.raises(GenaxError, match=r"image_size=\[12, 8\]"):
            load_pretrained(found)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE = {"rope_parameters": None}
REFUSED = [
    ("MarianMTModel", {"scale_embedding": None}, "scale_embedding=False; True alone"),
    ("BertForSequenceClassification", {"problem_type": "ranking"}, "problem_type='ranking'"),
    ("GPT2LMHeadModel", {"model_type": "bert"}, "model_type='bert', but 'gpt2' alone"),
    ("GPT2LMHeadModel", {"architectures": [["x"]]}, "the supported ones are"),
    ("GPT2LMHeadModel", {"auto_map": {"AutoModel": "x.Y"}}, "not supported .* auto_map"),
    ("GPT2LMHeadModel", {"quantization_config": {"bits": 4}}, "not supported .* quantization"),
    ("GPT2LMHeadModel", {"n_embd": "24"}, "n_embd='24'; it is a whole number from 1"),
    ("GPT2LMHeadModel", {"n_head": 0}, "n_head=0; it is a whole number from 1"),
    ("GPT2LMHeadModel", {"n_inner": 0}, "n_inner=0; it is a whole number from 1"),
    ("GPT2LMHeadModel", {"tie_word_embeddings": "no"}, "'no', where one like True"),
    (
        "GPT2LMHeadModel",
        {"layer_norm_epsilon": "0"},
        "layer_norm_epsilon='0'; it is a number from 0 to 1",
    ),
    ("GPT2LMHeadModel", {"activation_function": ["gelu"]}, "where one like 'gelu_new'"),
    ("GPT2LMHeadModel", {"n_positions": 10**12}, "n_positions=1000000000000; it is a whole number"),
    ("BertForMaskedLM", {"layer_norm_eps": -1}, "layer_norm_eps=-1; it is a number from 0 to 1"),
    ("BertForMaskedLM", {"layer_norm_eps": float("nan")}, "layer_norm_eps=nan; it is a number"),
    ("BertForMaskedLM", {"architectures": []}, 'add a field "architectures"'),
    (
        "T5ForConditionalGeneration",
        {"relative_attention_max_distance": 8, "relative_attention_num_buckets": 32},
        "relative_attention_max_distance=8; it is a whole number from 17",
    ),
    (
        "LlamaForCausalLM",
        {"head_dim": 9},
        "config.json makes no model: LLaMA: 6 heads of 9 at width 24 are odd",
    ),
    (
        "LlamaForCausalLM",
        {"hidden_size": 27, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None},
        "3 heads of 9 at width 27 are odd",
    ),
    ("LlamaForCausalLM", {"rope_theta": 0} | ROPE, "rope_theta=0; it is a number from 1 to 1e"),
    ("LlamaForCausalLM", {"rope_theta": -1} | ROPE, "rope_theta=-1; it is a number from 1 to 1e"),
    (
        "LlamaForCausalLM",
        {"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0, "high_freq_factor": 1.0}},
        "high_freq_factor=1.0; it is a number above 4",
    ),
    ("LlamaForCausalLM", {"rope_scaling": LLAMA3 | {"factor": 0}}, "factor=0; it is a number from"),
    ("LlamaForCausalLM", {"rope_scaling": "linear"}, "where one like {} is expected"),
    ("LlamaForCausalLM", {"rope_scaling": {"type": "yarn"}}, "rotary scaling 'yarn'"),
    (
        "LlamaForCausalLM",
        {"rope_scaling": LLAMA3 | {"factor": None}},
        "'llama3', has no field 'factor'",
    ),
    (
        "LlamaForCausalLM",
        {"rope_scaling": LLAMA3 | {"partial_rotary_factor": 0.5}},
        "rotary settings partial_rotary_factor",
    ),
    (
        "LlamaForCausalLM",
        {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}},
        "rotary settings full_attention",
    ),
]


@pytest.mark.parametrize(("name", "fields", "said"), REFUSED)
def test_what_is_refused(name, fields, said, saved, tmp_path):
    found = altered(saved(name), tmp_path / "x", **fields)
    with pytest.raises(GenaxError, match=said):
        load_pretrained(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda first, second, index: second.update({"wpe": first["wpe"]}), "holds .*wpe.* twice"),
        (lambda first, second, index: second.update({"x": np.ones(2)}), "has surplus x"),
        (lambda first, second, index: index.update(weight_map=[]), "has no weight_map"),
        (lambda first, second, index: index["weight_map"].update(wpe=".."), "outside the dir"),
        (lambda first, second, index: index["weight_map"].update(wpe=5), "5 is missing"),
        (lambda first, second, index: index["weight_map"].update(wpe="b"), "b lacks .*wpe"),
    ],
)
def test_shards_that_do_not_fit(change, said, saved, tmp_path):
    """wpe stands for that tensor's name."""
    found = altered(saved("GPT2LMHeadModel"), tmp_path / "x")
    path, wpe = found / "model.safetensors", "transformer.wpe.weight"
    second = load_file(path)
    path.unlink()
    first = {"wpe": second.pop(wpe)}
    index = {"weight_map": {"wpe": "a"} | dict.fromkeys(second, "b")}
    change(first, second, index)
    for tensors, name in ((first, "a"), (second, "b")):
        save_file({wpe if key == "wpe" else key: x for key, x in tensors.items()}, found / name)
    (found / INDEX).write_text(json.dumps(index).replace('"wpe"', f'"{wpe}"'))
    with pytest.raises(GenaxError, match=said):
        load_pretrained(found)


def test_two_sets_of_weights(saved, tmp_path):
    found = altered(saved("GPT2LMHeadModel"), tmp_path / "x")
    names = load_file(found / "model.safetensors")
    shutil.copy(found / "model.safetensors", found / "a")
    (found / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, "a")}))
    with pytest.raises(GenaxError, match="holds both"):
        load_pretrained(found)


@pytest.mark.parametrize("kind", ["int32", "float8_e4m3fn"])
def test_numbers_of_other_types(kind, saved, tmp_path):
    (torch,) = require("torch")
    from safetensors import torch as files

    found = altered(saved("GPT2LMHeadModel"), tmp_path / "x")
    path, name = found / "model.safetensors", "transformer.ln_f.weight"
    tensors = files.load_file(path)
    files.save_file(tensors | {name: tensors[name].to(getattr(torch, kind))}, path)
    with pytest.raises(GenaxError, match=rf"{name} is of type .*, none of F32, F16, BF16"):
        load_pretrained(found)


@pytest.mark.long
def test_the_loss_of_two_towers(saved):
    torch, transformers = require("torch", "transformers")
    case = BY_NAME["VisionTextDualEncoderModel"]
    folder = saved(case.name)
    module, variables = load_pretrained(folder)
    model = transformers.VisionTextDualEncoderModel.from_pretrained(folder).eval()
    inputs = case.inputs(np.random.default_rng(1), model.config)
    arrays = jax.tree.map(jnp.asarray, inputs)
    found = module.apply(variables, **arrays, return_loss=True).loss
    expected = model(**as_torch(torch, inputs, model), return_loss=True).loss
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-5)


def test_labels_that_are_no_class():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    for wrong in (4, -1):
        labels = jnp.array([0, wrong, -100])
        with pytest.raises(GenaxError, match=rf"labels {wrong} at \[1\] is not in \[0, 4\)"):
            label_loss(logits, labels)
        assert np.isnan(jax.jit(label_loss)(logits, labels))


def test_labels_in_a_column():
    """One for each example, as a list or as a column."""
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    labels = jnp.array([0, 3, 2])
    for loss in (
        lambda labels: classification_loss(logits, labels, None),
        lambda labels: span_loss(logits, labels),
    ):
        assert loss(labels[:, None]) == loss(labels)


def test_numbers_that_no_table_has(saved):
    assert (check_range("x", jnp.array([0, 4]), 5) == jnp.array([0, 4])).all()
    for name, more in (
        ("BertForMaskedLM", {"token_type_ids": jnp.array([[0, -1]])}),
        ("GPT2LMHeadModel", {"position_ids": jnp.array([[0, 12]])}),
    ):
        module, variables = load_pretrained(saved(name))
        tokens = jnp.array([[2, 3]])
        with pytest.raises(GenaxError, match=next(iter(more))):
            module.apply(variables, tokens, **more)
        found = jax.jit(module.apply)(variables, tokens, **more)
        assert np.isnan(found.logits[0, 1]).all()


def exported(nets, visit, out):
    params = nn.init(visit, nets)(jax.random.key(0))["params"]
    config, variables = to_pretrained(nets, {"params": params})
    export_pretrained(config, variables, out)
    return variables


SIZES = {"vocab_size": 30, "context": 8, "hidden_size": 16, "num_layers": 1, "num_heads": 2}


@pytest.mark.long
def test_an_untied_scaled_t5_is_exported(tmp_path):
    torch, transformers = require("torch", "transformers")
    net = T5(**SIZES, tied_head=False)
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 30, (2, 4)))

    def run(nets):
        return nets.transformer(tokens, memory=nets.transformer.encode(tokens))

    variables = exported(translation.Networks(net), run, tmp_path / "out")
    expected = nn.apply(run, translation.Networks(net))(variables)
    module, variables = load_pretrained(tmp_path / "out")
    found = jax.jit(module.apply)(variables, tokens, decoder_input_ids=tokens).logits
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    given = torch.from_numpy(np.array(tokens)).long()
    theirs = model(given, decoder_input_ids=given).logits.detach().numpy()
    np.testing.assert_allclose(theirs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "nets",
    [
        networks.Networks(GPT(**SIZES, activation=nn.elu)),
        networks.Networks(GPT(**SIZES, post_norm=True, activation=gelu)),
        translation.Networks(T5(**SIZES, gated=True, activation=gelu)),
    ],
)
def test_activations_that_cannot_be_exported(nets):
    with pytest.raises(GenaxError, match="cannot be exported"):
        to_pretrained(nets, {})
