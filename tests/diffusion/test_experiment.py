"""The experiment of DDPM: its variants and its grid."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

import genax
from genax.core import GenaxError
from genax.core.step import init_state
from genax.core.task import Evaluator
from genax.data import ImageData
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import linear_betas
from genax.diffusion.solvers import euler
from genax.diffusion.spacings import trailing
from genax.evaluation.pictures import image_grid
from genax.front import experiments
from genax.running import sampling
from tests.experiments import ROOT, config_of, load

DDPM = load("experiments/diffusion/ddpm.py")


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("cpu", 686_769),
        ("digits", 701_345),
        ("digits-conditional", 701_345 + 11 * 128),
        ("cifar10", 35_746_307),
    ],
)
def test_variants_build_and_have_their_size(variant, count):
    experiment = DDPM.build(config_of(DDPM, variant))
    shapes = jax.eval_shape(lambda: init_state(experiment.task, 0, experiment.data.element))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes.params)) == count
    assert len(shapes.ema) == len(jax.tree.leaves(shapes.params))
    assert set(experiment.task.evaluators) == {"bits_per_dim", "epsilon_mse"}


def test_every_variant_is_described_and_has_settings():
    for variant in DDPM.VARIANTS:
        assert config_of(DDPM, variant).steps > 0


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_that_the_chain_does_not_have_are_refused_before_training(steps):
    config = config_of(DDPM, "digits")
    config.ddim_steps = steps
    with pytest.raises(GenaxError, match=str(steps)):
        DDPM.build(config)


@pytest.mark.parametrize(
    "variant",
    ["digits", "digits-conditional", pytest.param("cifar10", marks=pytest.mark.long)],
)
def test_samplers_of_full_size_have_shapes(variant):
    experiment = DDPM.build(config_of(DDPM, variant))
    task, element = experiment.task, experiment.data.element
    params = jax.eval_shape(lambda: init_state(task, 0, element)).params
    for sampler in task.samplers.values():
        batch = {"index": np.arange(3), **(sampler.condition(3, None) if sampler.condition else {})}
        draw = partial(nn.apply(sampler.function, task.networks), batch=batch)
        shapes = jax.eval_shape(
            lambda params, key, draw=draw: draw({"params": params}, rngs={"example": key}),
            params,
            jax.random.key(0),
        )
        assert shapes.shape == (3, *element["image"].shape)


@pytest.mark.long
def test_guided_samples_are_of_their_class():
    """With random weights, guidance and the label decide the sample: the classes take turns."""
    config = config_of(DDPM, "digits-conditional")
    config.unet.channels, config.unet.num_groups, config.unet.multipliers = 8, 4, (1,)
    config.ddim_steps = 3
    task = DDPM.build(config).task
    element = DDPM.build(config).data.element
    state = jax.jit(lambda: init_state(task, 0, element))()
    # The last convolution is 0 at the beginning.
    params = jax.tree.map(lambda x: x + 0.1, state.params)
    sampler = task.samplers["images"]
    samples = sampling.sample(task, sampler, {"params": params}, num=12)
    assert samples.shape == (12, 8, 8, 1)
    assert np.isfinite(samples).all()
    labels = sampler.condition(12, None)["label"]
    np.testing.assert_array_equal(labels, [*range(10), 0, 1])
    others = sampling.sample(
        task,
        sampler,
        {"params": params},
        num=12,
        condition={"label": (labels + (labels == 3)) % 10},
    )
    changed = np.abs(samples - others).max((1, 2, 3)) > 1e-4
    np.testing.assert_array_equal(changed, labels == 3)


@pytest.mark.parametrize(
    ("file", "settings", "expected"),
    [
        (
            "ddpm",
            {"ancestral": True, "ddim_eta": 0.5},
            {
                "images": {"solver": "ddim", "steps": 100, "eta": 0.5, "guidance": 1.0},
                "ancestral": {"solver": "ancestral", "steps": 1_000, "guidance": 1.0},
            },
        ),
        ("adm", {}, {"images": {"solver": "ancestral", "guidance": "1.0 by a classifier"}}),
        ("edm", {"churn": 20.0}, {"images": {"solver": "heun", "steps": 18}}),
        ("mean_flow", {}, {"two_steps": {"solver": "mean flow", "steps": 2, "guidance": 1.0}}),
        ("score_sde", {}, {"flow": {"solver": "heun", "steps": 25}}),
        ("ncsn", {}, {"images": {"solver": "annealed Langevin", "levels": 10}}),
        ("flow_matching", {}, {"images": {"solver": "euler"}}),
        ("dit", {}, {"images": {"solver": "ancestral"}}),
    ],
)
def test_a_result_says_how_each_sampler_draws(monkeypatch, file, settings, expected):
    found = {}

    def kept(draw, *others, says, **named):
        found[draw.keywords["solver"]] = says
        return Evaluator(lambda nets, batch: {})

    monkeypatch.setattr("genax.diffusion.tasks.fidelity", kept)
    module = load(f"experiments/diffusion/{file}.py")
    config = config_of(module, "digits")
    config.update({"fidelity": "classifier", **settings})
    task = module.build(config).task
    for name, said in expected.items():
        whole = found[task.samplers[name].function.keywords["solver"]]
        assert {key: whole[key] for key in said} == said


def test_images_of_another_range_are_refused():
    with pytest.raises(GenaxError, match=r"have the range \(0\.0, 1\.0\), but networks are"):
        DDPM.build(config_of(DDPM, "digits"), ImageData("digits", range=(0.0, 1.0)))


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": 2.0, "label_dropout": 0.0},
        {"num_classes": 0},
        {"num_classes": 0, "guidance": 1.0},
    ],
)
def test_guidance_without_what_it_needs_is_refused(settings):
    config = config_of(DDPM, "digits-conditional")
    config.update(settings)
    with pytest.raises(GenaxError, match="guidance other than 1 needs labels"):
        DDPM.build(config)


def test_a_run_from_before_there_were_labels_is_read(tmp_path):
    config = config_of(DDPM, "digits").to_dict() | {"ddim_steps": 7}
    for name in ("num_classes", "label_dropout", "guidance"):
        del config[name]
    path = str(ROOT / "experiments/diffusion/ddpm.py")
    record = {"experiment": path, "variant": "digits", "config": config, "data": ""}
    (tmp_path / "run.json").write_text(json.dumps(record))
    run = experiments.reopen(str(tmp_path))
    assert run.config["num_classes"] == 0
    assert run.config["ddim_steps"] == 7
    assert run.task.samplers["images"].condition is None


def test_labels_beyond_the_classes_are_refused_before_training():
    config = config_of(DDPM, "digits-conditional")
    config.num_classes = 9
    with pytest.raises(GenaxError, match="label"):
        DDPM.build(config).data.fingerprint()


OWN_PARTS = """
import flax.linen as nn
import jax.numpy as jnp
from genax.core import Loss

