"""Phases that play together take all gradients before any of them moves, as PyTorch code does."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import (
    GenaxError,
    Loss,
    Phase,
    Stage,
    Task,
    init_state,
    make_step,
    read,
    tree,
    write,
)
from tests.contracts import cycle_gan, harness
from tests.contracts.rows import BY_NAME
from tests.core.toys import ELEMENT, line_state, line_task
from tests.parity import require

RATE = 0.1


def game(together: bool) -> Task:
    task = cycle_gan.make()
    (stage,) = task.stages
    phases = [replace(phase, optimizer=optax.sgd(RATE)) for phase in stage.phases]
    return replace(task, stages=[Stage(phases, together=together)])


def apply(params, x):
    """The MLP of the four networks."""
    x = x.reshape(len(x), -1)
    x = (x @ params["Dense_0/kernel"] + params["Dense_0/bias"]).tanh()
    return x @ params["Dense_1/kernel"] + params["Dense_1/bias"]


def torch_step(leaves: dict[str, np.ndarray], batch) -> dict[str, np.ndarray]:
    """All gradients, then all updates; the pools are empty, so that they return the fakes."""
    [torch] = require("torch")
    params = {path: torch.tensor(leaf, requires_grad=True) for path, leaf in leaves.items()}

    def network(name, x):
        mine = {p[len(name) + 1 :]: leaf for p, leaf in params.items() if p.startswith(f"{name}/")}
        return apply(mine, x)

    def score(name, x, target):
        return (network(name, x)[:, 0] - target).square()

    a, b = (torch.tensor(batch[name]).reshape(len(batch[name]), -1) for name in sorted(batch))
    fake_a, fake_b = network("b_to_a", b), network("a_to_b", a)
    cycle = (network("b_to_a", fake_b) - a).abs() + (network("a_to_b", fake_a) - b).abs()
    fooled = score("discriminator_a", fake_a, 1) + score("discriminator_b", fake_b, 1)
    losses = {
        ("a_to_b/", "b_to_a/"): (fooled + 10 * cycle.mean(1)).mean(),
        ("discriminator_a/",): (
            score("discriminator_a", a, 1) + score("discriminator_a", fake_a.detach(), 0)
        ).mean()
        / 2,
        ("discriminator_b/",): (
            score("discriminator_b", b, 1) + score("discriminator_b", fake_b.detach(), 0)
        ).mean()
        / 2,
    }
    moved = {}
    for networks, loss in losses.items():
        paths = [path for path in params if path.startswith(networks)]
        slopes = torch.autograd.grad(loss, [params[path] for path in paths], retain_graph=True)
        moved |= {
            p: (params[p] - RATE * g).detach().numpy() for p, g in zip(paths, slopes, strict=True)
        }
    return moved


def test_one_step_is_that_of_pytorch():
    row, start = BY_NAME["cycle_gan"], harness.initial("cycle_gan")
    batch = row.batch_at(0)
    expected = torch_step(tree.flatten(start.params), batch)
    found = {}
    for together in (True, False):
        task = game(together)
        state = init_state(task, harness.SEED, row.element).replace(params=start.params)
        with harness.quick_compilation():
            found[together] = tree.flatten(jax.jit(make_step(task))(state, batch)[0].params)
    for path, leaf in expected.items():
        np.testing.assert_allclose(found[True][path], leaf, 0, 1e-6, err_msg=path)
    path = "discriminator_a/Dense_0/kernel"
    assert np.abs(found[False][path] - expected[path]).max() > 1e-4


def test_collections_are_updated_in_the_order_of_the_phases():
    """Collections go on like buffers of PyTorch code; the parameters are the old ones."""

    def loss(number):
        def function(nets, batch):
            seen = read(nets, "seen", "digits", lambda: jnp.zeros((), jnp.int32))
            write(nets, "seen", "digits", seen * 10 + number)
            values = nets.line(batch["x"])
            return Loss(values, aux={"seen": seen})

        return function

    trains = {1: "line/Dense_0/kernel", 2: "line/Dense_0/bias"}
    phases = [Phase(f"p{n}", loss(n), (path,), optax.sgd(0.1)) for n, path in trains.items()]
    task = replace(line_task(), stages=[Stage(phases, together=True)])
    batch = {name: np.ones((2, *s.shape), s.dtype) for name, s in ELEMENT.items()}
    state, metrics = jax.jit(make_step(task))(line_state(task), batch)
    assert state.collections["seen"]["digits"] == 12
    assert metrics["p1/loss"] == metrics["p2/loss"]


def test_a_parameter_belongs_to_one_of_those_that_play_together():
    fit = line_task().stages[0].phases[0]
    twice = [fit, replace(fit, name="again", trains=("line/Dense_0/bias",))]
    line_state(replace(line_task(), stages=[Stage(twice)]))
    with pytest.raises(GenaxError, match="'fit' and 'again' play together and both train line/"):
        line_state(replace(line_task(), stages=[Stage(twice, together=True)]))
