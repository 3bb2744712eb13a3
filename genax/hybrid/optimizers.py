"""Learning rates of parts of a network."""

from __future__ import annotations

from collections.abc import Sequence

import optax

from genax.core import tree

# What shapes the state space of S4D, as its authors' code has it: no decay, and a rate of at most
# 1e-3. Nothing that `genax.nn.optimizers.is_decayed` names is among it.
S4D_SYSTEM = ("**/log_dt", "**/log_A_real", "**/A_imag")
S4D_RATE = 1e-3


def at_most(
    optimizer: optax.GradientTransformation,
    learning_rate: float,
    most: float = S4D_RATE,
    patterns: Sequence[str] = S4D_SYSTEM,
) -> optax.GradientTransformation:
    """Return an optimizer whose updates of some parameters have a lower learning rate.

    learning_rate: the optimizer's, at its peak; a schedule of those parameters has the same form.
    most: peak of the learning rate of what the patterns name.
    patterns: of paths; those that name nothing change nothing.
    """
    if learning_rate <= most:
        return optimizer

    def named(params):
        def is_named(path, _):
            return any(tree.matches(pattern, path) for pattern in patterns)

        return tree.map_by_path(is_named, params)

    return optax.chain(optimizer, optax.masked(optax.scale(most / learning_rate), named))
