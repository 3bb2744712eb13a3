"""The published sizes: parameter counts, exactly."""

import pytest

from genax.transformer.bert import BERT_PRESETS
from genax.transformer.decision_transformer import DECISION_TRANSFORMER_PRESETS
from genax.transformer.encoder_decoder import ENCODER_DECODER_PRESETS
from genax.transformer.gpt import GPT_PRESETS
from genax.transformer.llama import LLAMA_PRESETS
from genax.transformer.t5 import T5_PRESETS
from genax.transformer.vit import VIT_PRESETS
from tests.cli.command import succeed

FILES = {
    "decision_transformer": DECISION_TRANSFORMER_PRESETS,
    "encoder_decoder": ENCODER_DECODER_PRESETS,
    "gpt": GPT_PRESETS,
    "llama": LLAMA_PRESETS,
    "t5": T5_PRESETS,
    "vit": VIT_PRESETS,
}
SIZES = [
    pytest.param(f"experiments/transformer/{file}.py:{name}", preset.params, id=f"{file}-{name}")
    for file, presets in FILES.items()
    for name, preset in presets.items()
]

SIZES += [
    pytest.param(f"experiments/transformer/bert.py:{name}", preset.pretraining, id=f"bert-{name}")
    for name, preset in BERT_PRESETS.items()
]
# The heads of Devlin et al. 2018, with two classes, nine labels of words, and two ends of a span.
HEADS = {
    "base-classes": 109_483_778,
    "base-regression": 109_483_009,
    "base-entities": 108_898_569,
    "base-answers": 108_893_186,
    "large-classes": 335_143_938,
    "large-regression": 335_142_913,
    "large-entities": 334_101_513,
    "large-answers": 334_094_338,
}
SIZES += [
    pytest.param(f"experiments/transformer/bert_fine_tuning.py:{name}", count, id=name)
    for name, count in HEADS.items()
]
# With biases in attention; without next sentences, and so without a pooler.
SETTINGS = [
    ("encoder_decoder.py:base", "bias=true", 63_082_496),
    ("encoder_decoder.py:big", "bias=true", 214_245_376),
    ("bert.py:base", "next_sentence=false", 109_514_298),
]


@pytest.mark.parametrize(("experiment", "setting", "count"), SETTINGS)
def test_settings_change_the_count(experiment, setting, count):
    found = succeed(
        "params", f"experiments/transformer/{experiment}", f"--config.{setting}", "--json"
    )
    assert found.json["total"] == count


@pytest.mark.long
@pytest.mark.parametrize(("experiment", "count"), SIZES)
def test_genax_params(experiment, count):
    assert succeed("params", experiment, "--json").json["total"] == count
