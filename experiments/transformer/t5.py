"""Raffel et al. 2020, Exploring the limits of transfer learning with T5 (arXiv:1910.10683).

An encoder-decoder with relative positions, RMSNorm and no biases; every task is text to text. Here
it is trained on one task from scratch: the cpu variant finds the names of the standard library's
functions from their code, the extreme summarisation of Allamanis et al. 2016 (arXiv:1602.03001).

    genax train experiments/transformer/t5.py --workdir runs/t5

Needs rouge-score: pip install -e ".[text]".
"""

from functools import partial

import jax.numpy as jnp
import optax

from genax.core import Experiment, base_config
from genax.data.text.text_pairs import TextPairs
from genax.evaluation.generated_text import rouge_scores
from genax.nn.optimizers import flat_inverse_sqrt
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.t5 import T5, T5_PRESETS
from genax.transformer.tasks.translation import translation

VARIANTS = {
    "cpu": "functions of the standard library to the words of their names, embedded: minutes",
    "smoke": "the same for seconds, for tests",
    "base": "223M parameters; CNN/DailyMail's summaries by TFDS",
}
RANGES = TRANSFORMER


def get_config(variant="cpu"):
    """Settings of a variant; see `experiments/transformer/encoder_decoder.py`.

    rate_scale: of the paper's learning rate.
    """
    config = base_config(
        dataset="stdlib_names",
        source="code",
        target="name",
        test_split="validation",
        vocab_size=1_000,
        context=96,
        target_context=16,
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        head_dim=32,
        mlp_size=512,
        dropout=0.1,
        scan_layers=False,
        rate_scale=1.0,
        warmup_steps=1_000,
        num_beams=4,
        length_penalty=0.6,
        scored=200,
        evaluated=500,
        batch_size=32,
        steps=4_000,
        steps_per_call=10,
        log_every=100,
        checkpoint_every=1_000,
        sample_every=1_000,
        num_samples=8,
        eval_batch_size=50,
    )
    smoke = {
        "vocab_size": 512,
        "hidden_size": 32,
        "num_layers": 1,
        "num_heads": 2,
        "head_dim": 16,
        "mlp_size": 64,
        "context": 32,
        "scored": 4,
        "evaluated": 8,
        "eval_batch_size": 4,
        "batch_size": 8,
        "num_samples": 2,
        "steps": 20,
    }
    settings = {"cpu": {}, "smoke": smoke}
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


def _published(variant):
    """Raffel et al. 2020, sections 2.1, 3.1 and 3.7, but without pretraining."""
    preset = T5_PRESETS[variant]
    return {
        "dataset": "tfds:cnn_dailymail",
        "source": "article",
        "target": "highlights",
        "vocab_size": preset.vocab_size,
        "context": 512,
        "target_context": 0,
        "hidden_size": preset.hidden_size,
        "num_layers": preset.num_layers,
        "num_heads": preset.num_heads,
        "head_dim": preset.head_dim,
        "mlp_size": preset.mlp_size,
        "warmup_steps": 10_000,
        "scan_layers": True,
        "remat": "full",
        "dtype": "bfloat16",
        "scored": 0,
        "evaluated": 0,
        "batch_size": 128,
        "parallel": {"topology": "v5e:4x4", "mesh": "fsdp=-1"},
        "steps": 262_144,
        "steps_per_call": 1,
        "eval_every": 10_000,
        "sample_every": 10_000,
    }


def build(config):
    """The experiment that the settings describe."""
    data = partial(
        TextPairs,
        config.dataset,
        config.context,
        config.vocab_size,
        source=config.source,
        target=config.target,
        target_context=config.target_context,
    )
    test = data(config.test_split, limit=config.evaluated or None)
    transformer = T5(
        config.vocab_size,
        config.context,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        config.mlp_size,
        dropout=config.dropout,
        use_bias=False,
        scan_layers=config.scan_layers,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
        head_dim=config.head_dim,
    )

    task = translation(
        transformer,
        optax.adafactor(flat_inverse_sqrt(config.warmup_steps, config.rate_scale)),
        test,
        0.0,
        config.num_beams,
        config.length_penalty,
        rouge_scores,
        config.scored or None,
    )
    return Experiment(task, data("train"), test)
