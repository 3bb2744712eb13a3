"""What a phase of a task draws, for references that are to draw the same."""

import flax.linen as nn
import jax

from genax.core.gradients import keys_of


def draws_of(task, state, batch, number, *draws):
    """What a phase of a task draws in the step to come, in order."""
    rng = jax.random.wrap_key_data(state.rng)
    key = jax.random.fold_in(jax.random.fold_in(rng, state.step), number)

    def found(nets):
        return [draw(nets, batch) for draw in draws]

    apply = nn.apply(found, task.networks)
    return apply({"params": state.params, **state.collections}, rngs=keys_of(task, key, 0))
