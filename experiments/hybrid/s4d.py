"""Gu et al. 2022, On the parameterization and initialization of diagonal state space models (S4D).

S4D-Lin (arXiv:2206.11893) as a language model, with the embedding, norms, head, data and loss of
mamba.py, so that nothing but the mixer differs. Each channel is a convolution whose kernel is a sum
of decaying waves; it is the same at every position, whatever stands there. The state space has no
decay, and a learning rate of 1e-3 at most.

    genax train experiments/hybrid/s4d.py --workdir runs/s4d
    genax sample runs/s4d --prompt "HAMLET."
"""

from genax.hybrid.optimizers import at_most
from genax.hybrid.placement import S4D_RULES
from genax.hybrid.s4d import S4D
from genax.hybrid.settings import STATES, variants
from genax.settings import NetworkSettings, from_config
from genax.settings.ranges import SHARE, Range
from genax.transformer.tasks import language_model

DEFAULTS = language_model.TEXT | {
    # Modes of a channel with their conjugates, and where their steps begin.
    "state_size": 64,
    "smallest": 1e-3,
    "largest": 0.1,
    "dropout": 0.0,
    # Blocks of the width that have about the parameters of those of mamba.py.
    "num_layers": 16,
    "learning_rate": 4e-3,
}
VARIANTS = variants({}, stdlib={"state_size": 16, "num_layers": 4})
STEP = Range(above=0, most=1e3)
RANGES = language_model.RANGES | {
    "state_size": STATES,
    "smallest": STEP,
    "largest": STEP,
    "dropout": SHARE,
}
NETWORK = NetworkSettings("decoder", S4D)


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    experiment = language_model.experiment(from_config(S4D, config), config, data, S4D_RULES)
    phase = experiment.task.stages[0].phases[0]
    return experiment.replace(
        optimizers={phase.name: at_most(phase.optimizer, config.learning_rate)}
    )
