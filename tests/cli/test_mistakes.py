"""Mistakes in a user's own file that would pass silently, or be said after training only."""

import json

import pytest

from tests.cli.command import TOY, call, metrics, succeed, train

OWN = f"""
from dataclasses import dataclass, replace
from genax.front.experiments import load
from genax.core import *
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

toy = load({TOY!r}).module
DEFAULTS = toy.DEFAULTS


def changed(config, **options):
    experiment = toy.build(config)
    return replace(experiment, task=replace(experiment.task, **options))


def samplers(config, function, *options):
    return changed(config, samplers={{"mine": Sampler(function, toy.as_text, *options)}})


def evaluators(config, *function, **options):
    return changed(config, evaluators={{"mine": Evaluator(*function, **options)}})


class Wrong(toy.Points):
    what = "x"

    def train(self, *arguments):
        found = super().train(*arguments)
        make = found.__class__.__next__

        class Batches(found.__class__):
            def __next__(inner):
                return self.spoilt(make(inner))

        found.__class__ = Batches
        return found

    def evaluate(self, *arguments):
        return map(self.spoilt, super().evaluate(*arguments))

    def spoilt(self, batch):
        return {{**batch, "x": (255 * batch["x"]).astype(np.uint8)}}


class Wide(toy.Points):
    @property
    def element(self):
        return {{**super().element, "x": jax.ShapeDtypeStruct((9,), np.float32)}}

    def evaluate(self, *arguments):
        for batch in super().evaluate(*arguments):
            yield {{**batch, "x": np.pad(batch["x"], ((0, 0), (0, 1)))}}


class Two(nn.Module):
    regressor: nn.Module
    spare: nn.Module


def build(config):
    return BUILD
"""


@pytest.fixture
def write(tmp_path):
    """(what build returns) -> the path of an experiment."""

    def make(build):
        path = tmp_path / "own.py"
        path.write_text(OWN.replace("BUILD", build))
        return str(path)

    return make


MISTAKES = {
    "batch": (
        "replace(toy.build(config), data=Wrong(96))",
        "a training batch has 'x' as uint8[16, 8], but data.element promises float32[16, 8]",
    ),
    "evaluation batch": (
        "replace(toy.build(config), evaluation=Wrong(40))",
        "an evaluation batch has 'x' as uint8[16, 8]",
    ),
    "evaluation of another element": (
        "replace(toy.build(config), evaluation=Wide(40))",
        "evaluator 'error' fails: ",
    ),
    "data of another kind": (
        "replace(toy.build(config), data=np.zeros(3))",
        "Experiment.data is a ndarray without element, fingerprint, train; it is an object of the",
    ),
    "evaluation data of another kind": (
        "replace(toy.build(config), evaluation={'x': 3})",
        "the data of evaluator 'error' is a dict without element, fingerprint, evaluate",
    ),
    "sampler that fails": (
        "samplers(config, lambda nets, batch: nets.regressor(batch['y']))",
        "sampler 'mine' fails: KeyError: 'y' (",
    ),
    "sampler of a wrong shape": (
        "samplers(config, lambda nets, batch: nets.regressor(jnp.ones((4, 7))))",
        "sampler 'mine' fails: ScopeParamShapeError",
    ),
    "sampler with a loss": (
        "samplers(config, lambda nets, batch: Loss(jnp.ones(4)))",
        "sampler 'mine': it returned a Loss; a sampler returns samples, an evaluator a Loss",
    ),
    "sampler of one sample": (
        "samplers(config, lambda nets, batch: toy.draw(nets, batch)[:1])",
        "sampler 'mine': it returned shape [1] for 4 elements; it returns one sample for each",
    ),
    "sampler with a condition that fails": (
        "samplers(config, toy.draw, lambda num: {})",
        "sampler 'mine' fails: TypeError: ",
    ),
    "sampler with a condition of other rows": (
        "samplers(config, toy.draw, lambda num, workdir: {'a': np.zeros(num + 1)})",
        "sampler 'mine': the condition of a sampler gives 'a' of shape (5,) for 4 samples",
    ),
    "evaluator that fails": (
        "evaluators(config, lambda nets, batch: nets.regressor(batch['z']))",
        "evaluator 'mine' fails: KeyError: 'z' (",
    ),
    "evaluator of a mean": (
        "evaluators(config, lambda nets, batch: Loss(batch['x'].mean()))",
        "evaluator 'mine': its function returned one number for 16 elements; it returns values",
    ),
    "evaluator without a loss": (
        "evaluators(config, lambda nets, batch: batch['x'])",
        "evaluator 'mine': its function returned DynamicJaxprTracer; it returns a genax.core.Loss",
    ),
    "evaluator of other rows": (
        "evaluators(config, lambda nets, batch: batch['x'].sum(0), lambda rows, workdir: {})",
        "evaluator 'mine': it returned shape [8] for 16 elements; it returns one row for each",
    ),
    "network that nothing trains": (
        "changed(config, networks=Two(toy.Regressor(4), nn.Dense(1)), "
        "given=lambda nets, batch: nets.spare(batch['x']))",
        "no phase trains the network 'spare', which would stay as it was drawn; name it in the",
    ),
    "key that is added": ("config.__setattr__('wdith', 3)", "sets or reads config.wdith"),
    "key that is read": ("config.wdith", "config.wdith, which DEFAULTS lacks; add it there"),
    "item that is read": ("config['wdith']", "config.wdith, which DEFAULTS lacks; add it there"),
    "type of a setting": ("config.__setattr__('steps', 'x')", "sets a setting to another type"),
}


