"""Gu & Dao 2023, Mamba: linear-time sequence modeling with selective state spaces (2312.00752).

A language model of selective scans: training takes time linear in the length, and a token of a
sample takes the same time and memory wherever it stands. The cpu variant trains a small one on the
complete works of Shakespeare, with as many parameters as that of gpt.py.

    genax train experiments/hybrid/mamba.py --workdir runs/mamba
    genax sample runs/mamba --prompt "HAMLET."
"""

from genax.hybrid.mamba import MAMBA_PRESETS, Mamba
from genax.hybrid.placement import MAMBA_RULES
from genax.hybrid.selective_scan import KERNELS
from genax.hybrid.settings import DEFAULTS as SHARED
from genax.hybrid.settings import RANGES as SHARED_RANGES
from genax.hybrid.settings import variants
from genax.settings import NetworkSettings, from_config
from genax.settings.ranges import AMOUNT
from genax.transformer.tasks import language_model

DEFAULTS = SHARED | {
    # States of a channel.
    "state_size": 16,
    # Size of what time steps are computed from; 0 is hidden_size / 16.
    "time_step_rank": 0,
    # What computes a chunk of the scan: "xla", or "pallas" on a TPU or a GPU.
    "scan": "xla",
}
VARIANTS = variants(MAMBA_PRESETS, stdlib={"state_size": 8})
RANGES = SHARED_RANGES | {"time_step_rank": AMOUNT, "scan": KERNELS}
NETWORK = NetworkSettings("decoder", Mamba, own=("scan",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return language_model.experiment(from_config(Mamba, config), config, data, MAMBA_RULES)
