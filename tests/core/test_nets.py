"""What a loss may do with the bound networks, and where."""

import jax
import jax.numpy as jnp
import optax
import pytest

from genax.core import GenaxError, Loss, Phase
from genax.core.nets import gather
from genax.core.step import make_step
from tests.core.toys import ELEMENT, line_state, line_task


def contrast(nets, batch):
    """A loss of the whole batch: each output against all others."""
    mine = nets.line(batch["x"])
    return Loss(jnp.square(mine[:, None] - gather(mine)).mean(-1))


def shapes(accumulate):
    task = line_task(Phase("fit", contrast, ("line",), optax.sgd(0.1)))
    batch = {name: jax.ShapeDtypeStruct((8, *s.shape), s.dtype) for name, s in ELEMENT.items()}
    state = jax.eval_shape(lambda: line_state(task))
    return jax.eval_shape(make_step(task, 0, accumulate), state, batch)


def test_a_loss_of_the_whole_batch_is_refused_in_microbatches():
    assert "fit/loss" in shapes(1)[1]
    with pytest.raises(
        GenaxError, match=r"gathers the whole batch.*embed.*set config.accumulate=1"
    ):
        shapes(2)
    assert "fit/loss" in shapes(1)[1]
