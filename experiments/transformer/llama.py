"""Grattafiori et al. 2024, The Llama 3 herd of models (arXiv:2407.21783).

A decoder with RMSNorm, rotary positions, SwiGLU and grouped key heads. The cpu variant trains a
small one on the complete works of Shakespeare.

    genax train experiments/transformer/llama.py --workdir runs/llama
"""

import jax.numpy as jnp

from genax.core import Experiment, base_config
from genax.core.ranges import POSITIVE
from genax.data import TextData
from genax.data.text.tokenizers import KINDS
from genax.nn.optimizers import adamw, warmup_cosine
from genax.nn.rotary import LongContext
from genax.transformer.llama import LLAMA_PRESETS, LLaMA
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.language_model import language_model

VARIANTS = {
    "cpu": "Shakespeare by characters in minutes on two cores",
    "stdlib": "the standard library's source by bytes, embedded: for tests, seconds",
    **{
        name: f"{preset.params / 1e9:.1f}B parameters, context {preset.context}; text by TFDS"
        for name, preset in LLAMA_PRESETS.items()
    },
}
RANGES = {**TRANSFORMER, "tokenizer": KINDS, "theta": POSITIVE}


def get_config(variant="cpu"):
    """Settings of a variant; see `experiments/transformer/gpt.py`.

    attention: "auto", "xla", "ring", "cudnn" (GPU) or "splash" (TPU): see `genax.nn.attention`.
    theta: base of the rotary frequencies, which long_context stretches. chunk: tokens of the
    vocabulary whose logits exist at a time, 0 for all.
    """
    config = base_config(
        dataset="shakespeare",
        tokenizer="characters",
        vocab_size=84,
        context=64,
        hidden_size=128,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        mlp_size=352,
        theta=10_000.0,
        long_context=False,
        tied_head=False,
        scan_layers=False,
        attention="auto",
        chunk=0,
        learning_rate=1e-3,
        final_learning_rate=1e-4,
        warmup_steps=100,
        decay_steps=2_000,
        weight_decay=0.1,
        clip=1.0,
        temperature=0.8,
        top_k=0,
        top_p=0.95,
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
    small = {
        "dataset": "stdlib",
        "tokenizer": "bytes",
        "vocab_size": 256,
        "start_token": 10,
        "hidden_size": 64,
        "num_layers": 2,
        "mlp_size": 176,
        "evaluation_windows": 1_000,
        "warmup_steps": 20,
        "decay_steps": 300,
        "steps": 300,
    }
    settings = {"cpu": {}, "stdlib": small}
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


# A TPU slice that each size fits on, and how: docs/scaling.md.
PLACES = {
    "llama3-8b": {"topology": "v5p:4x4x4", "mesh": "fsdp=-1"},
    "llama3-70b": {"topology": "v5p:4x4x8", "mesh": "fsdp=-1"},
    "llama3.1-8b": {"topology": "v5p:4x4x8", "mesh": "fsdp=16,sequence=8"},
    "llama3.1-70b": {"topology": "v5p:8x8x8", "mesh": "fsdp=32,sequence=16"},
}


def _published(variant):
    """Sizes by the preset table; the schedule of section 3.4.1, which gives the 405B model's."""
    preset = LLAMA_PRESETS[variant]
    return {
        "dataset": "tfds:wiki40b/en",
        "tokenizer": "bpe",
        "vocab_size": preset.vocab_size,
        "context": preset.context,
        "hidden_size": preset.hidden_size,
        "num_layers": preset.num_layers,
        "num_heads": preset.num_heads,
        "num_kv_heads": preset.num_kv_heads,
        "mlp_size": preset.mlp_size,
        "theta": preset.theta,
        "long_context": preset.long_context,
        "scan_layers": True,
        "remat": "full",
        "chunk": 8_192,
        "dtype": "bfloat16",
        "learning_rate": preset.learning_rate,
        "final_learning_rate": preset.learning_rate / 100,
        "warmup_steps": 8_000,
        "decay_steps": 1_200_000,
        "steps": 1_200_000,
        "steps_per_call": 1,
        "batch_size": 4_194_304 // preset.context,
        "parallel": PLACES[variant],
        "eval_batch_size": 64,
        "eval_every": 5_000,
        "sample_every": 5_000,
    }


def build(config):
    """The experiment that the settings describe."""
    text = (config.dataset, config.tokenizer, config.context, config.vocab_size)
    limit = config.evaluation_windows or None
    decoder = LLaMA(
        config.vocab_size,
        config.context,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        config.mlp_size,
        scan_layers=config.scan_layers,
        attention=config.attention,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
        tied_head=config.tied_head,
        num_kv_heads=config.num_kv_heads,
        theta=config.theta,
        scaling=LongContext() if config.long_context else None,
    )
    schedule = warmup_cosine(
        config.learning_rate, config.final_learning_rate, config.warmup_steps, config.decay_steps
    )
    task = language_model(
        decoder,
        adamw(schedule, config.weight_decay, clip=config.clip),
        config.start_token,
        config.temperature,
        config.top_k or None,
        config.top_p,
        config.repetition_penalty,
        config.chunk or None,
    )
    return Experiment(task, TextData(*text), TextData(*text, split="validation", limit=limit))
