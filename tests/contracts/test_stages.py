"""Between stages optimizers start fresh and all else goes on; a resumed run is in the right one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from genax.core import (
    Evaluator,
    Experiment,
    GenaxError,
    Loss,
    Stage,
    Task,
    make_step,
    per_example,
    tree,
)
from genax.core.devices import create
from genax.core.step import init_optimizers
from genax.data.pipeline import train_batches
from genax.running import evaluate, sampling
from genax.running.checkpoint import Checkpoints
from genax.running.flops import step_flops
from genax.running.loop import train
from genax.running.run import Run, stage_data
from genax.settings import base_config
from tests.contracts import batch_norm_gan, harness, llava, progan
from tests.contracts.rows import BATCH_SIZE, BY_NAME
from tests.contracts.synthetic import Synthetic
from tests.core import toys


def warmed_up_gan() -> Task:
    """The discriminator alone for three steps, then the game; its generator keeps statistics."""
    task = batch_norm_gan.make()
    (game,) = task.stages
    return replace(task, stages=[Stage(game.phases[:1], 3), game])


def run_of(task: Task, element, draw, workdir, steps: int) -> Run:
    """A run as the command line would open it, with nothing to show."""
    config = base_config(batch_size=BATCH_SIZE, steps=steps, seed=harness.SEED, keep=10)
    experiment = Experiment(task, Synthetic(element, draw))
    return Run(experiment, config.to_dict(), epath.Path(workdir), ("toy.py", "cpu"))


def digest_at(workdir, step: int) -> str:
    checkpoints = Checkpoints(workdir, keep=None)
    assert step in checkpoints.steps
    return tree.digest(checkpoints.arrays(step))


def test_next_stage(tmp_path):
    task, row = warmed_up_gan(), BY_NAME["batch_norm_gan"]
    run = run_of(task, row.element, row.batch_at, tmp_path, 6)
    with harness.quick_compilation():
        state = create(run.initial, run.strategy)
        step = run.strategy.compile(make_step(task), state, stacked=False)
        for number in range(3):
            state, _ = step(state, run.strategy.put(row.batch_at(number), stacked=False))
        old = harness.on_host(state)
        assert np.abs(jax.tree.leaves(old.opt_state["discriminator"][0].mu)[0]).max() > 0
        new = run.next_stage(state, 1)

    for part in ("step", "rng", "params", "collections", "ema"):
        assert tree.digest(getattr(new, part)) == tree.digest(getattr(old, part))
    fresh = init_optimizers(task, 1, old.params)
    assert set(new.opt_state) == {"discriminator", "generator"}
    assert tree.digest(new.opt_state) == tree.digest(fresh)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), run.abstract(1))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), new) == shapes


@pytest.mark.long
def test_interrupted_at_and_after_the_border(tmp_path):
    """One run to step 6; another that ends at 3, where the second stage begins, at 4, and at 6."""

    task = replace(llava.make(), fixed=("vision_tower",))

    def play(workdir, steps):
        draw = lambda number, size: llava.batch(np.random.default_rng(number), size)  # noqa: E731
        with harness.quick_compilation():
            train(run_of(task, llava.ELEMENT, draw, workdir, steps))

    play(tmp_path / "whole", 6)
    for steps in (3, 4, 6):
        play(tmp_path / "resumed", steps)
    assert digest_at(tmp_path / "resumed", 6) == digest_at(tmp_path / "whole", 6)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, (0, 0)), (2, (0, 0)), (3, (1, 3)), (7, (2, 5)), (99, (2, 5))]
)
def test_stage_of_a_step(step, expected):
    phases = batch_norm_gan.make().stages[0].phases
    task = replace(
        batch_norm_gan.make(), stages=[Stage(phases, 3), Stage(phases, 2), Stage(phases)]
    )
    assert task.stage_at(step) == expected
    assert task.total_steps is None


def test_steps_are_counted_within_a_stage():
    """ProGAN's fade reads batch["step"]: the second stage begins in mid fade, not at its end."""
    task = harness.task_of("progan")
    (_, second) = task.stages

    def spy(phase):
        def loss(nets, batch):
            result = phase.loss(nets, batch)
            return replace(result, aux={"step": jnp.asarray(batch["step"])})

        return replace(phase, loss=loss)

    task = replace(task, stages=[task.stages[0], Stage([spy(p) for p in second.phases])])
    state = harness.history("progan")[0][4]
    with harness.quick_compilation():
        metrics = jax.jit(make_step(task, 1))(state, BY_NAME["progan"].batch_at(4))[1]
    seen = [float(metrics[f"{phase.name}/step"]) for phase in second.phases]
    assert seen == [1.0, 1.0]


def test_data_of_each_stage(tmp_path):
    """A list, a tuple, or one for all; another number is refused before anything is made."""
    task = warmed_up_gan()
    one = Synthetic(batch_norm_gan.ELEMENT, None)
    for data in (one, (one, one), [one, one]):
        assert stage_data(Experiment(task, data)) == (one, one)
    with pytest.raises(GenaxError, match="gives 3 data sets for 2 stages"):
        stage_data(Experiment(task, [one] * 3))


