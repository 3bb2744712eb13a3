"""Devlin et al. 2018, BERT: Pre-training of deep bidirectional Transformers (arXiv:1810.04805).

An encoder that guesses masked tokens, and whether one piece of text follows another. The cpu
variant is pretrained on the complete works of Shakespeare; bert_fine_tuning.py goes on from there.

    genax data prepare shakespeare
    genax train experiments/transformer/bert.py --workdir runs/bert

Two CPU cores that were shared, 1,500 steps, 8 minutes: 5.23 nats a masked token, and next sentences
hardly better than chance (0.688 nats); of the standard library's source (--config.dataset=stdlib)
1,000 steps, 4 minutes: 4.99 and 0.534 nats (seed 0).
"""

from genax.settings import NetworkSettings, Variant
from genax.transformer.bert import BERT, BERT_PRESETS
from genax.transformer.settings import network, published
from genax.transformer.tasks import bert_pretraining

DEFAULTS = bert_pretraining.DEFAULTS

# Devlin et al. 2018, appendix A.2. The paper trains nine tenths of the steps on 128 tokens:
# --config.context=128.
TEXT = {"dataset": "tfds:wiki40b/en", "evaluated": 20_000, "eval_every": 10_000}
MASKING = {"mask_most": 77, "dropout": 0.1}
ADAMW = {"learning_rate": 1e-4, "warmup_steps": 10_000, "decay_steps": 1_000_000}
LENGTH = {"batch_size": 256, "steps": 1_000_000}


def published_bert(preset):
    """Return a size of the paper."""
    about = f"{preset.pretraining / 1e6:.0f}M parameters, 512 tokens; text by TFDS"
    return Variant(about, published(preset, topology="v5e:4x4") | TEXT | MASKING | ADAMW | LENGTH)


VARIANTS = {
    "cpu": Variant("Shakespeare in minutes on two cores"),
    "stdlib": Variant(
        "the standard library's source, embedded: for tests, seconds", bert_pretraining.STDLIB
    ),
    **{name: published_bert(preset) for name, preset in BERT_PRESETS.items()},
}
RANGES = bert_pretraining.RANGES
NETWORK = NetworkSettings("encoder", BERT, {"context": "positions"}, own=("with_pooler",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    encoder = network(BERT, config, with_pooler=config.next_sentence)
    return bert_pretraining.experiment(encoder, config, data)