def my_loss(nets, batch):
    return Loss(jnp.square(nets.denoiser(batch["image"]) - batch["image"]).mean((1, 2, 3)))

def my_draw(nets, batch):
    return nets.denoiser(jnp.zeros((len(batch["index"]), 8, 8, 1)))

class MyNetwork(nn.Module):
    dropped: float

    @nn.compact
    def __call__(self, images, times=None, train=False):
        return nn.Dense(1)(nn.Dropout(self.dropped, deterministic=not train)(images))
"""


def test_published_experiment_with_parts_of_ones_own(tmp_path):
    """The example of CONTRIBUTING.md, which replaces each part of the DDPM in one line."""
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    example = contributing.partition("```python\n")[2].partition("```")[0]
    file = tmp_path / "mine.py"
    file.write_text(f"{OWN_PARTS}\n{example}")
    settings = {"dropped": 0.5, "steps": 2, "steps_per_call": 1, "num_samples": 4}
    run = genax.train(f"{file}:digits", tmp_path / "run", settings)
    assert set(run.evaluate()) == {"mine"}
    assert list(run.task.samplers) == ["mine"]
    assert run.sample(3).arrays.shape == (3, 8, 8, 1)
    assert run.variables()["params"]["denoiser"]["Dense_0"]["kernel"].shape == (1, 1)
    assert run.config.dropped == 0.5


@pytest.mark.long
def test_published_experiment_with_a_solver_of_ones_own(tmp_path):
    """The other example of CONTRIBUTING.md, whose solver is Euler's."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text().partition("## A solver")[2]
    file = tmp_path / "mine.py"
    file.write_text(recipe.partition("```python\n")[2].partition("```")[0])
    loaded = experiments.load(f"{file}:digits")
    settings = {"unet.channels": "8", "unet.num_groups": "4", "unet.multipliers": "(1,)"}
    config = experiments.configure(loaded, settings | {"ddim_steps": "3"})
    experiment = loaded.build(config)
    task, element = experiment.task, experiment.data.element
    state = jax.jit(lambda: init_state(task, 0, element))()
    params = {"params": jax.tree.map(lambda x: x + 0.1, state.params)}
    samples = sampling.sample(task, task.samplers["mine"], params, num=2)
    process = DiscreteProcess(linear_betas(1000))
    function = partial(task.samplers["mine"].function, solver=euler(process, trailing(1000, 3)))
    euler_sampler = replace(task.samplers["mine"], function=function)
    np.testing.assert_allclose(
        samples, sampling.sample(task, euler_sampler, params, num=2), atol=1e-6
    )


def test_grid_is_near_square_and_enlarged():
    samples = np.linspace(-1, 1, 5)[:, None, None, None] * np.ones((1, 8, 8, 1))
    grid = image_grid(samples)
    assert grid.size == (3 * 66 + 2, 2 * 66 + 2)
    assert grid.getpixel((10, 10)) == (0, 0, 0)
    assert grid.getpixel((66 + 10, 66 + 10)) == (255, 255, 255)
    assert isinstance(image_grid(np.full((1, 300, 200, 3), 7.0)), Image.Image)


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (2, 8, 8, 4)])
def test_grid_refuses_what_is_no_picture(shape):
    with pytest.raises(GenaxError, match="image_grid got samples of shape"):
        image_grid(np.zeros(shape))
