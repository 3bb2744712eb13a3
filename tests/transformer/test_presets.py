"""The published sizes: parameter counts, exactly."""

import pytest

from genax.transformer.presets import (
    DECISION_TRANSFORMER_PRESETS,
    GPT_PRESETS,
    LLAMA_PRESETS,
    VIT_PRESETS,
)
from tests.cli.command import succeed

FILES = {
    "decision_transformer": DECISION_TRANSFORMER_PRESETS,
    "gpt": GPT_PRESETS,
    "llama": LLAMA_PRESETS,
    "vit": VIT_PRESETS,
}
SIZES = [
    pytest.param(f"experiments/transformer/{file}.py:{name}", preset.params, id=f"{file}-{name}")
    for file, presets in FILES.items()
    for name, preset in presets.items()
]


@pytest.mark.parametrize(("experiment", "count"), SIZES)
def test_genax_params(experiment, count):
    assert succeed("params", experiment, "--json").json["total"] == count
