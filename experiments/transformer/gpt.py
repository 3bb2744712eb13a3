"""Radford et al. 2019, Language models are unsupervised multitask learners (GPT-2).

Brown et al. 2020, Language models are few-shot learners (GPT-3, arXiv:2005.14165), and Radford et
al. 2018, Improving language understanding by generative pre-training (GPT-1).

A decoder-only Transformer that predicts the next token. The cpu variant has the sizes and settings
that nanoGPT publishes for training on a CPU, on the complete works of Shakespeare.

    genax train experiments/transformer/gpt.py --workdir runs/gpt
    genax sample runs/gpt --prompt "HAMLET."

Two CPU cores, 4 minutes while other programs shared them: validation loss 1.885 nats a character
(2.72 bits) after 2,000 steps, seed 0, the same to six digits as GPT2LMHeadModel in PyTorch trained
from the same weights on the same batches (python -m benchmarks.gpt_side_by_side). Variant code: 6
minutes, 2.90 nats a token of 1,024 byte pairs.
"""

import jax.numpy as jnp

from genax.core import Experiment, base_config
from genax.data import TextData
from genax.data.text.tokenizers import KINDS
from genax.nn.optimizers import adamw, warmup_cosine
from genax.transformer.gpt import GPT, GPT_PRESETS
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.language_model import language_model

VARIANTS = {
    "cpu": "Shakespeare by characters in minutes on two cores: nanoGPT's CPU setting",
    "code": "the standard library's source by byte pairs, embedded: minutes on two cores",
    "stdlib": "the standard library's source by bytes, embedded: for tests, seconds",
    **{
        name: f"{preset.params / 1e6:,.0f}M parameters, context {preset.context}; text by TFDS"
        for name, preset in GPT_PRESETS.items()
    },
}
RANGES = {**TRANSFORMER, "tokenizer": KINDS}

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


def get_config(variant="cpu"):
    """Settings of a variant.

    attention: "auto", "xla", "ring", "cudnn" (GPU) or "splash" (TPU): see `genax.nn.attention`.
    learning_rate rises for warmup_steps, falls to final_learning_rate at decay_steps and stays; no
    part of it follows config.steps, so that a run may be stopped and prolonged. start_token: what
    samples begin with; the newline is token 0 of Shakespeare's characters and byte 10. temperature,
    top_k (0 is all), top_p, repetition_penalty: of samples, see `genax.transformer.decoding`.
    evaluation_windows: 0 is all. chunk: tokens of the vocabulary whose logits exist at a time; 0 is
    all.
    """
    config = base_config(
        dataset="shakespeare",
        tokenizer="characters",
        vocab_size=84,
        context=64,
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        dropout=0.0,
        bias=False,
        post_norm=False,
        scan_layers=False,
        attention="auto",
        chunk=0,
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        warmup_steps=100,
        decay_steps=2_000,
        b1=0.9,
        b2=0.99,
        weight_decay=0.1,
        clip=1.0,
        temperature=0.8,
        top_k=200,
        top_p=1.0,
        repetition_penalty=1.0,
        start_token=0,
        evaluation_windows=0,
        batch_size=12,
        steps=2_000,
        steps_per_call=10,
        log_every=100,
        checkpoint_every=1_000,
        sample_every=1_000,
        num_samples=4,
    )
    settings = {
        "cpu": {},
        "stdlib": {
            "dataset": "stdlib",
            "tokenizer": "bytes",
            "vocab_size": 256,
            "start_token": 10,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 2,
            "bias": True,
            "evaluation_windows": 1_000,
            "warmup_steps": 20,
            "decay_steps": 300,
            "steps": 300,
        },
        "code": {
            "dataset": "stdlib",
            "tokenizer": "bpe",
            "vocab_size": 1024,
            "context": 128,
            "bias": True,
            "batch_size": 16,
            "evaluation_windows": 500,
        },
    }
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


def _published(variant):
    """Sizes by the preset table; the optimizer as in Brown et al. 2020, table 2.1 and appendix B.

    GPT-2's learning rates, schedule and length of training are not published: the rates are GPT-3's
    at the nearest size, the rest nanoGPT's reproduction (600,000 steps, 2,000 of them warm-up).
    """
    preset = GPT_PRESETS[variant]
    first = variant == "gpt1"
    settings = {
        "dataset": "tfds:wiki40b/en",
        "tokenizer": "bpe",
        "vocab_size": preset.vocab_size,
        "context": preset.context,
        "hidden_size": preset.hidden_size,
        "num_layers": preset.num_layers,
        "num_heads": preset.num_heads,
        "bias": True,
        "post_norm": first,
        "scan_layers": True,
        "remat": "full",
        "chunk": 8_192,
        "dtype": "bfloat16",
        "parallel": {"mesh": "fsdp=-1", "topology": TOPOLOGIES[variant]},
        "accumulate": 4 if variant == "gpt3-175b" else 1,
        "b2": 0.95,
        "batch_size": preset.batch_tokens // preset.context,
        "eval_batch_size": 64,
        "eval_every": 5_000,
        "checkpoint_every": 1_000,
        "sample_every": 5_000,
        "steps_per_call": 1,
    }
    if first:
        # 100 epochs (section 4.1) of a corpus that is no longer distributed, at about 1e9 tokens.
        rates = {"learning_rate": preset.learning_rate, "final_learning_rate": 0.0}
        steps = {"warmup_steps": 2_000, "decay_steps": 3_000_000, "steps": 3_000_000}
        return settings | rates | steps | {"weight_decay": 0.01, "b2": 0.999, "dropout": 0.1}
    nearest = {"gpt2": 6e-4, "gpt2-medium": 3e-4, "gpt2-large": 2.5e-4, "gpt2-xl": 2e-4}
    rate = preset.learning_rate or nearest[variant]
    settings |= {"learning_rate": rate, "final_learning_rate": rate / 10}
    if variant.startswith("gpt2"):
        return settings | {"warmup_steps": 2_000, "decay_steps": 600_000, "steps": 600_000}
    return settings | {
        "warmup_steps": round(375e6 / preset.batch_tokens),
        "decay_steps": round(260e9 / preset.batch_tokens),
        "steps": round(300e9 / preset.batch_tokens),
    }


def build(config):
    """The experiment that the settings describe."""
    train = TextData(config.dataset, config.tokenizer, config.context, config.vocab_size)
    validation = TextData(
        config.dataset,
        config.tokenizer,
        config.context,
        config.vocab_size,
        split="validation",
        limit=config.evaluation_windows or None,
    )
    decoder = GPT(
        config.vocab_size,
        config.context,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        dropout=config.dropout,
        use_bias=config.bias,
        post_norm=config.post_norm,
        scan_layers=config.scan_layers,
        attention=config.attention,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )
    schedule = warmup_cosine(
        config.learning_rate, config.final_learning_rate, config.warmup_steps, config.decay_steps
    )
    optimizer = adamw(schedule, config.weight_decay, config.b1, config.b2, clip=config.clip)
    task = language_model(
        decoder,
        optimizer,
        config.start_token,
        config.temperature,
        config.top_k or None,
        config.top_p,
        config.repetition_penalty,
        config.chunk or None,
    )
    return Experiment(task, train, validation)
