"""The loop: it moves batches, states and metrics, and knows nothing of what is trained."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from genax.core.data import open_data
from genax.core.errors import GenaxError
from genax.core.step import make_step, make_steps
from genax.core.task import TrainState
from genax.running import evaluate as evaluation
from genax.running import processes, sampling
from genax.running.checkpoint import Checkpoints
from genax.running.compilation import compiled
from genax.running.dispatch import in_turn, scans_well
from genax.running.flops import flops_of, matmul_peak, phase_programs
from genax.running.interrupt import Interrupt
from genax.running.logging import Logger, NoLogger
from genax.running.mistakes import Checked, told
from genax.running.policy import Minutes
from genax.running.prefetch import Prefetch
from genax.running.profile import Profile
from genax.running.record import what_runs
from genax.running.results import write_result
from genax.running.run import Pretrained, Run
from genax.running.timing import Times
from genax.running.watch import Watch
from genax.running.weights_and_biases import check_wandb
from genax.settings.files import write_json


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    scores, samples: of its end; samples are files. signal: what interrupted it, if anything did.
    """

    step: int
    scores: evaluation.Scores = field(default_factory=evaluation.Scores)
    samples: Sequence[epath.Path] = ()
    signal: int | None = None


def train(
    run: Run,
    from_step: int | None = None,
    init_from: Pretrained | None = None,
    began: float | None = None,
) -> Outcome:
    """Train to the end, from the newest checkpoint or from the start (see `Run.begin`).

    The end checkpoints, samples and evaluates. A signal to terminate saves and returns.
    init_from: what a new run takes besides `Experiment.pretrained`, in its form.
    began: when the command did, by time.monotonic.
    Raises GenaxError for what a user can put right.
    """
    began = time.monotonic() if began is None else began
    run.check()
    run.check_losses()
    record = run.record()
    with processes.watched(run.workdir):
        processes.check_alike(what_runs(record, from_step, run.pretrained(init_from)))
        check_wandb(run.config["wandb"])
        processes.check_one_folder(run.workdir)
        # A signal that comes while the last checkpoint is finished must not end that either.
        with run.lock(), Interrupt() as interrupt:
            outcome = _train(run, record, from_step, init_from, began, interrupt)
            processes.meet("the run's end")
            return outcome


def _train(run: Run, record: dict, from_step, init_from, began: float, interrupt: Interrupt):
    checkpoints = Checkpoints(run.workdir, run.keep)
    with closing(checkpoints), processes.watched(run.workdir):
        state, position, says = run.begin(checkpoints, record, from_step, init_from)
        step = int(state.step)
        logger = (
            Logger(run.workdir, step, run.total, run.config["wandb"], dict(run.config))
            if run.primary
            else NoLogger()
        )
        try:
            for line in [*run.says, *says]:
                logger.say(line)
            session = _Session(run, record, checkpoints, logger, interrupt, began)
            return session.play(state, step, position)
        finally:
            logger.close()