@pytest.mark.parametrize(("build", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_said_before_the_first_step(build, said, write, tmp_path):
    folder = tmp_path / "run"
    sentence = call(*train(write(build), folder, steps=2)).refusal()
    assert said in sentence
    assert not metrics(folder)
    assert not list(folder.glob("checkpoints/*"))


def test_an_error_of_the_file_itself_is_no_mistake_in_a_setting(write, tmp_path):
    with pytest.raises(AttributeError, match="'Toys'"):
        call(*train(write("type('Toys', (), {})().width"), tmp_path / "run"))


def test_a_sampler_that_a_later_stage_breaks(write, tmp_path):
    """It is said in the first one."""
    draw = "samplers(config, lambda nets, batch: toy.draw(nets, batch)[: 4 - batch['stage']])"
    sentence = call(*train(write(draw), tmp_path, first_stage=2, steps=4)).refusal()
    assert "sampler 'mine': it returned shape [3] for 4 elements" in sentence
    assert not metrics(tmp_path)


def test_a_run_without_samples_needs_no_right_sampler(write, tmp_path):
    wrong = write("samplers(config, lambda nets, batch: batch['y'])")
    succeed(*train(wrong, tmp_path / "run", steps=2, num_samples=0))


def test_a_run_that_ends_before_its_last_stage_says_so(write, tmp_path):
    out = succeed(*train(TOY, tmp_path, first_stage=2, steps=2)).out
    assert "config.steps=2 end in stage 0: 1 more are left" in out


COUNTED = """changed(
        config,
        samplers={"mine": Sampler(lambda *given: print("draws") or toy.draw(*given), toy.as_text)},
        evaluators={"mine": Evaluator(lambda *given: print("scores") or toy.squared_error(*given))},
    )"""


def test_the_rehearsal_traces_what_the_run_uses(write, tmp_path):
    """What it traced is not traced again, so it costs no time."""
    settings = {"steps": 4, "sample_every": 1, "eval_every": 1}
    out = succeed(*train(write(COUNTED), tmp_path / "run", **settings)).out
    assert out.count("draws") == out.count("scores") == 1


def test_metrics_of_an_evaluator_that_are_one_number(write, tmp_path):
    """They are as they are, beside those that have one value an element."""
    metric = "evaluators(config, lambda nets, batch: Loss(batch['y'], aux={'two': 2.0}))"
    succeed(*train(write(metric), tmp_path, steps=2))
    assert (
        json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["eval/mine/two"] == 2
    )
