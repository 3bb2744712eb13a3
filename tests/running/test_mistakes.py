"""Batches that are not as promised, networks that nothing trains, and whose function failed."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from genax.core import Evaluator, GenaxError, Phase, Sampler, Stage, Task
from genax.running.mistakes import (
    Checked,
    check_batch,
    check_element,
    check_names,
    check_rows,
    check_trained,
    told,
)
from tests.core import test_fixed
from tests.core.toys import Line, Networks, line_task, noisy_error

ELEMENT = {
    "image": jax.ShapeDtypeStruct((2, 2, 1), np.float32),
    "label": jax.ShapeDtypeStruct((), np.int32),
}


def batch(**other):
    found = {"image": np.zeros((4, 2, 2, 1), np.float32), "label": np.zeros(4, np.int32)}
    return {**found, "id": np.arange(4), **other}


def test_a_batch_as_promised():
    texts = np.array(["a"] * 4, object)
    masks = {"mask": np.ones(4), "a_mask": np.ones(4)}
    check_batch("a batch", batch(caption=texts, index=np.arange(4), **masks), ELEMENT, 4)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"image": np.full((4, 2, 2, 1), 255, np.uint8)},
            r"a batch has 'image' as uint8\[4, 2, 2, 1\], but data.element promises "
            r"float32\[4, 2, 2, 1\]",
        ),
        ({"image": np.zeros((4, 1, 2, 2), np.float32)}, r"'image' as float32\[4, 1, 2, 2\]"),
        ({"label": np.zeros(4, np.int64)}, r"'label' as int64\[4\].*promises int32\[4\]"),
        ({"label": np.zeros(3, np.int32)}, r"'label' as int32\[3\].*promises int32\[4\]"),
        ({"labels": np.zeros(4)}, r"a batch has 'labels', but data.element has not \(in both: i"),
    ],
)
def test_batches_that_are_not_as_promised(other, said):
    with pytest.raises(GenaxError, match=said):
        check_batch("a batch", batch(**other), ELEMENT, 4)


def test_a_batch_that_lacks_an_array():
    found = batch()
    found.pop("label")
    with pytest.raises(GenaxError, match=r"data.element has 'label', but a batch has not"):
        check_batch("a batch", found, ELEMENT, 4)


@pytest.mark.parametrize("name", ["id", "index", "mask", "stage", "step"])
def test_names_that_a_batch_gets_from_genax(name):
    with pytest.raises(GenaxError, match=f"data.element has '{name}', which a batch gets from gen"):
        check_element({**ELEMENT, name: ELEMENT["label"]})


class Batches:
    """An iterator of given batches."""

    def __init__(self, *batches):
        self.batches, self.taken = list(batches), 0

    def __next__(self):
        self.taken += 1
        return self.batches[self.taken - 1]

    def get_state(self):
        return {"examples": self.taken}

    def set_state(self, state):
        self.taken = state["examples"]


def test_the_first_batch_of_an_iterator_is_checked():
    wrong = batch(label=np.zeros(4, np.int64))
    checked = Checked(Batches(batch(), wrong), ELEMENT, 4)
    assert next(checked)["label"].dtype == np.int32
    next(checked)
    assert checked.get_state() == {"examples": 2}
    checked.set_state({"examples": 1})
    assert next(checked) is wrong
    with pytest.raises(GenaxError, match="a training batch has 'label' as int64"):
        next(Checked(Batches(wrong), ELEMENT, 4))
    unnamed = batch()
    unnamed.pop("id")
    with pytest.raises(GenaxError, match='no "id", the numbers of its records'):
        next(Checked(Batches(unnamed), ELEMENT, 4))


def test_networks_that_no_phase_trains():
    shapes = jax.eval_shape(lambda: test_fixed.state_of(test_fixed.task(fixed=())))
    with pytest.raises(GenaxError, match=r"no phase trains the network 'encoder'.*Task.fixed"):
        check_trained(test_fixed.task(fixed=()), shapes.params)
    check_trained(test_fixed.task(("head", "encoder/Dense_0/bias"), fixed=()), shapes.params)
    fixed = jax.eval_shape(lambda: test_fixed.state_of(test_fixed.task()))
    check_trained(test_fixed.task(), fixed.params)


def test_a_network_that_a_later_stage_trains():
    one = line_task()
    first = replace(one.stages[0], steps=1)
    later = replace(first.phases[0], trains=("other",))
    two = replace(one, stages=(first, replace(first, phases=(later,), steps=None)))
    params = {"line": {"kernel": 0}, "other": {"kernel": 0}}
    check_trained(two, params)
    with pytest.raises(GenaxError, match="no phase trains the network 'other'"):
        check_trained(one, params)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (
            {"a": np.zeros((3, 2))},
            r"it returned a of shape \[3, 2\] for 4 elements; it returns one",
        ),
        (np.zeros(()), r"it returned shape \[\] for 4 elements"),
        ({}, "it returned nothing for 4 elements"),
    ],
)
def test_rows(shapes, said):
    with pytest.raises(GenaxError, match=said):
        check_rows("sample", shapes, 4)
    check_rows("sample", {"a": np.zeros((4, 2)), "b": np.zeros(4)}, 4)


def test_whose_function_failed():
    said = r"sampler 'a' fails: ZeroDivisionError: .*test_mistakes.py"
    with pytest.raises(GenaxError, match=said), told("sampler 'a'"):
        _ = 1 / 0
    with pytest.raises(GenaxError, match=r"^sampler 'a': too few$"), told("sampler 'a'"):
        raise GenaxError("too few")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("phase", "fit/line"),
        ("phase", ""),
        ("phase", "eval"),
        ("sampler", "a/b"),
        ("evaluator", "a b"),
    ],
)
def test_names_of_metrics_and_files(kind, name):
    phase = Phase(name if kind == "phase" else "fit", noisy_error, ("line",), optax.sgd(0.1))
    others = {"sampler": {"samplers": {name: Sampler(noisy_error, str)}}}
    others["evaluator"] = {"evaluators": {name: Evaluator(noisy_error)}}
    task = Task(Networks(Line()), [Stage([phase])], **others.get(kind, {}))
    with pytest.raises(GenaxError, match=f"a {kind} is named {name!r}; a name has letters, digits"):
        check_names(task)
