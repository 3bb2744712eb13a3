"""Vaswani et al. 2017, Attention is all you need (arXiv:1706.03762).

An encoder-decoder Transformer with label smoothing and the paper's warm-up schedule, sampled by
beam search. The cpu variant translates the Bible's verses from English to Spanish.

    genax data prepare verses
    genax train experiments/transformer/encoder_decoder.py --workdir runs/translation
    genax sample runs/translation --num 1 --prompt "In the beginning was the Word."

Two CPU cores that were shared: 25 minutes, BLEU 13.0 on 500 test verses (seed 0, after 1,480
steps). The English verses themselves have a BLEU of 0.2.

Needs sacrebleu, or rouge-score for the variant summaries: pip install -e ".[text]".
"""

import optax

from genax.evaluation.generated_text import bleu_scores, rouge_scores
from genax.nn.optimizers import warmup_inverse_sqrt
from genax.settings import NetworkSettings, Variant, from_config
from genax.settings.ranges import SHARE
from genax.transformer.encoder_decoder import ENCODER_DECODER_PRESETS, EncoderDecoder
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import network, published
from genax.transformer.tasks import translation

SCORES = {"bleu": bleu_scores, "rouge": rouge_scores}
DEFAULTS = translation.DEFAULTS | {
    # Whether attention has biases.
    "bias": False,
    "smoothing": 0.1,
    "warmup_steps": 400,
    "score": "bleu",
    "steps": 1_500,
}
SUMMARIES = translation.FUNCTION_NAMES | {"rate_scale": 0.5, "score": "rouge", "steps": 2_000}
# Section 5: 25,000 tokens a side, of some 30 a sentence.
WMT14 = {
    "dataset": "tfds:wmt14_translate/de-en",
    "target": "de",
    "context": 256,
    "warmup_steps": 4_000,
    "batch_size": 832,
    "eval_batch_size": 256,
}


def published_size(preset):
    """Return a size of table 3."""
    about = f"{preset.params / 1e6:.0f}M parameters, WMT14 English to German by TFDS"
    return Variant(about, translation.PUBLISHED | published(preset, topology="v5e:4x4") | WMT14)


VARIANTS = {
    "cpu": Variant("verses from English to Spanish in minutes on two cores"),
    "summaries": Variant(
        "functions of the standard library to the words of their names, embedded", SUMMARIES
    ),
    "smoke": Variant("the same for seconds, for tests", SUMMARIES | translation.SMOKE),
    **{name: published_size(preset) for name, preset in ENCODER_DECODER_PRESETS.items()},
}
RANGES = TRANSFORMER | {"smoothing": SHARE, "score": tuple(SCORES)}
NETWORK = NetworkSettings("transformer", EncoderDecoder, {"use_bias": "bias"}, own=("context",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    transformer = network(EncoderDecoder, config, use_bias=config.bias)
    rate = from_config(warmup_inverse_sqrt, config, scale=config.rate_scale)
    return translation.experiment(
        transformer,
        config,
        optimizer=optax.adam(rate, b1=0.9, b2=0.98, eps=1e-9),
        scores=SCORES[config.score],
        smoothing=config.smoothing,
        data=data,
    )
