"""Devlin et al. 2018, BERT: Pre-training of deep bidirectional Transformers (arXiv:1810.04805).

An encoder that guesses masked tokens, and whether one piece of text follows another. The cpu
variant is pretrained on the complete works of Shakespeare; bert_fine_tuning.py goes on from there.

    genax data prepare shakespeare
    genax train experiments/transformer/bert.py --workdir runs/bert

Two CPU cores that were shared, 1,500 steps, 8 minutes: 5.23 nats a masked token, and next sentences
hardly better than chance (0.688 nats); of the standard library's source (--config.dataset=stdlib)
1,000 steps, 4 minutes: 4.99 and 0.534 nats (seed 0).
"""

from functools import partial

import jax.numpy as jnp

from genax.core import Evaluator, Experiment, Phase, Stage, Task, base_config
from genax.core.ranges import AMOUNT, COUNT, Range
from genax.data.text.sentence_pairs import SentencePairs
from genax.nn.optimizers import adamw, warmup_linear
from genax.nn.placement import PARTITION_RULES
from genax.transformer.bert import BERT, BERT_PRESETS, LinearHead, MaskedLMHead
from genax.transformer.ranges import RANGES as TRANSFORMER
from genax.transformer.tasks.bert_pretraining import Networks, pretraining_loss

VARIANTS = {
    "cpu": "Shakespeare in minutes on two cores",
    "stdlib": "the standard library's source, embedded: for tests, seconds",
    **{
        name: f"{preset.pretraining / 1e6:.0f}M parameters, 512 tokens; text by TFDS"
        for name, preset in BERT_PRESETS.items()
    },
}
RANGES = {
    **TRANSFORMER,
    "mask_rate": Range(above=0, most=1),
    "mask_most": COUNT,
    "mask_token": AMOUNT,
}


def get_config(variant="cpu"):
    """Settings of a variant.

    attention: "auto", "xla", "ring", "cudnn" (GPU) or "splash" (TPU): see `genax.nn.attention`.
    next_sentence: whether there is a second loss, of what follows. mask_rate, mask_most: share of
    the tokens that are guessed, and how many at most. mask_token: of the WordPiece that the data
    makes. evaluated: passages of the validation, 0 for all.
    """
    config = base_config(
        dataset="shakespeare",
        vocab_size=4_096,
        context=64,
        hidden_size=128,
        num_layers=3,
        num_heads=4,
        dropout=0.0,
        next_sentence=True,
        mask_rate=0.15,
        mask_most=10,
        mask_token=4,
        scan_layers=False,
        attention="auto",
        learning_rate=1e-3,
        warmup_steps=200,
        decay_steps=4_000,
        weight_decay=0.01,
        evaluated=2_000,
        batch_size=64,
        steps=4_000,
        steps_per_call=10,
        log_every=100,
        checkpoint_every=1_000,
        sample_every=0,
        eval_every=500,
        eval_batch_size=250,
    )
    settings = {
        "cpu": {},
        "stdlib": {
            "dataset": "stdlib",
            "vocab_size": 1_024,
            "context": 32,
            "hidden_size": 32,
            "num_layers": 1,
            "mask_most": 5,
            "evaluated": 64,
            "batch_size": 16,
            "eval_batch_size": 32,
            "steps": 40,
        },
    }
    config.update(settings[variant] if variant in settings else _published(variant))
    return config


def _published(variant):
    """Sizes by the preset table; the rest is Devlin et al. 2018, appendix A.2.

    The paper trains nine tenths of the steps on 128 tokens: `--config.context=128`.
    """
    preset = BERT_PRESETS[variant]
    return {
        "dataset": "tfds:wiki40b/en",
        "vocab_size": preset.vocab_size,
        "context": preset.context,
        "hidden_size": preset.hidden_size,
        "num_layers": preset.num_layers,
        "num_heads": preset.num_heads,
        "dropout": 0.1,
        "mask_most": 77,
        "scan_layers": True,
        "remat": "full",
        "dtype": "bfloat16",
        "learning_rate": 1e-4,
        "warmup_steps": 10_000,
        "decay_steps": 1_000_000,
        "batch_size": 256,
        "parallel": {"topology": "v5e:4x4", "mesh": "fsdp=-1"},
        "steps": 1_000_000,
        "steps_per_call": 1,
        "evaluated": 20_000,
        "eval_every": 10_000,
    }


def build(config):
    """The experiment that the settings describe."""
    data = partial(SentencePairs, config.dataset, config.context, config.vocab_size)
    encoder = BERT(
        config.vocab_size,
        config.context,
        config.hidden_size,
        config.num_layers,
        config.num_heads,
        with_pooler=config.next_sentence,
        dropout=config.dropout,
        scan_layers=config.scan_layers,
        attention=config.attention,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )
    dtype = {"dtype": jnp.dtype(config.dtype)}
    heads = MaskedLMHead(**dtype), LinearHead(2, **dtype) if config.next_sentence else None
    loss = partial(
        pretraining_loss,
        mask_token=config.mask_token,
        rate=config.mask_rate,
        most=config.mask_most,
    )
    schedule = warmup_linear(config.learning_rate, config.warmup_steps, config.decay_steps)
    optimizer = adamw(schedule, config.weight_decay, b2=0.999, eps=1e-6)
    trained = ("encoder", "masked_head", "next_sentence_head")
    task = Task(
        Networks(encoder, *heads),
        [Stage([Phase("bert", loss, trained if config.next_sentence else trained[:2], optimizer)])],
        evaluators={"validation": Evaluator(partial(loss, train=False))},
        rules=PARTITION_RULES,
    )
    validation = data("validation", limit=config.evaluated or None)
    return Experiment(task, data(), validation)
