"""The toy with an evaluation and a sampler that take a second, and say when they begin."""

import time
from dataclasses import replace

from genax.core import Evaluator
from tests.cli import toy

DEFAULTS, VARIANTS = toy.DEFAULTS, toy.VARIANTS


def build(config):
    """The toy's experiment, slowed down."""
    experiment = toy.build(config)
    task = experiment.task

    def score(rows, workdir):
        _pause(workdir / "eval")
        return {"mean": rows.mean()}

    def condition(num, workdir):
        _pause(workdir / "sample")
        return {}

    sampler = replace(task.samplers["outputs"], condition=condition)
    evaluator = Evaluator(lambda nets, batch: batch["y"], score)
    task = replace(task, samplers={"outputs": sampler}, evaluators={"error": evaluator})
    return replace(experiment, task=task)


def _pause(mark):
    mark.touch()
    time.sleep(1)
