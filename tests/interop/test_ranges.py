"""Every number of every family's config.json: out of its range it is refused, in it it agrees."""

import json
from collections.abc import Mapping

import jax
import numpy as np
import pytest

from genax.core import GenaxError
from genax.interop import load_pretrained
from genax.interop.configuration import Configuration
from tests.interop.agreement import CASES, as_torch, make_reference, outputs_of, real
from tests.parity import require

WRONG_SIZES = (0, -1, 1.5, 1e20, float("nan"), "", 10**20)
# One class of each family, and which of its configurations; LLaMA's last one stretches frequencies.
FAMILIES = {
    "BertForSequenceClassification": 0,
    "OpenAIGPTLMHeadModel": 0,
    "GPT2LMHeadModel": 1,
    "LlamaForCausalLM": 2,
    "MambaForCausalLM": 1,
    "Mamba2ForCausalLM": 1,
    "MarianMTModel": 2,
    "T5ForConditionalGeneration": 2,
    "ViTForImageClassification": 1,
    "DecisionTransformerModel": 2,
    "VisionTextDualEncoderModel": 0,
    "DiTTransformer2DModel": 1,
    "UNet2DModel": 0,
    "UNet2DConditionModel": 0,
    "AutoencoderKL": 1,
    "VQModel": 2,
}
# Numbers besides those of special tokens that may be zero.
FROM_ZERO = ("freq_shift", "downsample_padding")
# Marian's decoder may have the vocabulary of its encoder only.
REPEATED = {"decoder_vocab_size"}
# Numbers that may be negative.
SIGNED = {"shift_factor"}


class Directory:
    """A family's small model, whose settings can be changed."""

    def __init__(self, name, folder):
        self.case = next(case for case in CASES if case.name == name)
        self.reference = make_reference(self.case, self.case.sizes[FAMILIES[name]])
        self.folder = folder
        self.reference.save_pretrained(folder)
        self.config = json.loads((folder / "config.json").read_text())

    def change(self, **fields):
        """Write the settings with these fields, also those inside of others.

        A field that is nowhere is written outside of all others.
        """
        new = dict(fields)

        def merge(settings):
            for name in settings:
                new.pop(name, None)
            kept = {name: fields.get(name, value) for name, value in settings.items()}
            return {
                name: merge(value) if isinstance(value, Mapping) else value
                for name, value in kept.items()
            }

        config = merge(self.config) | new
        (self.folder / "config.json").write_text(json.dumps(config))

    def refuses(self, field, value):
        """Whether loading refuses a field of this value, in a sentence that names it."""
        self.change(**{field: value})
        said = None
        try:
            load_pretrained(self.folder)
        except GenaxError as error:
            said = str(error)
        assert said is None or f"{field}={value!r}" in said
        return said is not None

    def check_agreement(self):
        """The outputs of the directory as it is are those of transformers."""
        [torch] = require("torch")
        inputs = self.case.inputs(np.random.default_rng(1), self.reference.config)
        module, variables = load_pretrained(self.folder)
        found = jax.jit(module.apply)(variables, **inputs)
        model = type(self.reference).from_pretrained(self.folder).eval()
        with torch.no_grad():
            expected = model(**as_torch(torch, inputs, model))
        pairs = zip(outputs_of(found, self.case), outputs_of(expected, self.case), strict=True)
        for ours, theirs in pairs:
            ours, theirs = real(ours, inputs), real(theirs, inputs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)

    def numbers(self):
        """Names of the settings that are numbers."""
        inner = [value for value in self.config.values() if isinstance(value, Mapping)]
        pairs = [pair for part in (self.config, *inner) for pair in part.items()]
        return {name for name, value in pairs if type(value) in (int, float)}


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request, tmp_path_factory):
    return Directory(request.param, tmp_path_factory.mktemp(request.param))


def read_as(kind, directory, monkeypatch):
    """The fields that are read as numbers of a kind: "optional" of `Configuration`, or "real"."""
    read, original = set(), getattr(Configuration, kind)

    def record(self, name, *args, **settings):
        read.add(name)
        return original(self, name, *args, **settings)

    directory.change()
    with monkeypatch.context() as patched:
        patched.setattr(Configuration, kind, record)
        load_pretrained(directory.folder)
    return read


def test_sizes_are_refused(directory, monkeypatch):
    for field in read_as("optional", directory, monkeypatch):
        kept = [value for value in WRONG_SIZES if not directory.refuses(field, value)]
        assert kept == ([0] if field.endswith("token_id") or field in FROM_ZERO else []), field


@pytest.mark.long
def test_other_numbers_are_refused_or_agree(directory, monkeypatch):
    fields = read_as("real", directory, monkeypatch)
    assert fields
    for field in fields:
        for value in (-1.0, float("nan"), "", 1e39):
            expected = value != -1.0 or field not in SIGNED
            assert directory.refuses(field, value) == expected, (field, value)
        for value in (0.0, 1.5, 1e20):
            if not directory.refuses(field, value) and "drop" not in field:
                directory.check_agreement()


@pytest.mark.long
def test_no_number_is_read_without_a_range(directory, monkeypatch):
    kinds = ("optional", "real")
    ranged = {name for kind in kinds for name in read_as(kind, directory, monkeypatch)}
    others = directory.numbers() - ranged
    module, _ = load_pretrained(directory.folder)
    for value in (-1, float("nan"), ""):
        directory.change(**dict.fromkeys(others - REPEATED, value))
        assert load_pretrained(directory.folder)[0] == module
        for field in others & REPEATED:
            assert directory.refuses(field, value), field
