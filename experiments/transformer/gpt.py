"""Radford et al. 2019, Language models are unsupervised multitask learners (GPT-2).

Brown et al. 2020, Language models are few-shot learners (GPT-3, arXiv:2005.14165), and Radford et
al. 2018, Improving language understanding by generative pre-training (GPT-1).

A decoder-only Transformer that predicts the next token. The cpu variant has the sizes and settings
that nanoGPT publishes for training on a CPU, on the complete works of Shakespeare.

    genax train experiments/transformer/gpt.py --workdir runs/gpt
    genax sample runs/gpt --prompt "HAMLET."

Two CPU cores that were shared, 4 minutes: validation loss 1.885 nats a character (2.72 bits) after
2,000 steps (seed 0). GPT2LMHeadModel in PyTorch, trained from the same weights on the same batches,
has the same loss to six digits (python -m benchmarks.gpt_side_by_side). Variant code: 6 minutes,
2.90 nats a token of 1,024 byte pairs.
"""

from genax.settings import NetworkSettings, Variant
from genax.transformer.gpt import GPT, GPT_PRESETS
from genax.transformer.settings import network, published
from genax.transformer.tasks import language_model

DEFAULTS = language_model.DEFAULTS | {
    "dropout": 0.0,
    # Whether layers have biases.
    "bias": False,
    # GPT-1's norms, after the sums.
    "post_norm": False,
    "b1": 0.9,
    "b2": 0.99,
    "top_k": 200,
}

# A TPU slice that each size fits on, its parameters split over all chips: docs/scaling.md.
TOPOLOGIES = {
    "gpt1": "v5e:2x2",
    "gpt2": "v5e:4x4",
    "gpt2-medium": "v5e:4x8",
    "gpt2-large": "v5e:8x8",
    "gpt2-xl": "v5e:8x8",
    "gpt3-small": "v5e:4x4",
    "gpt3-medium": "v5e:4x8",
    "gpt3-large": "v5e:8x8",
    "gpt3-xl": "v5e:8x16",
    "gpt3-2.7b": "v5e:16x16",
    "gpt3-6.7b": "v5p:4x4x4",
    "gpt3-13b": "v5p:4x4x8",
    "gpt3-175b": "v5p:4x4x8",
}
# GPT-2's learning rates, schedule and length of training are not published: the rates are GPT-3's
# at the nearest size, the rest nanoGPT's reproduction.
GPT2_RATES = {"gpt2": 6e-4, "gpt2-medium": 3e-4, "gpt2-large": 2.5e-4, "gpt2-xl": 2e-4}
GPT2_STEPS = {"warmup_steps": 2_000, "decay_steps": 600_000, "steps": 600_000}
# Radford et al. 2018, section 4.1: 100 epochs of a corpus that is no longer distributed, of about
# 1e9 tokens.
GPT1 = {
    "post_norm": True,
    "dropout": 0.1,
    "weight_decay": 0.01,
    "b2": 0.999,
    "final_learning_rate": 0.0,
    "warmup_steps": 2_000,
    "decay_steps": 3_000_000,
    "steps": 3_000_000,
}


def published_gpt(name, preset):
    """Return a size of the papers; the optimizer is that of Brown et al. 2020, appendix B."""
    rate = preset.learning_rate or GPT2_RATES[name]
    if name == "gpt1":
        schedule = GPT1
    elif name in GPT2_RATES:
        schedule = GPT2_STEPS
    else:
        # Table 2.1, with the lengths of appendix B in tokens.
        schedule = {
            "warmup_steps": round(375e6 / preset.batch_tokens),
            "decay_steps": round(260e9 / preset.batch_tokens),
            "steps": round(300e9 / preset.batch_tokens),
        }
    return Variant(
        f"{preset.params / 1e6:,.0f}M parameters, context {preset.context}; text by TFDS",
        {
            **language_model.PUBLISHED,
            **published(preset, topology=TOPOLOGIES[name]),
            "bias": True,
            "b2": 0.95,
            "batch_size": preset.batch_tokens // preset.context,
            "accumulate": 4 if name == "gpt3-175b" else 1,
            "learning_rate": rate,
            "final_learning_rate": rate / 10,
            **schedule,
        },
    )


VARIANTS = {
    "cpu": Variant("Shakespeare by characters in minutes on two cores: nanoGPT's CPU setting"),
    "code": Variant(
        "the standard library's source by byte pairs, embedded: minutes on two cores",
        {
            "dataset": "stdlib",
            "tokenizer": "bpe",
            "vocab_size": 1024,
            "context": 128,
            "bias": True,
            "batch_size": 16,
            "evaluation_windows": 500,
        },
    ),
    "stdlib": Variant(
        "the standard library's source by bytes, embedded: for tests, seconds",
        language_model.STDLIB | {"num_heads": 2, "bias": True},
    ),
    **{name: published_gpt(name, preset) for name, preset in GPT_PRESETS.items()},
}
RANGES = language_model.RANGES
NETWORK = NetworkSettings("decoder", GPT, {"context": "positions", "use_bias": "bias"})


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return language_model.experiment(network(GPT, config, use_bias=config.bias), config, data)
