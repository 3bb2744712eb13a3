"""Training with tokens split over devices is training on one device."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import init_state, make_step
from genax.core.devices import Jit
from genax.core.mesh import make_mesh
from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA
from genax.transformer.tasks.language_model import language_model
from tests.contracts.harness import unkept_programs

# No other size of an activation is 24 or 12, so shapes tell where a device has all tokens.
LENGTH, BATCH = 24, 4
SIZES = {"vocab_size": 38, "context": 40, "hidden_size": 16, "num_layers": 2, "num_heads": 4}
DECODERS = {
    "gpt": GPT(**SIZES),
    "llama": LLaMA(
        **SIZES, mlp_size=44, num_kv_heads=2, theta=10_000.0, remat="full", scan_layers=True
    ),
}
ELEMENT = {
    "tokens": jax.ShapeDtypeStruct((LENGTH + 1,), jnp.int32),
    "weights": jax.ShapeDtypeStruct((LENGTH,), jnp.float32),
}
MESHES = ("sequence=4", "data=2,sequence=2", "sequence=2,tensor=2", "fsdp=2,sequence=2")


def batch(step):
    rng = np.random.default_rng(step)
    return {
        "tokens": rng.integers(0, 38, (BATCH, LENGTH + 1)).astype(np.int32),
        "weights": rng.integers(0, 2, (BATCH, LENGTH)).astype(np.float32),
    }


def train(name, mesh, devices):
    """Losses and parameters of two steps, and the compiled program."""
    task = language_model(DECODERS[name], optax.sgd(0.5), 0, 1.0, chunk=20)
    strategy = Jit(make_mesh(mesh, jax.devices()[:devices]), tuple(task.rules))
    create = partial(init_state, task, 0, ELEMENT)
    step = strategy.compile(make_step(task), jax.eval_shape(create), stacked=False)
    state = jax.device_put(jax.jit(create)(), strategy.shardings(jax.eval_shape(create)))
    batches = [strategy.put(batch(number), stacked=False) for number in range(2)]
    with unkept_programs():
        step, losses = step.lower(state, batches[0]).compile(), []
    for part in batches:
        state, metrics = step(state, part)
        losses.append(float(metrics["decoder/loss"]))
    return losses, jax.device_get(state.params), step.as_text()


@cache
def alone(name):
    return train(name, "data=1", 1)


@pytest.mark.long
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", DECODERS)
def test_losses_parameters_and_communication(name, mesh):
    losses, params, text = train(name, mesh, 4)
    expected_losses, expected, _ = alone(name)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert expected_losses[0] != expected_losses[1]
    compare = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(compare, params, expected)
    assert "collective-permute" in text
    gathered = re.findall(r"= \(?(\w+\[[\d,]*\]).* all-gather", text)
    assert not [shape for shape in gathered if re.match(r"(f32|bf16)\[.*\b24\b", shape)], gathered
