"""Directories of several models, as diffusers writes them."""

import json

import jax
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.interop import load_pipeline, load_pretrained, scheduler_config
from tests.interop.agreement import CASES, as_torch, make_reference
from tests.parity import require

BY_NAME = {case.name: case for case in CASES}
INDEX = {
    "_class_name": "TextPipeline",
    "_diffusers_version": "0.36.0",
    "language_model": ["transformers", "GPT2LMHeadModel"],
    "requires_safety_checker": True,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "sizes": [64, 64],
    "text_encoder": ["transformers", "BertModel"],
    "tokenizer": ["transformers", "BertTokenizer"],
}


@pytest.fixture(scope="module")
def models():
    """Component to model of transformers."""
    cases = {"text_encoder": "BertModel", "language_model": "GPT2LMHeadModel"}
    return {
        name: make_reference(BY_NAME[case], BY_NAME[case].sizes[0]) for name, case in cases.items()
    }


@pytest.fixture
def directory(models, tmp_path):
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    for name, file in (
        ("scheduler", "scheduler_config.json"),
        ("tokenizer", "tokenizer_config.json"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text('{"num_train_timesteps": 1000}')
    change_index(tmp_path)
    return tmp_path


def change_index(directory, **components):
    (directory / "model_index.json").write_text(json.dumps(INDEX | components))


def test_each_model_agrees_with_transformers(directory, models):
    [torch] = require("torch")
    parts, variables = load_pipeline(directory)
    assert set(parts) - {"scheduler"} == set(variables) == set(models)
    for name, case, output in (
        ("text_encoder", "BertModel", "pooler_output"),
        ("language_model", "GPT2LMHeadModel", "logits"),
    ):
        inputs = BY_NAME[case].inputs(np.random.default_rng(1), models[name].config)
        mask = inputs.pop("attention_mask")
        assert mask.any()
        found = getattr(jax.jit(parts[name].apply)(variables[name], **inputs), output)
        with torch.no_grad():
            expected = getattr(models[name](**as_torch(torch, inputs, models[name])), output)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_the_index_decides_on_the_class(directory):
    """A folder of the whole BERT, of which the pipeline reads a part."""
    case = BY_NAME["BertForPreTraining"]
    make_reference(case, case.sizes[0]).save_pretrained(directory / "captioner")
    change_index(directory, captioner=["transformers", "BertForMaskedLM"])
    with pytest.warns(match="BertForMaskedLM has no"):
        parts, variables = load_pipeline(directory)
    assert type(parts["captioner"]).__name__ == "BertForMaskedLM"
    whole = load_pretrained(directory / "captioner")[1]["params"]
    for part in ("masked_head", "encoder"):
        kept = {k: v for k, v in whole[part].items() if k != "pooler"}
        assert tree.digest(variables["captioner"]["params"][part]) == tree.digest(kept)


def test_the_scheduler_is_a_part_without_variables(directory):
    scheduler = load_pipeline(directory)[0]["scheduler"]
    assert scheduler_config(scheduler) == {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
    }
    assert len(scheduler.times(10)) == 10


@pytest.mark.parametrize(
    ("components", "said"),
    [
        (
            {"text_encoder": ["transformers", "CLIPTextModel"]},
            r"text_encoder is of architecture CLIPTextModel; .* set 'text_encoder' to \[null",
        ),
        (
            {"scheduler": ["diffusers", "MadeUpScheduler"]},
            r"_class_name='MadeUpScheduler'; .* set 'scheduler' to \[null",
        ),
        ({"unet": ["diffusers", "UNet2DModel"]}, r"unet is missing, which model_index.json names"),
        ({"../unet": ["diffusers", "UNet2DModel"]}, r"names \.\./unet, outside the directory"),
    ],
)
def test_what_is_refused(components, said, directory):
    change_index(directory, **components)
    # Before any weights are read.
    (directory / "language_model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(GenaxError, match=said):
        load_pipeline(directory)


def test_each_function_names_the_other(directory):
    with pytest.raises(GenaxError, match=r"holds several models; .* read all with load_pipeline"):
        load_pretrained(directory)
    with pytest.raises(GenaxError, match="load_pretrained reads one of a single model"):
        load_pipeline(directory / "text_encoder")
