"""Settings that language models of recurrent blocks share, and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genax.settings import Variant
from genax.settings.ranges import COUNT, Range, Ranges
from genax.transformer.settings import published
from genax.transformer.tasks import language_model

DEFAULTS: dict[str, Any] = {
    **language_model.TEXT,
    # The first and the last projection of each block.
    "lora": {**language_model.TEXT["lora"], "targets": "**/mixer/*input,**/mixer/output"},
    # Two blocks stand for one of a Transformer; seven have the parameters of four blocks of a GPT.
    "num_layers": 7,
    # Channels for each number of the width, and tokens that the convolution reads.
    "expand": 2,
    "conv_width": 4,
    "learning_rate": 3e-3,
    "final_learning_rate": 1e-4,
}
RANGES: Ranges = {
    **language_model.RANGES,
    "expand": COUNT,
    "conv_width": COUNT,
    "state_size": COUNT,
}
# States of a channel, which S4D has in pairs.
STATES = Range(least=2, most=2**20, whole=True)
# A TPU slice for each depth and width of the papers: docs/scaling.md.
_TOPOLOGIES = {
    (24, 768): "v5e:4x4",
    (48, 1024): "v5e:4x8",
    (48, 1536): "v5e:8x8",
    (48, 2048): "v5e:8x16",
    (64, 2560): "v5e:16x16",
}


def variants(presets: Mapping[str, Any], stdlib: Mapping[str, Any]) -> dict[str, Variant]:
    """Return the variants of a family.

    presets: its published sizes.
    stdlib: settings of the network that is small enough for a test.
    """
    return {
        "cpu": Variant("Shakespeare by characters in minutes on two cores"),
        "stdlib": Variant(
            "the standard library's source by bytes, embedded: for tests, seconds",
            {**language_model.STDLIB, **stdlib},
        ),
        **{name: _published(preset) for name, preset in presets.items()},
    }


def _published(preset: Any) -> Variant:
    """A size of a paper, with the optimizer of Gu & Dao 2023, appendix E.2."""
    return Variant(
        f"{preset.params / 1e6:,.0f}M parameters, context {preset.context}; text by TFDS",
        {
            **language_model.PUBLISHED,
            **published(preset, _TOPOLOGIES[preset.num_layers, preset.hidden_size]),
            "batch_size": preset.batch_tokens // preset.context,
            "final_learning_rate": 1e-5,
            # The warm-up is GPT-3's.
            "warmup_steps": round(375e6 / preset.batch_tokens),
            "decay_steps": round(300e9 / preset.batch_tokens),
            "steps": round(300e9 / preset.batch_tokens),
        },
    )
