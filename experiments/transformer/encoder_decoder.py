"""Vaswani et al. 2017, Attention is all you need (arXiv:1706.03762).

An encoder-decoder Transformer with label smoothing and the paper's warm-up schedule, sampled by
beam search. The cpu variant translates the Bible's verses from English to Spanish.

    genax data prepare verses
    genax train experiments/transformer/encoder_decoder.py --workdir runs/translation
    genax sample runs/translation --num 1 --prompt "In the beginning was the Word."

Two CPU cores that were shared: 25 minutes, BLEU 13.0 on 500 test verses, the English left as it is
0.2 (seed 0, after 1,480 steps).

Needs sacrebleu, or rouge-score for the variant summaries: pip install -e ".[text]".
"""

from functools import partial

import jax.numpy as jnp
import optax

from genax.core import Experiment, base_config
from genax.core.ranges import SHARE
from genax.data.text.text_pairs import TextPairs
from genax.evaluation.generated_text import bleu_scores, rouge_scores
from genax.nn.optimizers import warmup_inverse_sqrt
from genax.transformer.encoder_decoder import ENCODER_DECODER_PRESETS, EncoderDecoder
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.translation import translation

VARIANTS = {
    "cpu": "verses from English to Spanish in minutes on two cores",
    "summaries": "functions of the standard library to the words of their names, embedded",
    "smoke": "the same for seconds, for tests",
    **{
        name: f"{preset.params / 1e6:.0f}M parameters, WMT14 English to German by TFDS"
        for name, preset in ENCODER_DECODER_PRESETS.items()
    },
}
RANGES = {**TRANSFORMER, "smoothing": SHARE, "score": ("bleu", "rouge")}


def get_config(variant="cpu"):
    """Settings of a variant.

    source, target: names in the data's examples. target_context: tokens of a target, 0 as of a
    source. rate_scale: of the paper's schedule. score: "bleu" or "rouge" of the first `scored`
    texts of the evaluation, 0 for all.
    """
    config = base_config(
        dataset="verses",
        source="en",
        target="es",
        test_split="test",
        vocab_size=4_000,
        context=64,
        target_context=0,
        hidden_size=128,
        num_layers=3,
        num_heads=4,
        mlp_size=512,
        dropout=0.1,
        bias=False,
        scan_layers=False,
        smoothing=0.1,
        warmup_steps=400,
        rate_scale=1.0,
        num_beams=4,
        length_penalty=0.6,
        score="bleu",
        scored=500,
        evaluated=500,
        batch_size=64,
        steps=1_500,
        steps_per_call=10,
        log_every=100,
        checkpoint_every=1_000,
        sample_every=1_000,
        num_samples=8,
        eval_batch_size=50,
    )
    summaries = {
        "dataset": "stdlib_names",
        "source": "code",
        "target": "name",
        "test_split": "validation",
        "vocab_size": 1_000,
        "context": 96,
        "target_context": 16,
        "num_layers": 2,
        "rate_scale": 0.5,
        "batch_size": 32,
        "steps": 2_000,
        "score": "rouge",
        "scored": 200,
    }
    smoke = {
        "vocab_size": 512,
        "hidden_size": 32,
        "num_layers": 1,
        "num_heads": 2,
        "mlp_size": 64,
        "context": 32,
        "scored": 4,
        "evaluated": 8,
        "eval_batch_size": 4,
        "batch_size": 8,
        "num_samples": 2,
        "steps": 20,
    }
    settings = {"cpu": {}, "summaries": summaries, "smoke": summaries | smoke}
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


def _published(variant):
    """Vaswani et al. 2017, table 3 and section 5: 25,000 tokens a side, of some 30 a sentence."""
    preset = ENCODER_DECODER_PRESETS[variant]
    return {
        "dataset": "tfds:wmt14_translate/de-en",
        "target": "de",
        "vocab_size": preset.vocab_size,
        "context": 256,
        "hidden_size": preset.hidden_size,
        "num_layers": preset.num_layers,
        "num_heads": preset.num_heads,
        "mlp_size": preset.mlp_size,
        "dropout": preset.dropout,
        "scan_layers": True,
        "remat": "full",
        "warmup_steps": 4_000,
        "dtype": "bfloat16",
        "scored": 0,
        "evaluated": 0,
        "batch_size": 832,
        "parallel": {"topology": "v5e:4x4", "mesh": "fsdp=-1"},
        "steps": preset.steps,
        "steps_per_call": 1,
        "eval_every": 10_000,
        "sample_every": 10_000,
        "eval_batch_size": 256,
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
    transformer = EncoderDecoder(
        config.vocab_size,
        config.context,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        config.mlp_size,
        dropout=config.dropout,
        use_bias=config.bias,
        scan_layers=config.scan_layers,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )
    schedule = warmup_inverse_sqrt(config.hidden_size, config.warmup_steps, config.rate_scale)
    task = translation(
        transformer,
        optax.adam(schedule, b1=0.9, b2=0.98, eps=1e-9),
        test,
        config.smoothing,
        config.num_beams,
        config.length_penalty,
        {"bleu": bleu_scores, "rouge": rouge_scores}[config.score],
        config.scored or None,
    )
    return Experiment(task, data("train"), test)
