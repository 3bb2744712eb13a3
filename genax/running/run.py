"""Opening a run: what is checked, refused, restored or created before the first step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import filelock
import jax
from etils import epath

from genax.core import tree
from genax.core.data import Data
from genax.core.devices import Strategy, abstract, create, make_strategy
from genax.core.errors import GenaxError
from genax.core.experiment import Experiment
from genax.core.step import init_optimizers, init_state, make_step
from genax.core.task import Task, TrainState
from genax.running import fixed, processes, source
from genax.running.checkpoint import Checkpoints
from genax.running.evaluate import evaluation_data
from genax.running.mistakes import check_data, check_element, check_names, check_trained
from genax.running.policy import Keep, parse_best
from genax.running.profile import parse_steps
from genax.running.record import check_same_run, make_record, read_run, start_of, starts_of
from genax.running.transfer import keep_files, load_from
from genax.settings.config import RANGES
from genax.settings.files import write_json
from genax.settings.flat import flat
from genax.settings.ranges import check_ranges

# By folder, old paths to new ones.
Pretrained = Mapping[Any, Mapping[str, str]]


@dataclass(frozen=True)
class Run:
    """An experiment with its settings, in a folder, on the devices at hand.

    source: path of the experiment's file and its variant, by which a folder knows its run.
    devices: None is all at hand.
    text: of the experiment, of which the folder keeps a copy; None if it is not known.
    """

    experiment: Experiment
    config: Mapping[str, Any]
    workdir: epath.Path
    source: tuple[str, str]
    devices: Sequence[jax.Device] | None = None
    text: str | None = None

    @property
    def task(self) -> Task:
        """The experiment's task."""
        return self.experiment.task

    @cached_property
    def strategy(self) -> Strategy:
        """How the step meets the devices."""
        return make_strategy(self.config["parallel"], self.task.rules, self.devices)

    @property
    def primary(self) -> bool:
        """Whether this process is the one that writes."""
        return jax.process_index() == 0

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        steps = self.config["steps"]
        return min(steps, self.task.total_steps or steps)

    @property
    def keep(self) -> Keep:
        """Which checkpoints stay."""
        config = self.config
        return Keep(config["keep"], config["keep_every"], parse_best(config["keep_best"]))

    @property
    def profile(self) -> tuple[int, int] | None:
        """The first and last step to trace."""
        return parse_steps(self.config["profile"], self.total)

    def batch_size(self, stage: int = 0) -> int:
        """The size of a stage's global batches."""
        return self.task.stages[stage].batch_size or self.config["batch_size"]

    def stated_batch_size(self, stage: int = 0) -> str:
        """A stage's batch size with the name of the setting that states it, for messages."""
        own = self.task.stages[stage].batch_size is not None
        name = f"stage {stage}: batch_size" if own else "config.batch_size"
        return f"{name}={self.batch_size(stage)}"

    @property
    def eval_batch_size(self) -> int:
        """The evaluation's global batch size: as set, or the next that the devices divide."""
        shards = self.strategy.shards
        return -(-self.config["eval_batch_size"] // shards) * shards

    @cached_property
    def datas(self) -> tuple[Data, ...]:
        """Training data of each stage."""
        return stage_data(self.experiment)

    def initial(self, stage: int = 0) -> TrainState:
        """The state before the first step, with the optimizers of a stage."""
        elements = tuple(data.element for data in self.datas)
        return init_state(self.task, self.config["seed"], elements, stage)

    def abstract(self, stage: int = 0) -> TrainState:
        """Shapes, dtypes and places of that state."""
        return abstract(partial(self.initial, stage), self.strategy)

    def shapes(self, stage: int = 0) -> TrainState:
        """Shapes and dtypes of that state."""
        return jax.eval_shape(partial(self.initial, stage))

    def abstract_batch(self, stage: int = 0) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a global batch."""
        return {
            name: jax.ShapeDtypeStruct((self.batch_size(stage), *spec.shape), spec.dtype)
            for name, spec in self.datas[stage].element.items()
        }

    def check(self) -> None:
        """Raise GenaxError if the settings do not fit each other or the devices."""
        config, stages = self.config, self.task.stages
        check_ranges(flat(config), RANGES)
        parts = self.strategy.shards * config["accumulate"]
        for stage in range(len(stages)):
            size = self.batch_size(stage)
            if size % parts:
                raise GenaxError(
                    f"{self.stated_batch_size(stage)} is not divisible by {self.strategy.shards} "
                    f"batch shards times {config['accumulate']} microbatches; "
                    f"{(size // parts + 1) * parts} is."
                )
        _ = self.strategy.part  # which there is if the processes can read parts of one size
        self._check_saving()
        k = config["steps_per_call"]
        lengths = [stage.steps for stage in stages if stage.steps is not None]
        for length in [self.total, *lengths]:
            if length % k:
                raise GenaxError(
                    f"config.steps_per_call={k} does not divide {length} steps of a run or stage; "
                    f"{math.gcd(k, length)} does."
                )

    def check_losses(self) -> None:
        """Raise GenaxError if networks are left out, or a loss cannot work by microbatches."""
        for data in self.datas:
            check_element(data.element)
        check_names(self.task)
        check_trained(self.task, self.shapes().params)
        accumulate = self.config["accumulate"]
        for stage in range(len(self.task.stages)) if accumulate > 1 else ():
            step = make_step(self.task, stage, accumulate)
            jax.eval_shape(step, self.shapes(stage), self.abstract_batch(stage))

    def _check_saving(self) -> None:
        config, best, _ = self.config, self.keep.best, self.profile
        if config["checkpoint_minutes"] and jax.process_count() > 1 and not config["log_every"]:
            raise GenaxError(
                "config.checkpoint_minutes is looked at when several processes log; set "
                "config.log_every."
            )
        phases = [phase.name for stage in self.task.stages for phase in stage.phases]
        groups = phases + ["eval"] * bool(self.task.evaluators)
        if best and best.group not in groups:
            raise GenaxError(
                f"config.keep_best: nothing measures {best.name}; a metric begins with one of "
                f"{', '.join(f'{group}/' for group in groups)}."
            )

    def lock(self) -> contextlib.AbstractContextManager:
        """Keep other runs out of the folder; raises GenaxError if one is in it."""
        if "://" in str(self.workdir):
            return contextlib.nullcontext()
        held: Any = contextlib.nullcontext() if not self.primary else self._held()
        if not processes.agreed(held is not None):
            raise GenaxError(f"another run is training in {self.workdir}.")
        return held

    def _held(self) -> contextlib.AbstractContextManager | None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        try:
            return filelock.FileLock(str(self.workdir / "lock")).acquire(blocking=False)
        except filelock.Timeout:
            return None

    @property
    def says(self) -> list[str]:
        """What its data has to say, once each."""
        read = [*dict.fromkeys(self.datas), *evaluation_data(self.experiment)]
        return list(dict.fromkeys(line for data in read for line in getattr(data, "says", ())))

    def record(self) -> dict[str, Any]:
        """The run's JSON record; reads the data's fingerprints.

        Raises GenaxError if data is missing, that of the evaluation too.
        """
        for data in evaluation_data(self.experiment):
            data.fingerprint()
        prints = [data.fingerprint() for data in dict.fromkeys(self.datas)]
        counts, _ = count_parameters(self.experiment)
        sizes = [self.batch_size(stage) for stage in range(len(self.task.stages))]
        digest = self.text and source.digest(self.text)
        return make_record(*self.source, self.config, prints, counts) | {
            "experiment_sha256": digest,
            "batch_sizes": sizes,
        }

    def pretrained(self, init_from: Pretrained | None = None) -> dict[Any, Mapping[str, str]]:
        """What a new run starts with: by folder, old paths to new ones, `init_from` last."""
        return {**self.experiment.pretrained, **(init_from or {})}

    def begin(
        self,
        checkpoints: Checkpoints,
        record: dict[str, Any],
        from_step: int | None = None,
        init_from: Pretrained | None = None,
    ) -> tuple[TrainState, Any, list[str]]:
        """The state to train from, the position in its data (None: the start), and what to say.

        record: of this run; the digest of what is fixed is added to it.
        from_step: continue from this checkpoint and set later ones aside; None is the newest.
        init_from: what a new run takes besides `Experiment.pretrained`, in its form.
        Raises GenaxError if the folder holds another run, or a damaged checkpoint.
        """
        steps = checkpoints.steps
        if from_step is not None and from_step not in steps:
            raise GenaxError(f"{self.workdir} has no checkpoint of step {from_step}, but {steps}.")
        if not steps:
            found, changed = read_run(self.workdir), []
            if found is not None:
                changed = check_same_run(found, record, self.workdir)
            earlier = [] if found is None else starts_of(found)
            record["starts"] = [*earlier, start_of(record, 0, changed)]
            state, says = create(self.initial, self.strategy), []
            last, _ = self.task.stage_at(self.total - 1)
            if left := len(self.task.stages) - 1 - last:
                says.append(f"config.steps={self.total} end in stage {last}: {left} more are left")
            for folder, names in self.pretrained(init_from).items():
                state, report = load_from(folder, state, names)
                for data in dict.fromkeys(self.datas) if report.tables else ():
                    if hasattr(data, "check_weights"):  # those of another tokenizer
                        data.check_weights(folder, self.workdir)
                says.append(f"from {folder}: {report}")
            if self.primary and self.config.get("pretrained"):
                keep_files(self.config["pretrained"], self.workdir)
            if state.fixed:
                record["fixed"] = fixed.keep(state.fixed, self.workdir)
            says += self._keep_text(0)
            self._write(record)
            return state, None, says
        step = steps[-1] if from_step is None else from_step
        saved = checkpoints.record(step)
        changed = check_same_run(saved["run"], record, self.workdir)
        if step > self.total:
            raise GenaxError(
                f"{self.workdir} is at step {step}, beyond the {self.total} asked for; ask "
                "for more (config.steps), or go on from an earlier checkpoint (--from-step)."
            )
        if init_from:
            raise GenaxError(f"{self.workdir} has checkpoints; a partial load starts a new run.")
        stage, start = self.task.stage_at(step)
        k, length = self.config["steps_per_call"], self.task.stages[stage].steps
        end = self.total if length is None else min(self.total, start + length)
        if (end - step) % k:
            raise GenaxError(
                f"config.steps_per_call={k} does not divide the steps {step} to {end} that are "
                f"left; {math.gcd(k, end - step)} does."
            )
        state = checkpoints.restore(step, self.abstract(stage))
        if state.fixed:
            record["fixed"] = saved["run"]["fixed"]
        if self.primary:
            checkpoints.clean()
        aside = [f"set aside {path}" for path in checkpoints.set_aside(after=step)]
        known = self._known(saved["run"])
        if step == self.total:
            says = [
                f"finished: all {step} steps were taken; {self.workdir}/run.json stays as it is",
                *(f"not used, as nothing is trained: setting {line}" for line in changed),
            ]
            if record["experiment_sha256"] != known.get("experiment_sha256"):
                says.append(
                    "the experiment has changed: the end is shown and scored by the file as it is "
                    "now, and the run keeps the copy of what trained it"
                )
            self._write(known)
        else:
            says = [f"resuming at step {step}", *(f"changed setting {line}" for line in changed)]
            says += self._keep_text(step)
            record["starts"] = [*starts_of(known), start_of(record, step, changed)]
            # What was measured stays until it is measured again.
            self._write({**saved["run"], **record})
        return state, saved["position"], says + aside

    def _known(self, saved: dict[str, Any]) -> dict[str, Any]:
        """The record in run.json, which has starts without a checkpoint, or else that saved."""
        with contextlib.suppress(GenaxError):
            return read_run(self.workdir) or saved
        return saved

    def _keep_text(self, step: int) -> list[str]:
        if self.text is None or not self.primary:
            return []
        self.workdir.mkdir(parents=True, exist_ok=True)
        return source.keep(self.text, self.workdir, step)

    def _write(self, record: Mapping[str, Any]) -> None:
        if self.primary:
            self.workdir.mkdir(parents=True, exist_ok=True)
            write_json(self.workdir / "run.json", record)

    def next_stage(self, state: TrainState, stage: int) -> TrainState:
        """The state at the beginning of a stage: its optimizers fresh, all else carried over."""
        places = jax.tree.map(lambda leaf: leaf.sharding, self.abstract(stage).opt_state)
        fresh = jax.jit(partial(init_optimizers, self.task, stage), out_shardings=places)
        return state.replace(opt_state=fresh(state.params))


def stage_data(experiment: Experiment) -> tuple[Data, ...]:
    """The training data of each stage; one given serves all. Raises GenaxError for other counts."""
    datas, stages = experiment.data, len(experiment.task.stages)
    datas = tuple(datas) if isinstance(datas, list | tuple) else (datas,) * stages
    if len(datas) != stages:
        raise GenaxError(f"the experiment gives {len(datas)} data sets for {stages} stages.")
    for data in datas:
        check_data("Experiment.data", data, "element", "fingerprint", "train")
    return datas


def count_parameters(experiment: Experiment) -> tuple[dict[str, int], dict[str, int]]:
    """Number of parameters by network, and how many of them are fixed; nothing is allocated."""
    elements = tuple(data.element for data in stage_data(experiment))
    state = jax.eval_shape(lambda: init_state(experiment.task, 0, elements))
    kept = state.fixed.get("params", {})
    everything, some = (
        {name: sum(x.size for x in jax.tree.leaves(net)) for name, net in params.items()}
        for params in (tree.joined(state.params, kept), kept)
    )
    return everything, some
