"""The loop: it moves batches, states and metrics, and knows nothing of what is trained."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from genax.core import evaluate as evaluation
from genax.core.checkpoint import Checkpoints
from genax.core.errors import GenaxError
from genax.core.flops import matmul_peak, step_flops
from genax.core.logging import Logger, NoLogger
from genax.core.prefetch import Prefetch
from genax.core.record import write_json
from genax.core.run import Run
from genax.core.step import make_step, make_steps
from genax.core.task import TrainState
from genax.core.watch import Watch


@dataclass(frozen=True)
class Outcome:
    """How a run ended. scores: of its end. signal: what interrupted it, if anything did."""

    step: int
    scores: Mapping[str, float] = field(default_factory=dict)
    signal: int | None = None


def train(
    run: Run,
    from_step: int | None = None,
    change: Callable[[TrainState], TrainState] | None = None,
) -> Outcome:
    """Train to the end, from the newest checkpoint or from the start (see `Run.begin`).

    The end checkpoints, samples and evaluates. A signal to terminate saves and returns.
    Raises GenaxError for what a user can put right.
    """
    run.check()
    record = run.record()
    with run.lock():
        return _train(run, record, from_step, change)


def _train(run: Run, record: dict, from_step: int | None, change: Any) -> Outcome:
    checkpoints = Checkpoints(run.workdir, run.config["keep"])
    try:
        state, position, says = run.begin(checkpoints, record, from_step, change)
        step = int(state.step)
        logger = (
            Logger(run.workdir, step, run.total, run.config["wandb"], dict(run.config))
            if run.primary
            else NoLogger()
        )
        try:
            for line in says:
                logger.say(line)
            with Interrupt() as interrupt:
                session = _Session(run, record, checkpoints, logger, interrupt)
                return session.play(state, step, position)
        finally:
            logger.close()
    finally:
        checkpoints.close()


class _Session:
    """The steps of one process, and what happens between them."""

    def __init__(self, run: Run, record: dict, checkpoints: Checkpoints, logger: Any, interrupt):
        self.run, self.record, self.checkpoints = run, record, checkpoints
        self.logger, self.interrupt = logger, interrupt
        self.watch = Watch(run.task, run.workdir, run.config["steps_per_call"])
        self.flops, self.peak = 0.0, 0.0
        self.lines: deque[tuple[int, dict[str, float]]] = deque()

    def play(self, state: TrainState, step: int, position: Any) -> Outcome:
        """All stages from `step` on."""
        while step < self.run.total and self.interrupt.signal is None:
            state, step, position = self.play_stage(state, step, position)
        if self.interrupt.signal is not None:
            return Outcome(step, signal=self.interrupt.signal)
        self.show(state, step)
        return Outcome(step, self.score(state, step))

    def play_stage(self, state: TrainState, step: int, position: Any):
        """From `step` to the end of its stage, or to an interruption."""
        run, config, k = self.run, self.run.config, self.run.config["steps_per_call"]
        number, start = run.task.stage_at(step)
        length = run.task.stages[number].steps
        end = run.total if length is None else min(run.total, start + length)
        if (end - step) % k:
            raise GenaxError(f"config.steps_per_call={k} does not divide steps {step} to {end}.")

        one = make_step(run.task, number, config["accumulate"])
        advance = run.strategy.compile(make_steps(one) if k > 1 else one, state, k > 1)
        data = run.datas[number]
        batches = data.train(config["batch_size"], config["seed"], run.shard, run.workdir)
        if position is not None:
            batches.set_state(position)
        self.measure(number)
        self.clock, self.logged = time.perf_counter(), step
        prefetch = Prefetch(batches, run.strategy, k)
        try:
            while step < end:
                placed = next(prefetch)
                with jax.transfer_guard("disallow"):
                    state, metrics = advance(state, placed.batch)
                self.watch.add(step, metrics, placed.ids)
                self.write()
                step, position = step + k, placed.position
                following, _ = run.task.stage_at(step)
                if following != number:
                    state = run.next_stage(state, following)
                    position = position if run.datas[following] is data else None
                self.events(state, step, position)
                if self.interrupt.came(step // k):
                    self.save(state, step, position)
                    break
        finally:
            prefetch.close()
        return state, step, position

    def events(self, state: TrainState, step: int, position: Any) -> None:
        """What is due after a step; the last step always logs and saves."""
        config, last = self.run.config, step == self.run.total

        def due(name: str) -> bool:
            every = config[name]
            return every > 0 and step // every > (step - config["steps_per_call"]) // every

        if last or due("log_every"):
            self.log(step)
        if last or due("checkpoint_every"):
            self.save(state, step, position)
        if not last and due("sample_every"):
            self.show(state, step)
        if not last and due("eval_every"):
            self.score(state, step)

    def measure(self, stage: int) -> None:
        """FLOPs of a step, and the peak they are held against; both go to run.json."""
        run, config = self.run, self.run.config
        self.flops = step_flops(run.task, stage, run.shapes(stage), run.abstract_batch(stage))
        if not self.peak:
            devices = 1 if jax.default_backend() == "cpu" else jax.device_count()
            self.peak = matmul_peak(jnp.dtype(config["dtype"])) * devices
        self.record |= {"flops_per_step": self.flops, "matmul_peak": self.peak}
        if run.primary:
            write_json(run.workdir / "run.json", self.record)

    def log(self, step: int) -> None:
        """A line is due: the means since the last one, written when they are there."""
        now = time.perf_counter()
        rate = (step - self.logged) / (now - self.clock)
        self.clock, self.logged = now, step
        speed = {"steps_per_second": rate, "utilisation": rate * self.flops / self.peak}
        self.lines.append((step, speed))

    def write(self) -> None:
        """The lines due whose steps have all been read; no step is waited for."""
        while self.lines and self.lines[0][0] <= self.watch.read:
            step, speed = self.lines.popleft()
            values = self.watch.means(step)
            if values:
                losses = {k: v for k, v in values.items() if k.endswith("/loss")}
                self.logger.progress(step, losses)
                self.logger.metrics(step, values | speed)

    def settle(self) -> None:
        """Wait for the steps under way and write their lines; raises where one is not finite."""
        self.watch.drain()
        self.write()

    def save(self, state: TrainState, step: int, position: Any) -> None:
        """A checkpoint, after all steps up to it are known to be finite."""
        self.settle()
        if not _finite(state):
            raise GenaxError(
                f"parameters are not finite at step {step}, though the losses before were; lower "
                "the learning rate or clip gradients. Earlier checkpoints are as they were."
            )
        self.checkpoints.save(state, step, {"run": self.record, "position": position})

    def show(self, state: TrainState, step: int) -> None:
        """Samples of every sampler, as files and in the log."""
        self.settle()
        for name, sampler in self.run.task.samplers.items():
            variables = evaluation.variables(state)
            drawn = evaluation.sample(
                self.run.task,
                sampler,
                variables,
                self.run.config["num_samples"],
                workdir=self.run.workdir,
            )
            if self.run.primary:
                rendered = sampler.render(drawn, self.run.workdir)
                path = self.run.workdir / "samples" / f"{name}_{step:08d}"
                evaluation.write_sample(rendered, path)
                self.logger.sample(step, f"samples/{name}", rendered)

    def score(self, state: TrainState, step: int) -> dict[str, float]:
        """Evaluate, and log the scores as "eval/<score>"."""
        self.settle()
        run = self.run
        scores = evaluation.evaluate(
            run.task,
            evaluation.variables(state),
            run.experiment.evaluation,
            run.eval_batch_size,
            run.workdir,
            run.strategy,
        )
        if scores:
            self.logger.metrics(step, {f"eval/{name}": value for name, value in scores.items()})
        return scores


@jax.jit
def _finite(state: TrainState) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)]))


class Interrupt:
    """SIGTERM and SIGINT as a wish to stop after the step; a second SIGINT stops at once.

    Of several processes, the one that is told tells the others, and all stop after one step.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: Any) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number

    def came(self, dispatch: int) -> bool:
        """Whether to save and stop after this dispatch; its number has risen by one."""
        # The processes agree on the next number and stop at exactly that one.
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(dispatch):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def __exit__(self, *error: Any) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
