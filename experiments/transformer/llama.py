"""Grattafiori et al. 2024, The Llama 3 herd of models (arXiv:2407.21783).

A decoder with RMSNorm, rotary positions, SwiGLU and grouped key heads. The cpu variant trains a
small one on the complete works of Shakespeare.

    genax train experiments/transformer/llama.py --workdir runs/llama
"""

from genax.settings import NetworkSettings, Variant
from genax.settings.ranges import POSITIVE, Range
from genax.transformer.llama import LLAMA_PRESETS, LLaMA, long_context
from genax.transformer.settings import network, published
from genax.transformer.tasks import language_model

DEFAULTS = language_model.DEFAULTS | {
    "num_kv_heads": 2,
    "mlp_size": 352,
    # The base of the rotary frequencies, and how they are stretched: () or the four numbers of
    # `LongContext`.
    "theta": 10_000.0,
    "long_context": (),
    "tied_head": False,
    "top_p": 0.95,
}

# A TPU slice that each size fits on, and how: docs/scaling.md.
PLACES = {
    "llama3-8b": {"topology": "v5p:4x4x4"},
    "llama3-70b": {"topology": "v5p:4x4x8"},
    "llama3.1-8b": {"topology": "v5p:4x4x8", "mesh": "fsdp=16,sequence=8"},
    "llama3.1-70b": {"topology": "v5p:8x8x8", "mesh": "fsdp=32,sequence=16"},
}
# The 405B model's: section 3.4.1.
SCHEDULE = {"warmup_steps": 8_000, "decay_steps": 1_200_000, "steps": 1_200_000}


def published_llama(name, preset):
    """Return a size of the paper."""
    return Variant(
        f"{preset.params / 1e9:.1f}B parameters, context {preset.context}; text by TFDS",
        {
            **language_model.PUBLISHED,
            **published(preset, **PLACES[name]),
            "final_learning_rate": preset.learning_rate / 100,
            **SCHEDULE,
            "batch_size": 4_194_304 // preset.context,
        },
    )


VARIANTS = {
    "cpu": Variant("Shakespeare by characters in minutes on two cores"),
    "stdlib": Variant(
        "the standard library's source by bytes, embedded: for tests, seconds",
        language_model.STDLIB | {"mlp_size": 176},
    ),
    **{name: published_llama(name, preset) for name, preset in LLAMA_PRESETS.items()},
}
RANGES = language_model.RANGES | {
    "theta": POSITIVE,
    "long_context": Range(above=0, empty=True),
}
NETWORK = NetworkSettings("decoder", LLaMA, {"context": "positions", "scaling": "long_context"})


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    decoder = network(LLaMA, config, scaling=long_context(config.long_context))
    return language_model.experiment(decoder, config, data)
