"""Raffel et al. 2020, Exploring the limits of transfer learning with T5 (arXiv:1910.10683).

An encoder-decoder with relative positions, RMSNorm and no biases; every task is text to text. Here
it is trained on one task from scratch. The cpu variant finds the names of the standard library's
functions from their code: the extreme summarisation of Allamanis et al. 2016 (arXiv:1602.03001).

    genax train experiments/transformer/t5.py --workdir runs/t5

Needs rouge-score: pip install -e ".[text]".
"""

import optax

from genax.evaluation.generated_text import rouge_scores
from genax.nn.optimizers import flat_inverse_sqrt
from genax.settings import NetworkSettings, Variant, from_config
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import network, published
from genax.transformer.t5 import T5, T5_PRESETS
from genax.transformer.tasks import translation

DEFAULTS = {
    **translation.DEFAULTS,
    **translation.FUNCTION_NAMES,
    "head_dim": 32,
    "warmup_steps": 1_000,
    "steps": 4_000,
}
# Raffel et al. 2020, sections 2.1, 3.1 and 3.7, but without pretraining.
BASE = {
    **translation.PUBLISHED,
    **published(T5_PRESETS["base"], topology="v5e:4x4"),
    "dataset": "tfds:cnn_dailymail",
    "source": "article",
    "target": "highlights",
    "context": 512,
    "warmup_steps": 10_000,
    "batch_size": 128,
    "steps": 262_144,
}
VARIANTS = {
    "cpu": Variant(
        "functions of the standard library to the words of their names, embedded: minutes"
    ),
    "smoke": Variant("the same for seconds, for tests", translation.SMOKE | {"head_dim": 16}),
    "base": Variant("223M parameters; CNN/DailyMail's summaries by TFDS", BASE),
}
RANGES = TRANSFORMER
NETWORK = NetworkSettings("transformer", T5, own=("context",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    transformer = network(T5, config, use_bias=False)
    rate = from_config(flat_inverse_sqrt, config, scale=config.rate_scale)
    return translation.experiment(
        transformer, config, optimizer=optax.adafactor(rate), scores=rouge_scores, data=data
    )
