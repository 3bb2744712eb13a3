"""Parts of an experiment, replaced by name."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from genax.core import (
    Evaluator,
    Experiment,
    GenaxError,
    Loss,
    Phase,
    Sampler,
    Stage,
    Task,
    init_state,
)


class Networks(nn.Module):
    """Two networks and a number."""

    first: nn.Module
    second: nn.Module
    size: int = 3


def error(nets, batch):
    return Loss(nets.second(nets.first(batch["x"])))


def other(nets, batch):
    return Loss(2 * nets.second(nets.first(batch["x"])))


def experiment():
    fit, polish = (Phase(name, error, ("first", "second"), optax.sgd(1.0)) for name in "ab")
    task = Task(
        Networks(nn.Dense(4), nn.Dense(1)),
        [Stage([fit], 3), Stage([fit, polish], batch_size=8)],
        samplers={"images": Sampler(error, print), "texts": Sampler(error, print)},
        evaluators={"error": Evaluator(error)},
        ema={"first": 0.9},
    )
    return Experiment(task, "data", "test", {"folder": {}})


def test_losses_and_optimizers_of_all_stages_or_one():
    adam = optax.adam(1e-3)
    everywhere = experiment().replace(losses={"a": other}, optimizers={"b": adam}).task.stages
    assert [phase.loss for stage in everywhere for phase in stage.phases] == [other, other, error]
    assert everywhere[1].phases[1].optimizer is adam
    assert (everywhere[0].steps, everywhere[1].batch_size) == (3, 8)
    once = experiment().replace(losses={"a": other}, stage=1).task.stages
    assert [phase.loss for stage in once for phase in stage.phases] == [error, other, error]


def test_networks():
    changed = experiment().replace(networks={"first": nn.Dense(9)})
    element = {"x": jax.ShapeDtypeStruct((2,), jnp.float32)}
    params = jax.eval_shape(lambda: init_state(changed.task, 0, element)).params
    assert params["first"]["kernel"].shape == (2, 9)
    assert params["second"]["kernel"].shape == (9, 1)
    assert experiment().task.networks.first.features == 4


def test_samplers_evaluators_and_data():
    mine, score = Sampler(other, print), Evaluator(other)
    changed = experiment().replace(
        samplers={"images": mine, "texts": None, "more": mine},
        evaluators={"error": None, "score": score},
        data="mine",
        evaluation=None,
    )
    assert dict(changed.task.samplers) == {"images": mine, "more": mine}
    assert dict(changed.task.evaluators) == {"score": score}
    assert (changed.data, changed.evaluation, changed.pretrained) == ("mine", None, {"folder": {}})
    assert changed.task.ema == {"first": 0.9}
    assert experiment().replace().evaluation == "test"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"losses": {"c": other}}, "no phase 'c'; there is a, b"),
        ({"optimizers": {"b": None}, "stage": 0}, "no phase 'b'; there is a"),
        ({"losses": {"a": other}, "stage": 2}, "no phase 'a'; there is "),
        ({"networks": {"third": nn.Dense(1)}}, "no network 'third'; there is first, second"),
        ({"networks": {"size": 4}}, "no network 'size'"),
        ({"samplers": {"pictures": None}}, "no sampler 'pictures'; there is images, texts"),
        ({"evaluators": {"errors": None}}, "no evaluator 'errors'; there is error"),
    ],
)
def test_names_that_are_not_there(parts, said):
    with pytest.raises(GenaxError, match=said):
        experiment().replace(**parts)
