"""Runs that are opened to be read: samples, scores, metrics and weights of a folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from genax.core.errors import GenaxError
from genax.core.task import Sampler, Task
from genax.front.experiments import Definition, reopen
from genax.front.metrics import read_metrics
from genax.front.restore import open_checkpoints, restore_variables, steps_of
from genax.front.samples import Samples, check_asked
from genax.running import sampling
from genax.running.compilation import keep_programs
from genax.running.evaluate import Scores, evaluate
from genax.running.results import write_result
from genax.running.run import Run
from genax.running.source import digest as digest_of
from genax.running.source import older

# Seconds after which a bar appears.
BAR_AFTER = 5.0


@dataclass(frozen=True)
class OpenedRun:
    """A run in a folder.

    run: the experiment built with the run's settings, as training sees it.
    given: whether a user named the experiment, so that no copy takes its place.
    changes: settings that differ from those of the run.
    """

    run: Run
    given: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def workdir(self) -> epath.Path:
        """The run's folder."""
        return self.run.workdir

    @property
    def task(self) -> Task:
        """The networks, and the game played with them."""
        return self.run.task

    @property
    def config(self) -> ConfigDict:
        """A copy of the settings."""
        return ConfigDict(self.run.config)

    @property
    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints, oldest first."""
        return steps_of(self.workdir)

    def metrics(self) -> dict[str, np.ndarray]:
        """Return what the run has logged, by name: see `read_metrics`."""
        return read_metrics(self.workdir)

    def variables(self, step: int | None = None, averaged: bool = True) -> dict[str, Any]:
        """Return the Linen variables of a checkpoint, as `run.task.networks.apply` takes them.

        Adapters are merged, as the networks alone know of none.
        step: None is the newest.
        averaged: whether averages take the place of what is averaged.
        """
        run = self.at(step)
        return dict(run.task.plain(restore_variables(run, step, averaged)[0]))

    def sampler(self, name: str | None = None) -> tuple[str, Sampler]:
        """Return a sampler with its name; None is the task's first."""
        samplers = self.task.samplers
        found = name or next(iter(samplers), "")
        if found not in samplers:
            raise GenaxError(f"no sampler {found!r}; the task has {', '.join(samplers) or 'none'}.")
        return found, samplers[found]

    def sample(
        self,
        num: int | None = None,
        *,
        name: str | None = None,
        prompt: str | None = None,
        seed: int = 0,
        step: int | None = None,
        averaged: bool = True,
    ) -> Samples:
        """Draw samples. Sample i is the same however many there are.

        If it takes long, a bar counts the samples on a terminal.

        num: None is config.num_samples.
        name: of the sampler; None is the task's first.
        prompt: what the samples continue or show, if the sampler takes one.
        seed: of the noise.
        step: of the checkpoint; None is the newest.
        averaged: whether averages take the place of what is averaged.
        Raises GenaxError for what this run cannot draw, before anything is read.
        """
        run = self.at(step)
        name, sampler = OpenedRun(run).sampler(name)
        num = run.config["num_samples"] if num is None else num
        check_asked(name, sampler, num, seed, prompt)
        condition = None
        if prompt is not None and sampler.prompt is not None:
            condition = sampler.prompt(prompt, num, self.workdir)
        variables, step = restore_variables(run, step, averaged)
        batch = sampling.sampling_batch(run.task, sampler, num, self.workdir, condition, step)
        size = run.eval_batch_size
        with _bar(run, "sample", num) as bar:
            drawn = sampling.draw(run.task, sampler, variables, batch, seed, size, bar.update)
        rendered = sampler.render(drawn, batch, self.workdir)
        place = self.workdir / "samples" / f"{name}_{step:08d}_seed{seed}"
        return Samples(drawn, rendered, batch, step, place)

    def evaluate(self, step: int | None = None, averaged: bool = True) -> Scores:
        """Return the scores of a checkpoint on the evaluation data, and what is said of them.

        A file in the run's folder keeps them: see `write_result`. If it takes long, a bar
        counts the examples on a terminal.

        step: None is the newest.
        averaged: whether averages take the place of what is averaged.
        Raises GenaxError if the experiment has no evaluators.
        """
        run = self.at(step)
        if not run.task.evaluators:
            raise GenaxError(f"the experiment of {self.workdir} has no evaluators.")
        variables, step = restore_variables(run, step, averaged)
        with _bar(run, "example") as bar:
            scores = evaluate(
                run.task,
                variables,
                run.experiment.evaluation,
                run.eval_batch_size,
                self.workdir,
                run.strategy,
                step=step,
                progress=bar.update,
            )
        if run.primary:
            try:
                write_result(run, scores, step, averaged, self.changes)
            except OSError as error:  # scores may have taken long, and a run may be read only
                print(f"no file keeps these scores: {error}.", file=sys.stderr)
        return scores

    def at(self, step: int | None) -> Run:
        """Return the run with the experiment as it was when it saved a checkpoint.

        It differs if the experiment's file was changed while the run was trained.
        step: of the checkpoint; None is the newest.
        """
        if self.given or not older(self.workdir):
            return self.run
        checkpoints, step = open_checkpoints(self.workdir, step)
        digest = checkpoints.record(step)["run"].get("experiment_sha256")
        checkpoints.close()
        if digest is None or (self.run.text and digest == digest_of(self.run.text)):
            return self.run
        return reopen(self.workdir, self.changes, digest=digest)

    def newest(self, step: int | None = None) -> int:
        """Return the step of a checkpoint that is there; None is the newest."""
        checkpoints, found = open_checkpoints(self.workdir, step)
        checkpoints.close()
        return found

    def __repr__(self) -> str:
        experiment = ":".join((Path(self.run.source[0]).name, self.run.source[1]))
        steps = self.checkpoints
        at = f"at step {steps[-1]} of {self.run.total}" if steps else "without a checkpoint"
        return f"<run of {experiment} in {self.workdir}, {at}>"


def _bar(run: Run, unit: str, total: int | None = None) -> tqdm:
    """Return a bar for the terminal of the process that reports."""
    hidden = None if run.primary else True  # None: unless stderr is a terminal
    return tqdm(total=total, unit=unit, delay=BAR_AFTER, disable=hidden, leave=False)


def open_run(
    workdir: epath.PathLike,
    experiment: str | Path | Definition | None = None,
    config: Mapping[str, Any] | None = None,
) -> OpenedRun:
    """Open the run in a folder, to read it.

    experiment: what it is a run of; None finds its file, or the copy that the run keeps.
    config: changes of its settings, such as {"temperature": 0.5}.
    Raises GenaxError if there is no run.
    """
    run = reopen(workdir, config, experiment)
    keep_programs(run.config.get("compile_cache", True))
    return OpenedRun(run, experiment is not None, config or {})
