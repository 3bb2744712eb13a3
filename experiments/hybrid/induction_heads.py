"""Gu & Dao 2023, Mamba: linear-time sequence modeling with selective state spaces, section 4.1.2.

Induction heads (arXiv:2312.00752, appendix E.1; the task is that of Olsson et al. 2022): a special
token comes twice among random ones, and what followed it first is asked at its second time, which
is the end. Training reads sequences of 256 tokens only; scores read those of 64 to 1,048,576, by
the recurrent form, which keeps as much of a million tokens as of one. Attention is that of LLaMA,
with rotary positions; what it keeps grows with the length, and the paper's rows end at 16,384.

    genax train experiments/hybrid/induction_heads.py --workdir runs/induction
    genax eval runs/induction --config.longest=1048576

Variant cpu is right at every length from 64 to 8,192 after 4,250 steps (38% at 1,048,576), and at
every length from 64 to 1,048,576 after --config.steps=17000 and then --config.steps=21000 with
--config.learning_rate=1.2e-3, about 85 minutes of one core.
"""

from genax.data.synthetic.induction_heads import InductionHeads
from genax.hybrid import recall_tasks
from genax.hybrid.recall_tasks import ATTENTION, DIAGONAL, MAMBA2
from genax.settings import Variant

DEFAULTS = recall_tasks.DEFAULTS | {
    # Tokens of a training sequence.
    "length": 256,
    "longest": 4_096,
    # One answer a sequence is little to learn from, so batches are larger than the paper's, and the
    # network smaller.
    "hidden_size": 32,
    "state_size": 4,
    "batch_size": 64,
    "learning_rate": 3e-3,
    "warmup_steps": 200,
    "steps": 4_000,
}
# Appendix E.1: 25 epochs of 8,192 steps, and 50 of attention with rotary positions, whose best rate
# of 2e-4 and 1e-3 was the lower one.
SIZE = {"hidden_size": 64, "state_size": 16, "batch_size": 8}
RATE = {"learning_rate": 1e-3, "warmup_steps": 0}
LONG = {"longest": 1_048_576, "steps": 204_800, "checkpoint_every": 8_192}
PUBLISHED = SIZE | RATE | LONG
SLOWER = {"learning_rate": 2e-4, "steps": 409_600, "longest": 16_384}
SMOKE = {"length": 12, "vocab_size": 5, "shortest": 6, "longest": 24, "read_at_a_time": 5}
SHORT = {"hidden_size": 16, "steps": 400, "evaluated": 64, "learning_rate": 1e-2, "num_samples": 4}
SMOKE = SIZE | RATE | SMOKE | SHORT
VARIANTS = {
    "cpu": Variant("Mamba, on two cores"),
    "cpu-mamba2": Variant("Mamba-2, on two cores", MAMBA2),
    "cpu-s4d": Variant("S4D, which does not choose what it remembers, on two cores", DIAGONAL),
    "cpu-attention": Variant("attention, on two cores", ATTENTION),
    "smoke": Variant("12 tokens, for tests: seconds", SMOKE),
    "mamba": Variant("Mamba as published", PUBLISHED),
    "mamba2": Variant("Mamba-2 in the setting of Mamba", PUBLISHED | MAMBA2),
    "s4d": Variant("S4D in the setting of Mamba", PUBLISHED | DIAGONAL),
    "attention": Variant("attention as published", PUBLISHED | ATTENTION | SLOWER),
}
RANGES = recall_tasks.RANGES


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return recall_tasks.experiment(config, InductionHeads, data)
