"""Dao & Gu 2024, Transformers are SSMs (Mamba-2, arXiv:2405.21060).

Mamba's successor, whose scan is products of matrices within chunks. Each head has one decay, and
groups of heads share what they read and write. The cpu variant trains a small one on the complete
works of Shakespeare, with as many parameters as that of gpt.py.

    genax train experiments/hybrid/mamba2.py --workdir runs/mamba2
"""

from genax.hybrid import settings
from genax.hybrid.mamba2 import MAMBA2_PRESETS, Mamba2
from genax.hybrid.placement import MAMBA2_RULES
from genax.settings import NetworkSettings, from_config
from genax.settings.ranges import COUNT
from genax.transformer.tasks import language_model

# Rows of B and C, channels of a head, and how many sets of heads have a B and a C of their own.
SMALL = {"state_size": 64, "head_dim": 32, "groups": 1}
# `chunk_size` is the tokens of a chunk; it changes speed and memory alone.
DEFAULTS = settings.DEFAULTS | SMALL | {"chunk_size": 256}
VARIANTS = settings.variants(
    MAMBA2_PRESETS, stdlib={"state_size": 16, "head_dim": 16, "groups": 2, "chunk_size": 32}
)
RANGES = settings.RANGES | dict.fromkeys(("groups", "chunk_size"), COUNT)
NETWORK = NetworkSettings("decoder", Mamba2, own=("chunk_size",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    decoder = from_config(Mamba2, config)
    return language_model.experiment(decoder, config, data, rules=MAMBA2_RULES)
