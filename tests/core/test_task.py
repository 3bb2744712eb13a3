"""What a task, a stage and a phase cannot be made of, said while they are made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Loss, Phase, Stage, Task, init_state
from genax.core.step import make_step
from genax.running.flops import step_flops
from tests.core.toys import ELEMENT, Line, Networks, line_state, line_task, noisy_error

SGD = optax.sgd(0.1)


def phase(loss=noisy_error, **options):
    return Phase(**{"name": "fit", "trains": ("line",), "optimizer": SGD} | options, loss=loss)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trains": "line"}, r"phase 'fit': trains is a tuple of names.*write \('line',\)"),
        ({"trains": ()}, r"phase 'fit': trains=\(\) and every=1; it trains something"),
        ({"every": 0}, "every=0; it trains something, and every is at least 1"),
        ({"optimizer": optax.adam}, "phase 'fit': optimizer is a function; it is one of optax"),
        ({"loss": Loss(jnp.ones(2))}, r"phase 'fit': loss is a Loss; it is a function of \(nets, "),
    ],
)
def test_phases(options, said):
    with pytest.raises(GenaxError, match=said):
        phase(**options)


@pytest.mark.parametrize(
    ("phases", "options", "said"),
    [
        (phase(), {}, r"Stage.phases is a Phase; it is a list, such as Stage\(\[phase\]\)"),
        ([noisy_error], {}, r"a phase of a stage is a function; it is Phase\(name, loss"),
        ([phase(), phase()], {}, r"different names, got \['fit', 'fit'\]"),
        ([phase()], {"steps": 0}, "a stage's steps=0 must be at least 1"),
        ([phase()], {"batch_size": 0}, "a stage's batch_size=0 must be at least 1"),
        (
            [phase(optimizer="adam")],
            {},
            "'fit' moves by the optimizer of 'adam', which is no phase",
        ),
        (
            [phase(), phase(name="penalty", trains=("line/kernel",), optimizer="fit")],
            {},
            "'penalty' moves by the optimizer of 'fit', which is no phase of its stage that trains",
        ),
    ],
)
def test_stages(phases, options, said):
    with pytest.raises(GenaxError, match=said):
        Stage(phases, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"networks": {"line": Line()}}, "Task.networks is a dict; it is one Linen module whose"),
        ({"networks": Line}, "Task.networks is a type; it is one Linen module"),
        ({"stages": Stage([phase()])}, r"Task.stages is a Stage; it is a list"),
        ({"stages": []}, "a task needs at least one stage"),
        ({"stages": [phase()]}, r"a stage of a task is a Phase; it is Stage\(\[phase, ...\]\)"),
        ({"stages": [Stage([phase()])] * 2}, "only the last stage of a task may leave"),
        ({"samplers": {"images": noisy_error}}, r"'images' of a task is a function; it is Sampler"),
        ({"evaluators": {"loss": noisy_error}}, r"'loss' of a task is a function; it is Evaluator"),
        ({"ema": {"line": 1.5}}, "Task.ema: the decay 1.5 of 'line' is not from 0 to 1"),
        ({"streams": "noise"}, r"Task.streams is a tuple of names, not a string; write \('noise',"),
        ({"summed": "pool"}, "Task.summed is a tuple of names, not a string"),
    ],
)
def test_tasks(options, said):
    with pytest.raises(GenaxError, match=said):
        Task(**{"networks": Networks(Line()), "stages": [Stage([phase()])]} | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ema": {"lines": 0.9}}, "Task.ema: pattern 'lines' matches no parameter"),
        ({"fixed": ("lines",)}, "Task.fixed: pattern 'lines' matches no parameter"),
        ({"summed": ("pool",)}, r"Task.summed names \['pool'\], but the networks have \[\]"),
    ],
)
def test_names_of_nothing(options, said):
    with pytest.raises(GenaxError, match=said):
        line_state(line_task(**options))


def test_a_phase_that_trains_what_is_not_there():
    """Also in a later stage."""
    wrong = phase(trains=("lines",))
    for stages in ([Stage([wrong])], [Stage([phase()], 3), Stage([wrong])]):
        with pytest.raises(
            GenaxError, match="phase 'fit': the pattern of trains 'lines' matches no"
        ):
            init_state(Task(Networks(Line()), stages), 0, ELEMENT)


def averaged(nets, batch):
    return Loss(noisy_error(nets, batch).values.mean())


def flattened(nets, batch):
    return Loss(jnp.ones((len(batch["index"]) * 3,)))


def terms(nets, batch):
    return {"right": noisy_error(nets, batch), "wrong": averaged(nets, batch)}


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (averaged, "the loss of phase 'fit' returned one number for 2 elements; it returns values"),
        (flattened, r"returned values of shape \[6\] for 2 elements"),
        (terms, "returned one number as 'wrong' for 2 elements"),
        (lambda nets, batch: 0.0, "the loss of phase 'fit' returned float; it returns a genax"),
    ],
)
def test_losses_that_are_averaged_already(loss, said):
    with pytest.raises(GenaxError, match=said):
        line_state(line_task(phase(loss)))


def test_a_loss_that_is_averaged_in_a_step_alone():
    """Values of one axis may fit the two elements that initialisation sees, and no other batch."""

    def two(nets, batch):
        return Loss(nets.line(batch["x"])[:2])

    task = line_task(phase(two))
    state = line_state(task)
    batch = {name: jnp.ones((8, *one.shape), one.dtype) for name, one in ELEMENT.items()}
    with pytest.raises(GenaxError, match=r"returned values of shape \[2\] for 8 elements"):
        jax.eval_shape(make_step(task), state, batch)


def test_a_loss_of_the_whole_batch_returns_any_shape():
    """It is computed once, on all rows, so its own mean is that of the batch."""

    def embed(nets, batch):
        return nets.line(batch["x"])

    def contrast(nets, batch, rows):
        return Loss(jnp.square(rows[:, None] - rows).mean())

    line_state(line_task(phase(contrast, embed=embed)))
    with pytest.raises(GenaxError, match="the loss of phase 'fit' returned"):
        line_state(line_task(phase(lambda nets, batch, rows: rows, embed=embed)))


def test_phases_share_an_optimizer():
    """Two phases that are one Adam: its momenta and its count of steps go on from one to other."""

    def scaled(nets, batch):
        return Loss(3.0 * noisy_error(nets, batch).values)

    adam = optax.adam(0.1)
    phases = [phase(optimizer=adam), phase(scaled, name="penalty", optimizer="fit", every=2)]
    task = line_task(*phases)
    state = line_state(task)
    assert list(state.opt_state) == ["fit"]
    batch = {"x": jnp.ones((2, 4)), "y": jnp.ones(2)}
    step = jax.jit(make_step(task))
    counts = []
    for _ in range(3):
        state, _ = step(state, batch)
        counts.append(int(state.opt_state["fit"][0].count))
    assert counts == [2, 3, 5]
    alone = step_flops(line_task(phases[0]), 0, state, batch)
    assert step_flops(task, 0, state, batch) == 1.5 * alone > 0
    apart = [phases[0], phase(scaled, name="penalty", optimizer=adam, every=2)]
    other = line_task(*apart)
    others, _ = jax.jit(make_step(other))(line_state(other), batch)
    own, _ = step(line_state(task), batch)
    moved = [np.asarray(jax.tree.leaves(one.params)[0]) for one in (own, others)]
    assert np.abs(moved[0] - moved[1]).max() > 1e-3