class _Session:
    """The steps of one process, and what happens between them."""

    def __init__(
        self, run: Run, record: dict, checkpoints: Checkpoints, logger: Any, interrupt, began: float
    ):
        self.run, self.record, self.checkpoints = run, record, checkpoints
        self.logger, self.interrupt, self.began = logger, interrupt, began
        self.watch = Watch(run.task, run.workdir, run.config["steps_per_call"])
        self.flops, self.peak, self.clock = 0.0, 0.0, 0.0
        self.lines: deque[tuple[int, dict[str, float]]] = deque()
        self.measured: tuple[int, dict[str, float]] = (-1, {})
        self.scored = (-1, evaluation.Scores())
        self.rehearsed = False
        self.minutes, self.times = Minutes(run.config["checkpoint_minutes"]), Times()
        self.profile = Profile(run.profile if run.primary else None, run.workdir / "profile")

    def play(self, state: TrainState, step: int, position: Any) -> Outcome:
        """All stages from `step` on."""
        resumed = 0 < step < self.run.total and self.interrupt.signal is None
        if resumed and self.due("eval_every", step) and not processes.agreed(self.logger.scored):
            self.score(state, step)  # it was killed after the checkpoint, before its scores
        while step < self.run.total and self.interrupt.signal is None:
            state, step, position = self.play_stage(state, step, position)
        if self.interrupt.signal is not None:
            return Outcome(step, signal=self.interrupt.signal)
        samples = self.show(state, step)
        return Outcome(step, self.score(state, step), samples)

    def play_stage(self, state: TrainState, step: int, position: Any):
        """Train from `step` to the end of its stage, or to an interruption."""
        run, config, k = self.run, self.run.config, self.run.config["steps_per_call"]
        number, start = run.task.stage_at(step)
        length = run.task.stages[number].steps
        end = run.total if length is None else min(run.total, start + length)

        scans = self.measure(number)
        scanned = scans and k > 1
        if not scans:
            self.tell_of_loops(number)
        one = make_step(run.task, number, config["accumulate"])
        program = run.strategy.compile(make_steps(one) if scanned else one, state, scanned)
        data = run.datas[number]
        part = run.strategy.part
        size = run.batch_size(number)
        batches = Checked(
            open_data(data, run.workdir).train(size, config["seed"], part),
            data.element,
            size // part.count,
        )
        if position is not None:
            batches.set_state(position)
        prefetch, placed = Prefetch(batches, run.strategy, k, stacked=scanned), None
        try:
            if not self.rehearsed:
                self.rehearse(state, step)
            while step < end:
                with self.times.spent("input"):
                    previous, placed = placed, next(prefetch)
                if previous is None:
                    advance = self.compiled(program, state, placed.batch)
                    self.clock, self.logged, self.times = time.perf_counter(), step, Times()
                self.profile.before(step, step + k)
                with self.times.spent("dispatch"), jax.transfer_guard("disallow"):
                    state, metrics = advance(state, placed.batch)
                with self.times.spent("device"):
                    self.watch.add(step, metrics, placed.ids)
                self.write()
                if "seconds_to_first_step" not in self.record:
                    self.first_step()
                step, position = step + k, placed.position
                self.profile.after(step, self.settle)
                following, _ = run.task.stage_at(step)
                if following != number:
                    state = run.next_stage(state, following)
                    position = position if run.datas[following] is data else None
                self.events(state, step, position)
                if self.interrupt.came(step // k):
                    self.save(state, step, position)
                    break
        finally:
            self.profile.close()
            prefetch.close()
        return state, step, position

    def rehearse(self, state: TrainState, step: int) -> None:
        """Trace all samplers and evaluators of the stages to come, for the mistakes in them."""
        run, variables = self.run, sampling.variables(state)
        for stage in range(run.task.stage_at(step)[0], len(run.task.stages)):
            at = max(step, run.task.start_of(stage))
            for name, sampler in run.task.samplers.items() if run.config["num_samples"] else ():
                with told(f"sampler {name!r}"):
                    batch = sampling.sampling_batch(
                        run.task, sampler, run.config["num_samples"], run.workdir, step=at
                    )
                    sampling.rehearse(run.task, sampler, variables, batch, run.eval_batch_size)
            data = run.experiment.evaluation
            evaluation.rehearse(
                run.task, variables, data, run.eval_batch_size, run.workdir, run.strategy, at
            )
        self.rehearsed = True

    def tell_of_loops(self, stage: int) -> None:
        """Say what a step means for speed that XLA's CPU compiler is slow at in loops."""
        steps, parts = self.run.config["steps_per_call"], self.run.config["accumulate"]
        lazy = any(phase.every != 1 for phase in self.run.task.stages[stage].phases)
        slow = "XLA's CPU compiler is slow at convolutions of this step"
        if steps > 1:
            self.logger.say(
                f"{slow} in a loop, so the {steps} steps of a call (config.steps_per_call) are "
                "dispatched one by one"
            )
        if parts > 1 or lazy:
            self.logger.say(
                f"{slow} in microbatches and in phases with every > 1; it is not at those of "
                "genax.nn.convolution"
            )

    def compiled(self, program: Any, state: TrainState, batch: Any) -> Callable:
        """The compiled program, which takes what the prefetch gives."""
        if not isinstance(batch, list):
            return compiled(program, self.logger.say, state, batch)
        return in_turn(compiled(program, self.logger.say, state, batch[0]))

    def events(self, state: TrainState, step: int, position: Any) -> None:
        """What is due after a step; the last step always logs and saves."""
        last, best = step == self.run.total, self.run.keep.best
        logs = last or self.due("log_every", step)
        saves = last or self.due("checkpoint_every", step) or self.minutes.passed(logs)
        if logs or (saves and best and best.group != "eval"):
            self.log(step)
        if saves and best and best.group == "eval":
            self.score(state, step)
        if saves:
            self.save(state, step, position)
        if not last and self.due("sample_every", step):
            self.show(state, step)
        if not last and self.due("eval_every", step):
            self.score(state, step)

    def due(self, name: str, step: int) -> bool:
        """Whether a dispatch that ends at `step` has reached a multiple of a setting."""
        every, k = self.run.config[name], self.run.config["steps_per_call"]
        return every > 0 and step // every > (step - k) // every

    def measure(self, stage: int) -> bool:
        """Whether the step may be scanned; its FLOPs, and the peak, go to run.json."""
        run, config = self.run, self.run.config
        shapes = run.shapes(stage), run.abstract_batch(stage)
        programs = phase_programs(run.task, stage, *shapes)
        self.flops = flops_of(run.task.stages[stage], programs)
        if not self.peak:
            devices = 1 if jax.default_backend() == "cpu" else jax.device_count()
            self.peak = matmul_peak(jnp.dtype(config["dtype"])) * devices
        self.record |= {"flops_per_step": self.flops, "matmul_peak": self.peak}
        if run.primary:
            write_json(run.workdir / "run.json", self.record)
        return scans_well(programs)

    def first_step(self) -> None:
        """Say how long a user waits for it."""
        self.settle()
        seconds = round(time.monotonic() - self.began, 1)
        self.logger.say(f"first step after {seconds} s")
        self.record["seconds_to_first_step"] = seconds
        if self.run.primary:
            write_json(self.run.workdir / "run.json", self.record)

    def log(self, step: int) -> None:
        """A line is due: the means since the last one, written when they are there."""
        now = time.perf_counter()
        steps = step - self.logged
        rate = steps / (now - self.clock)
        self.clock, self.logged = now, step
        speed = {"steps_per_second": rate, "utilisation": rate * self.flops / self.peak}
        self.lines.append((step, speed | self.times.take(steps)))

    def write(self) -> None:
        """The lines due whose steps have all been read; no step is waited for."""
        while self.lines and self.lines[0][0] <= self.watch.read:
            step, speed = self.lines.popleft()
            values = self.watch.means(step)
            if values:
                self.measured = (step, values)
                losses = {k: v for k, v in values.items() if k.endswith("/loss")}
                self.logger.progress(step, losses)
                self.logger.metrics(step, values | speed)

    def settle(self) -> None:
        """Wait for the steps under way and write their lines; raises if one is not finite."""
        with self.times.spent("device"):
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
        best = self.run.keep.best
        measured = dict(self.measured[1]) if self.measured[0] == step else {}
        if self.scored[0] == step:
            measured |= {f"eval/{name}": value for name, value in self.scored[1].items()}
        metrics = best.of(measured) if best else None
        self.checkpoints.save(state, step, {"run": self.record, "position": position}, metrics)
        self.logger.flush()
        self.minutes.restart()
        if best:
            best.check(measured)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Samples and scores wait for the steps under way, and are no part of their speed."""
        self.settle()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.clock += time.perf_counter() - start

    def show(self, state: TrainState, step: int) -> list[epath.Path]:
        """Samples of every sampler, as files and in the log; returns the files."""
        written = []
        task, num, workdir = self.run.task, self.run.config["num_samples"], self.run.workdir
        for name, sampler in task.samplers.items() if num else ():
            with self.paused():
                variables = sampling.variables(state)
                batch = sampling.sampling_batch(task, sampler, num, workdir, step=step)
                size = self.run.eval_batch_size
                drawn = sampling.draw(task, sampler, variables, batch, batch_size=size)
                if self.run.primary:
                    rendered = sampler.render(drawn, batch, workdir)
                    path = workdir / "samples" / f"{name}_{step:08d}"
                    written.append(sampling.write_sample(rendered, path))
                    self.logger.sample(step, f"samples/{name}", rendered)
        return written

    def score(self, state: TrainState, step: int) -> evaluation.Scores:
        """Evaluate, once a step, and log the scores as "eval/<score>"."""
        if self.scored[0] == step:
            return self.scored[1]
        run = self.run
        with self.paused():
            scores = evaluation.evaluate(
                run.task,
                sampling.variables(state),
                run.experiment.evaluation,
                run.eval_batch_size,
                run.workdir,
                run.strategy,
                step=step,
            )
        if scores:
            if run.primary:
                write_result(run, scores, step)
            self.logger.metrics(step, {f"eval/{name}": value for name, value in scores.items()})
        self.scored = (step, scores)
        return scores


@jax.jit
def _finite(state: TrainState) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)]))
