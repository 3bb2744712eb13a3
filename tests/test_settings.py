"""Settings of every experiment: each number has a range, and no value ends in a traceback."""

from __future__ import annotations

import itertools
from pathlib import Path

import jax
import pytest

from genax.cli.compile import ONCE, counted
from genax.core import GenaxError, make_step
from genax.core.data import Shard
from genax.front.experiments import configure, load
from genax.running.evaluate import evaluation_data
from genax.settings import base_config
from genax.settings.config import RANGES
from genax.settings.flat import flat
from genax.settings.ranges import check_ranges
from tests.test_experiments import FILES, each_file, variants

VALUES = ("0", "-1", "1.5", "1e20", "", "nan")
SMALLEST = ("digits", "smoke", "stdlib", "smoke-classes")
# Of the loop's settings, those that the traced step depends on.
TRACED = ("batch_size", "accumulate", "dtype", "remat")


def _numbers(value) -> bool:
    several = value if isinstance(value, tuple) else (value,)
    return all(type(one) in (int, float) for one in several)


@pytest.mark.parametrize(("file", "variant"), variants())
def test_every_number_has_a_range_that_holds_it(file, variant):
    loaded = load(f"{file}:{variant}")
    settings = flat(configure(loaded, {}))
    ranges = {**RANGES, **loaded.module.RANGES}
    check_ranges(settings, ranges)
    assert [key for key, value in settings.items() if _numbers(value) and key not in ranges] == []


@each_file
def test_flops_are_counted_with_values_in_range(file):
    loaded = load(file)
    settings = flat(counted(configure(loaded, {}), **ONCE))
    check_ranges(settings, {**RANGES, **loaded.module.RANGES})


@pytest.mark.long
@each_file
def test_any_value_is_a_run_or_a_sentence(file, tmp_path):
    """Built, checked and traced like a run of `genax train`; read, if data may depend on it.

    A setting that experiments of a chapter share is traced in the first of them.
    """
    variant = next(name for name in SMALLEST if name in load(file).module.VARIANTS)
    loaded = load(f"{file}:{variant}")
    base = flat(configure(loaded, {}))
    loops, refused, read = flat(base_config()), set(), set()
    before = [one for one in FILES if one < file and Path(one).parent == Path(file).parent]
    traced = {key for one in before for key in flat(configure(load(one), {}))} - set(TRACED)
    for key, text in itertools.product(base, VALUES):
        try:
            config = configure(loaded, {key: text})
            run = loaded.run(config, tmp_path, jax.devices()[:1])
            run.check()
            own = key not in loops
            if own and isinstance(base[key], str):
                datas = (*run.datas, *evaluation_data(run.experiment))
                if datas not in read:
                    _read(run)
                    read.add(datas)
            elif (own or key in TRACED) and key not in traced:
                # One value that is taken stands for the others: numbers are constants of the step.
                _trace(run)
                traced.add(key)
        except GenaxError:
            refused.add((key, text))
        except Exception as error:
            raise AssertionError(f"--config.{key}={text} ends in a traceback") from error
    assert {("steps", "0"), ("batch_size", "-1"), ("num_samples", "nan")} <= refused
    assert ("num_samples", "0") not in refused


def _trace(run) -> None:
    step = make_step(run.task, 0, run.config["accumulate"])
    jax.eval_shape(step, run.shapes(), run.abstract_batch())


def _read(run) -> None:
    run.record()
    next(run.datas[0].train(run.config["batch_size"], 0, Shard()))
    for data in evaluation_data(run.experiment):
        next(iter(data.evaluate(run.eval_batch_size, Shard())))
