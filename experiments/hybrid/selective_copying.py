"""Gu & Dao 2023, Mamba: linear-time sequence modeling with selective state spaces, section 4.1.1.

Selective copying (arXiv:2312.00752, appendix E.1): data tokens stand at random positions among
noise, and are asked for in their order at the markers behind. A network has to choose by content
what it remembers, so that S4D, which is the same at every position, cannot. The authors published
no code: data is made as in S4's code for copying, and answers alone are scored. Published: Mamba's
layer 97.0%, the whole block 99.8%, S4 without a gate 18.3% (table 1).

    genax train experiments/hybrid/selective_copying.py --workdir runs/copying
    genax train experiments/hybrid/selective_copying.py:cpu-s4d --workdir runs/copying_s4d
"""

from genax.data.synthetic.selective_copying import SelectiveCopying
from genax.hybrid import recall_tasks
from genax.hybrid.recall_tasks import ATTENTION, DIAGONAL, MAMBA2
from genax.settings import Variant

LOOP = {"batch_size": 32, "eval_batch_size": 50, "steps": 6_000}
DEFAULTS = recall_tasks.DEFAULTS | {
    # Data tokens and noise of a sequence, and how many of them are data; as many markers follow.
    "length": 128,
    "num_tokens": 16,
    **LOOP,
}
PUBLISHED = {"length": 4_096, "learning_rate": 1e-4, "batch_size": 64, "steps": 400_000}
FEW = {"length": 12, "num_tokens": 3, "vocab_size": 6, "evaluated": 100, "hidden_size": 32}
VARIANTS = {
    "cpu": Variant("Mamba and 16 of 128 tokens, on two cores"),
    "cpu-mamba2": Variant("the same by Mamba-2", MAMBA2),
    "cpu-s4d": Variant("the same by S4D", DIAGONAL),
    "cpu-attention": Variant("the same by attention", ATTENTION),
    "smoke": Variant("3 of 12 tokens, for tests: seconds", FEW | {"steps": 300}),
    "mamba": Variant("Mamba as published: 16 of 4,096 tokens", PUBLISHED),
    "mamba2": Variant("Mamba-2 in that setting", PUBLISHED | MAMBA2),
    "s4d": Variant("S4D in that setting", PUBLISHED | DIAGONAL),
    "attention": Variant("attention in that setting", PUBLISHED | ATTENTION),
}
RANGES = recall_tasks.RANGES


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return recall_tasks.experiment(config, SelectiveCopying, data)
