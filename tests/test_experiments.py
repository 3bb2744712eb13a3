"""Every experiment in every variant, the largest too, by shape alone; and a loss of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from genax.cli.main import main
from genax.core import init_state, make_step
from genax.core.step import init_optimizers
from genax.running.run import Run, stage_data
from genax.settings.config import base_config
from genax.settings.flat import flat
from genax.settings.overrides import override
from tests import experiments

FILES = sorted(
    str(path.relative_to(experiments.ROOT))
    for path in (experiments.ROOT / "experiments").glob("*/*.py")
)
each_file = pytest.mark.parametrize("file", FILES)


def variants() -> list:
    """Every pair of a file and a variant, with readable names."""
    pairs = []
    for file in FILES:
        for variant in experiments.load(file).VARIANTS:
            pairs.append(pytest.param(file, variant, id=f"{Path(file).stem}-{variant}"))
    return pairs


def published(module) -> list[str]:
    """Return the variants that are for a slice of a TPU."""
    configs = {name: experiments.config_of(module, name) for name in module.VARIANTS}
    return [name for name, config in configs.items() if config.parallel.topology]


@pytest.mark.long
@pytest.mark.parametrize(("file", "variant"), variants())
def test_state_and_step_have_shapes(file, variant):
    """A 175-billion-parameter model too: nothing is allocated, no data is read.

    Of published sizes of one experiment, which take seconds each, the first has its step traced.
    """
    module = experiments.load(file)
    config = experiments.config_of(module, variant)
    experiment = module.build(config)
    elements = tuple(data.element for data in stage_data(experiment))
    first = jax.eval_shape(partial(init_state, experiment.task, 0, elements))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(first.params))
    if variant in published(module)[1:]:
        return
    for stage, element in enumerate(elements):
        fresh = jax.eval_shape(partial(init_optimizers, experiment.task, stage), first.params)
        state = first.replace(opt_state=fresh)
        size = experiment.task.stages[stage].batch_size or config.batch_size
        batch = {
            name: jax.ShapeDtypeStruct((size, *shape.shape), shape.dtype)
            for name, shape in element.items()
        }
        step = make_step(experiment.task, stage, config.accumulate)
        new, metrics = jax.eval_shape(step, state, batch)
        shapes = partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
        assert shapes(new) == shapes(state)
        for phase in experiment.task.stages[stage].phases:
            assert metrics[f"{phase.name}/loss"].shape == ()


@pytest.mark.parametrize(("file", "variant"), variants())
def test_settings_fit_each_other(file, variant):
    """What `genax train` checks before it starts, on one device."""
    module = experiments.load(file)
    config = override(experiments.config_of(module, variant), {"parallel.mesh": "data=-1"})
    run = Run(module.build(config), config.to_dict(), epath.Path(), (file, variant))
    replace(run, devices=jax.devices()[:1]).check()


@each_file
def test_documentation(file):
    """A docstring with the paper and the command, and a line for each variant."""
    module = experiments.load(file)
    assert module.__doc__
    assert f"genax train {file}" in module.__doc__
    assert module.VARIANTS
    assert all(variant.what.strip() for variant in module.VARIANTS.values())


@pytest.mark.parametrize(("file", "variant"), variants())
def test_standard_settings(file, variant):
    """Those of the loop are there in every variant, with their types, and can be overridden."""
    config = experiments.config_of(experiments.load(file), variant)
    standard = flat(base_config())
    assert {key: type(value) for key, value in flat(config).items() if key in standard} == {
        key: type(value) for key, value in standard.items()
    }
    settings = {
        "steps": "7",
        "seed": "5",
        "batch_size": "4",
        "checkpoint_every": "3",
        "parallel.strategy": "pmap",
        "parallel.mesh": "data=2,fsdp=2",
    }
    changed = flat(override(config, settings))
    assert {key: str(changed[key]) for key in settings} == settings


def test_new_loss_outside_the_repository(tmp_path, monkeypatch):
    """The README's example: fourteen lines in the user's own folder, trained by `genax train`."""
    readme = (experiments.ROOT / "README.md").read_text()
    example = readme.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in example.splitlines() if line]) == 14
    monkeypatch.chdir(tmp_path)
    Path("sharp.py").write_text(example)
    settings = ["--config.steps=40", "--config.log_every=20"]
    assert main(["train", "sharp.py", "--workdir", "run", *settings]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40]
    assert lines[-1]["sharp/loss"] < lines[0]["sharp/loss"]
    assert lines[-1]["sharp/error"] > 0


def test_the_quick_start_is_two_commands():
    """Each is one line: what installs and trains, and what passes the tests."""
    readme = (experiments.ROOT / "README.md").read_text()
    first, second = readme.split("```")[1:4:2]
    assert [len(block.strip().splitlines()) for block in (first, second)] == [1, 1]
    installs, trains = first.strip().split(" && ")
    assert installs == "python -m pip install -e ."
    assert trains == "genax train experiments/diffusion/ddpm.py:digits --workdir runs/digits"
    assert second.strip().endswith("python -m pytest")


def worked_example(heading: str, most: int) -> str:
    """The file below a heading of docs/design.md, which has at most so many lines."""
    text = (experiments.ROOT / "docs/design.md").read_text()
    example = text.partition(f"## {heading}")[2].partition("```python\n")[2].partition("```")[0]
    assert 0 < len([line for line in example.splitlines() if line]) <= most
    return example


@pytest.mark.long
def test_the_worked_ddpm_trains_and_is_sampled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("guided.py").write_text(worked_example("A guided DDPM, from data", most=40))
    settings = ["--config.steps=2", "--config.batch_size=4", "--config.channels=8"]
    settings += ["--config.num_samples=4"]
    assert main(["train", "guided.py", "--workdir", "run", *settings]) == 0
    assert Path("run/samples/images_00000002.png").stat().st_size


def test_the_worked_gan_trains_and_is_sampled(tmp_path, monkeypatch):
    """The example of docs/design.md, as a file of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("critic.py").write_text(worked_example("A GAN, from data", most=60))
    settings = ["--config.steps=10", "--config.log_every=5", "--config.num_samples=4"]
    assert main(["train", "critic.py", "--workdir", "run", *settings]) == 0
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert {
        "critic/game",
        "critic/slope",
        "critic/game/real_score",
        "generator/loss",
    } <= last.keys()
    assert main(["sample", "run", "--num", "2", "--out", "drawn.png"]) == 0
    assert Path("drawn.png").stat().st_size
