"""Adapters: where they are, what is trained and kept, and what refuses to be one."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from genax.core import (
    Evaluator,
    Experiment,
    GenaxError,
    Loss,
    Phase,
    Stage,
    Task,
    init_state,
    make_step,
    tree,
)
from genax.core.nets import pure
from genax.front.experiments import configure, load
from genax.nn.lora import SETTINGS, adaptable, adapted, merged
from genax.nn.projection import Projection
from genax.running import sampling
from genax.running.flops import step_flops

ELEMENT = {"x": jax.ShapeDtypeStruct((5,), jnp.float32)}
BATCH = {"x": jnp.asarray(np.random.default_rng(0).standard_normal((4, 5)), jnp.float32)}


class Body(nn.Module):
    """A joint projection, a dense layer, and statistics that training changes."""

    @nn.compact
    def __call__(self, x):
        x = Projection((3, 2, 4), name="qkv")(x)
        x = nn.BatchNorm(use_running_average=False)(x.reshape(len(x), -1))
        return nn.Dense(6, name="dense")(x)


class Networks(nn.Module):
    body: nn.Module
    head: nn.Module
    other: nn.Module


def values(nets, batch):
    return nets.head(nets.body(batch["x"]))


def loss(nets, batch):
    return Loss(jnp.square(values(nets, batch) - 1))


def task_of(**options):
    phase = Phase("fit", loss, ("body", "head"), optax.adam(0.1))
    networks = Networks(Body(), nn.Dense(1), nn.Dense(2))
    evaluators = {"fit": Evaluator(loss)}
    given = lambda nets, batch: nets.other(batch["x"])  # noqa: E731
    return Task(networks, [Stage([phase])], evaluators=evaluators, given=given, **options)


def state_of(task):
    return jax.jit(lambda: init_state(task, 0, ELEMENT))()


def trained(task, steps=3):
    state, step = state_of(task), jax.jit(make_step(task))
    for _ in range(steps):
        state, metrics = step(state, BATCH)
    return state, metrics


def shapes(params):
    return {path: leaf.shape for path, leaf in tree.flatten(params).items()}


def test_only_adapters_and_what_is_named_are_trained():
    base = state_of(task_of())
    task = adapted(task_of(), 2, 4.0, ("body/qkv/value", "**/dense"), trained=("head",))
    assert shapes(state_of(task).params) == {
        "body/dense/adapter/lora_a": (24, 2),
        "body/dense/adapter/lora_b": (2, 6),
        "body/qkv/value/lora_a": (5, 2),
        "body/qkv/value/lora_b": (2, 2, 4),
        "head/bias": (1,),
        "head/kernel": (6, 1),
    }
    before = state_of(task)
    after, _ = trained(task)
    assert shapes(before.fixed["params"]) | shapes({"head": before.params["head"]}) == shapes(
        base.params
    )
    jax.tree.map(np.testing.assert_array_equal, after.fixed, before.fixed)
    moved = {path for path, x in tree.flatten(after.params).items() if np.abs(x).max() > 0}
    assert moved == set(shapes(after.params))
    # The optimizer holds two moments of each, and the count of steps.
    count = sum(x.size for x in jax.tree.leaves(after.params))
    assert sum(x.size for x in jax.tree.leaves(after.opt_state)) == 2 * count + 1


def test_a_new_adapter_changes_nothing_and_its_a_is_uniform():
    task = adapted(task_of(), 16, targets=("**/dense",))
    state = state_of(task)
    adapter = state.params["body"]["dense"]["adapter"]
    np.testing.assert_array_equal(adapter["lora_b"], 0)
    bound = 24**-0.5
    assert 0.9 * bound < np.abs(adapter["lora_a"]).max() <= bound
    assert np.std(adapter["lora_a"]) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize("targets", [("**/qkv",), ("**/query", "**/key"), ("**/qkv/*", "**/dense")])
def test_merged_weights_are_the_same_function(targets):
    task = adapted(task_of(), 2, 4.0, targets, trained=("head",))
    state, metrics = trained(task)
    variables = sampling.variables(state, False)
    plain = merged(variables, task.lora)
    assert shapes(plain) == shapes(sampling.variables(state_of(task_of()), False))
    apply = nn.apply(values, task.networks, mutable=["batch_stats"])
    scored = nn.apply(task.evaluators["fit"].function, task.networks, mutable=["batch_stats"])(
        variables, BATCH
    )[0]
    expected = jnp.square(apply(plain, BATCH)[0] - 1)
    np.testing.assert_allclose(scored.values, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(jnp.square(apply(variables, BATCH)[0] - 1) - expected).max() > 1e-2
    assert np.isfinite(metrics["fit/loss"])


def test_a_pure_function_of_a_network_has_its_adapters():
    def slope(nets, batch):
        function = pure(nets.body, batch["x"])
        return Loss(jax.grad(lambda x: function(x)[0].sum())(batch["x"]).sum(-1))

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.tanh(nn.Dense(6, name="dense")(x))

    networks = Networks(Plain(), nn.Dense(1), nn.Dense(2))
    phase = Phase("fit", slope, ("body",), optax.sgd(0.1))
    task = adapted(Task(networks, [Stage([phase])]), 2, targets=("**/dense",))
    after, _ = trained(task)
    assert np.abs(after.params["body"]["dense"]["adapter"]["lora_b"]).max() > 0


def test_dropout_is_on_in_training_alone():
    task = adapted(task_of(), 2, targets=("**/dense",), dropout=0.5)
    state, _ = trained(task)
    variables = sampling.variables(state, False)

    def drawn(function, seed):
        apply = nn.apply(function, task.networks, mutable=["batch_stats"])
        return apply(variables, BATCH, rngs={"dropout": jax.random.key(seed)})[0].values

    phase, evaluator = task.stages[0].phases[0], task.evaluators["fit"]
    assert np.abs(drawn(phase.loss, 0) - drawn(phase.loss, 1)).max() > 0
    np.testing.assert_array_equal(drawn(evaluator.function, 0), drawn(evaluator.function, 1))


def test_averages_are_of_what_is_trained():
    task = adapted(
        task_of(ema={"body": 0.5, "head": 0.9}), 2, targets=("**/dense",), trained=("head",)
    )
    assert set(state_of(task).ema) == {
        "body/dense/adapter/lora_a",
        "body/dense/adapter/lora_b",
        "head/bias",
        "head/kernel",
    }


def test_the_base_may_be_kept_in_bfloat16():
    task = adapted(task_of(), 2, targets=("**/dense", "**/key"), dtype=jnp.bfloat16)
    state = state_of(task)
    assert {x.dtype for x in jax.tree.leaves(state.fixed)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.float32)}
    # Merged, a kernel is not rounded.
    body = task.plain(sampling.variables(state, False))["params"]["body"]
    assert {body[layer]["kernel"].dtype for layer in ("dense", "qkv")} == {jnp.dtype(jnp.float32)}


def test_adapters_cost_less_than_all_parameters():
    """No gradient of a frozen kernel is computed: a third of a layer's products."""
    loaded = load("experiments/transformer/llama.py:stdlib")
    flops = {}
    for rank in ("0", "1"):
        settings = {"num_kv_heads": "4", "lora.rank": rank, "context": "16"}
        config = configure(loaded, settings)
        experiment = loaded.build(config)
        state = jax.eval_shape(lambda e=experiment: init_state(e.task, 0, e.data.element))
        batch = {"tokens": jax.ShapeDtypeStruct((2, 17), jnp.int32)}
        flops[rank] = step_flops(experiment.task, 0, state, batch)
    assert 0.6 < flops["1"] / flops["0"] < 0.75


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": ("**/nowhere",)}, "'\\*\\*/nowhere' names no linear layer"),
        ({"targets": ("**/dense", "other")}, "'other' names no linear layer that a phase trains"),
        ({"targets": ("**/BatchNorm_0",)}, "names no linear layer"),
        ({"targets": ()}, "at least one"),
        ({"targets": "**/dense"}, "targets are a tuple"),
        ({"rank": 0}, "rank=0 must be"),
        ({"alpha": 0.0}, "alpha=0.0 must be"),
        ({"dropout": 1.0}, "dropout=1.0 must be"),
    ],
)
def test_what_is_refused(options, said):
    with pytest.raises((GenaxError, TypeError), match=said):
        jax.eval_shape(
            lambda: init_state(
                adapted(task_of(), **{"targets": ("**/dense",)} | options), 0, ELEMENT
            )
        )


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, True),
        ({"pretrained": "", "new_head": False}, True),
        ({"pretrained": "run", "new_head": True}, True),
        ({"pretrained": "run", "new_head": False}, False),
    ],
)
def test_a_head_is_trained_unless_it_is_taken(settings, trained):
    @adaptable("head")
    def build(config):
        return Experiment(task_of(), None)

    lora = SETTINGS["lora"] | {"rank": 1, "targets": "**/dense"}
    config = ConfigDict(settings | {"lora": lora})
    assert ("head" in build(config).task.stages[0].phases[0].trains) == trained
    config.lora.rank = 0
    assert build(config).task.stages[0].phases[0].trains == ("body", "head")


def test_a_task_is_adapted_once():
    task = adapted(task_of(), targets=("**/dense",))
    with pytest.raises(GenaxError, match="adapters already"):
        adapted(task)
    assert replace(task, rules=()).lora == task.lora