@pytest.mark.long
@pytest.mark.parametrize(("steps", "size", "fade"), [(2, 2, None), (3, 4, 0.25), (5, 4, 0.75)])
def test_samples_and_scores_in_mid_fade(steps, size, fade, tmp_path):
    """A run's pictures have the resolution of its stage, blended as far as training has come."""
    task, drawn = harness.task_of("progan"), []
    sampler = task.samplers["images"]

    def render(samples, *others):
        drawn.append(samples)
        return sampler.render(samples)

    task = replace(task, samplers={"images": replace(sampler, render=render)})
    row = BY_NAME["progan"]
    datas = tuple(
        Synthetic(element, lambda number, size, s=stage: row.batch_at(3 * s, size))
        for stage, element in enumerate(row.element)
    )
    config = base_config(batch_size=BATCH_SIZE, steps=steps, seed=harness.SEED, num_samples=4)
    experiment = Experiment(task, datas)
    run = Run(experiment, config.to_dict(), epath.Path(tmp_path), ("toy.py", "cpu"))
    with harness.quick_compilation():
        outcome = train(run)
    (images,) = drawn
    assert images.shape == (4, size, size, 1)
    state = Checkpoints(tmp_path, keep=None).restore(steps, run.abstract(task.stage_at(steps)[0]))
    values = sampling.variables(state)

    def blended(nets, batch):
        z = per_example(jax.random.normal, nets, batch, (progan.LATENT,))
        if fade is None:
            return nets.generator(z, 0, 1.0)
        old, new = (nets.generator(z, level, 1.0) for level in (0, 1))
        return (1 - fade) * progan.upsample(old) + fade * new

    expected = sampling.sample(task, replace(sampler, function=blended), values, 4)
    np.testing.assert_allclose(images, expected, atol=1e-6)

    def score(nets, batch):
        level = 0 if fade is None else 1
        return Loss(nets.discriminator(blended(nets, batch), level, fade))

    known = replace(task, evaluators={"realness": Evaluator(score, examples=10)})
    found = evaluate.evaluate(known, values, None, 4, None)
    assert outcome.scores["realness"] == pytest.approx(found["realness"], rel=1e-5)


@dataclass(frozen=True)
class Rows:
    """Points read by number, as a data set's records are."""

    element = toys.ELEMENT

    def fingerprint(self) -> str:
        return "rows"

    def train(self, batch_size, seed, shard):
        x = np.random.default_rng(0).standard_normal((40, toys.SIZE)).astype(np.float32)
        return train_batches(
            lambda ids: {"x": x[ids], "y": x[ids].sum(-1)}, 40, batch_size, 1, shard
        )


def grown(workdir, steps: int, *sizes: int | None, **settings) -> Run:
    """Two stages of one data set, the first of three steps, with batches of these sizes."""
    (stage,) = toys.line_task().stages
    first, second = (replace(stage, batch_size=size) for size in sizes)
    task = replace(toys.line_task(), stages=[replace(first, steps=3), second], ema={"line": 0.5})
    settings = {"batch_size": 12, "steps": steps, "keep": 10, "log_every": 1} | settings
    config = base_config(**settings).to_dict()
    source, devices = ("toy.py", "cpu"), jax.devices()[:1]
    return Run(Experiment(task, Rows()), config, epath.Path(workdir), source, devices)


def test_stages_of_two_batch_sizes_resume_in_either(tmp_path):
    """Stopped in the first stage, at the border and in the second, with batches of 4 and then 6."""

    def play(workdir, steps):
        with harness.quick_compilation():
            train(grown(workdir, steps, 4, 6))

    play(tmp_path / "whole", 7)
    for steps in (2, 3, 5, 7):
        play(tmp_path / "resumed", steps)
    assert digest_at(tmp_path / "resumed", 7) == digest_at(tmp_path / "whole", 7)
    position = Checkpoints(tmp_path / "resumed", keep=None).record(5)["position"]
    assert position == {"examples": 3 * 4 + 2 * 6}
    run = grown(tmp_path / "whole", 7, 4, 6)
    assert step_flops(run.task, 1, run.shapes(1), run.abstract_batch(1)) == 1.5 * step_flops(
        run.task, 0, run.shapes(0), run.abstract_batch(0)
    )


def test_what_a_stage_cannot_have_as_its_batch(tmp_path):
    with pytest.raises(GenaxError, match=r"stage 1: batch_size=6 is not divisible by .* 8 is"):
        grown(tmp_path, 7, None, 6, accumulate=4).check()
    with pytest.raises(GenaxError, match="batch_size=0 must be at least 1"):
        grown(tmp_path, 7, 0, 6)
    with harness.quick_compilation():
        train(grown(tmp_path, 2, 4, 6))
    with pytest.raises(GenaxError, match=r"global batches of \[4, 6\] examples, not \[4, 12\]"):
        train(grown(tmp_path, 4, 4, None))
