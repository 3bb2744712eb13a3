"""The experiments of improved DDPM and ADM: their sizes, how they sample, what they refuse."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.step import init_state, make_step
from genax.data import ImageData
from genax.data.within import check_range
from genax.running import sampling
from tests.experiments import config_of, load

IMPROVED = load("experiments/diffusion/improved_ddpm.py")
ADM = load("experiments/diffusion/adm.py")
TINY = {
    "unet.channels": 8,
    "unet.num_groups": 4,
    "unet.multipliers": (1,),
    "unet.attention_resolutions": (),
    "num_timesteps": 40,
    "sampling_steps": 3,
    "warmup_steps": 0,
}
TINY_ADM = TINY | {
    "classifier.channels": 8,
    "classifier.multipliers": (1,),
    "steps": 4,
    "classifier_steps": 2,
}


def built(module, variant, settings=()):
    config = config_of(module, variant)
    for name, value in dict(settings).items():
        *parents, last = name.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return module.build(config)


def shapes_of(experiment):
    return jax.eval_shape(lambda: init_state(experiment.task, 0, experiment.data.element))


def sizes(experiment):
    params = shapes_of(experiment).params
    return {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in params.items()}


@pytest.mark.parametrize(
    ("module", "variant", "expected"),
    [
        (IMPROVED, "cifar10", {"denoiser": 52_546_438}),
        (ADM, "imagenet64", {"denoiser": 295_904_454, "guide": 65_438_568}),
        (ADM, "imagenet128", {"denoiser": 421_529_606, "guide": 42_568_040}),
        (ADM, "imagenet256", {"denoiser": 553_838_086, "guide": 54_096_360}),
        (ADM, "imagenet512", {"denoiser": 558_997_638, "guide": 54_448_360}),
        (ADM, "imagenet64-256", {"denoiser": 311_795_910}),
    ],
)
@pytest.mark.long
def test_published_sizes(module, variant, expected):
    """The papers say 52.5, 296, 422, 554, 559 and 312 million; their code has these numbers."""
    assert sizes(built(module, variant)) == expected


def drawn(experiment, state, num=6):
    """Samples with all parameters moved from 0, and what they were made for."""
    task = experiment.task
    params = jax.tree.map(lambda x: x + 0.1, state.params)
    sampler = task.samplers["images"]
    samples = sampling.sample(task, sampler, {"params": params}, num=num)
    assert np.isfinite(samples).all()
    return samples


def trained(experiment, steps_of_stage=1):
    """The state after a step of each stage, and the metrics."""
    task, element = experiment.task, experiment.data.element
    state = jax.jit(lambda: init_state(task, 0, element))()
    rng, found = np.random.default_rng(0), {}
    batch = {"image": rng.uniform(-1, 1, (8, *element["image"].shape)).astype(np.float32)}
    batch["label"] = rng.integers(0, 10, 8).astype(np.int32)
    batch = {name: batch[name] for name in element}
    for stage in range(len(task.stages)):
        before = state.params
        if stage:
            state = jax.jit(lambda: init_state(task, 0, element, stage))()  # noqa: B023
            before = state.params
        state, metrics = jax.jit(make_step(task, stage))(state, batch)
        moved = {
            name
            for name, part in state.params.items()
            if any(
                np.abs(new - old).max() > 0
                for new, old in zip(
                    jax.tree.leaves(part), jax.tree.leaves(before[name]), strict=True
                )
            )
        }
        found[stage] = (moved, {name: float(value) for name, value in metrics.items()})
    return state, found


@pytest.mark.long
@pytest.mark.parametrize("objective", ["hybrid", "variational"])
def test_improved_ddpm_trains_and_samples(objective):
    experiment = built(IMPROVED, "digits", TINY | {"objective": objective})
    assert sizes(experiment)["denoiser"] > 0
    if objective == "variational":
        shapes = jax.eval_shape(
            make_step(experiment.task),
            shapes_of(experiment),
            {
                name: jax.ShapeDtypeStruct((4, *shape.shape), shape.dtype)
                for name, shape in experiment.data.element.items()
            },
        )
        assert shapes[1]["denoiser/loss"].shape == ()
        return
    state, found = trained(experiment)
    moved, metrics = found[0]
    assert moved == {"denoiser"}
    assert metrics["denoiser/loss"] == pytest.approx(
        metrics["denoiser/simple"] + 0.001 * metrics["denoiser/variational"], rel=1e-4
    )
    assert drawn(experiment, state).shape == (6, 8, 8, 1)


def test_improved_ddpm_keeps_the_times_of_a_thousand():
    """The network of 40 timesteps gets 0, 25, 50, ..."""
    experiment = built(IMPROVED, "digits", TINY)
    prediction = experiment.task.samplers["images"].function.keywords["prediction"]
    _, times = prediction.inputs(None, np.array([0, 1, 39]), None, None)
    np.testing.assert_allclose(times, [0, 25, 975])


@pytest.mark.long
def test_a_classifier_is_trained_last_and_guides():
    experiment = built(ADM, "digits", TINY_ADM)
    state, found = trained(experiment)
    assert [moved for moved, _ in found.values()] == [{"denoiser"}, {"guide"}]
    assert 0 <= found[1][1]["guide/accuracy"] <= 1
    guided = drawn(experiment, state)
    plain = built(ADM, "digits", TINY_ADM | {"classifier_scale": 0.0})
    assert not np.allclose(guided, drawn(plain, state), atol=1e-5)
    assert set(experiment.task.evaluators) == {"bits_per_dim", "output_mse", "classifier_loss"}


def test_the_sampler_of_each_kind_of_guidance_has_shapes():
    for settings in ({}, {"worse": "run", "classifier_steps": 0}):
        experiment = built(ADM, "digits", TINY_ADM | settings)
        task, state = experiment.task, shapes_of(experiment)
        params = {**state.params, **state.fixed.get("params", {})}
        assert set(params) == {"denoiser", "guide"}
        batch = {"index": jnp.arange(3), "label": jnp.arange(3)}
        draw = partial(nn.apply(task.samplers["images"].function, task.networks), batch=batch)
        found = jax.eval_shape(
            lambda params, key, draw=draw: draw({"params": params}, rngs={"example": key}),
            params,
            jax.random.key(0),
        )
        assert found.shape == (3, 8, 8, 1)


def test_the_worse_network_comes_from_a_run_and_stays():
    experiment = built(ADM, "digits", TINY_ADM | {"worse": "some/run", "classifier_steps": 0})
    assert experiment.pretrained == {"some/run": {"params/denoiser": "params/guide"}}
    assert len(experiment.task.stages) == 1
    state = shapes_of(experiment)
    assert set(state.params) == {"denoiser"}
    better, worse = state.params["denoiser"], state.fixed["params"]["guide"]
    assert jax.tree.map(lambda x: x.shape, better) == jax.tree.map(lambda x: x.shape, worse)


def test_the_upsampler_gets_test_images_made_smaller():
    experiment = built(ADM, "digits-upsampler", TINY_ADM | {"classifier_steps": 0})
    sampler = experiment.task.samplers["images"]
    given = sampler.condition(3, None)
    assert set(given) == {"image", "label", "index"}
    condition = sampler.function.keywords["condition"]
    found = condition(nn.Module(), given)
    assert found["low_resolution"].shape == (3, 4, 4, 1)
    np.testing.assert_allclose(
        found["low_resolution"][0, 0, 0, 0], given["image"][0, :2, :2].mean(), rtol=1e-5
    )
    np.testing.assert_array_equal(found["label"], given["label"])
    with pytest.raises(GenaxError, match="8x8 cannot be made 3 times smaller"):
        shapes_of(built(ADM, "digits-upsampler", TINY_ADM | {"factor": 3, "classifier_steps": 0}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_classes": 0}, "trains a classifier, which needs classes"),
        ({"classifier_steps": 4}, "none is left for the denoiser"),
        ({"worse": "some/run"}, "has nothing to train; set it to 0"),
        ({"guidance": 2.0, "label_dropout": 0.1}, "are guided by config.worse or"),
        ({"factor": 2, "label_dropout": 0.1}, "the upsampler has no label for no condition"),
        ({"sampling_steps": 41}, "choose between 1 and 40"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said):
    with pytest.raises(GenaxError, match=said):
        built(ADM, "digits", TINY_ADM | settings)


def test_data_of_another_range_is_refused():
    data = ImageData("digits", range=(0.0, 255.0))
    config = config_of(IMPROVED, "digits")
    with pytest.raises(GenaxError, match=r"images of digits have the range \(0.0, 255.0\)"):
        IMPROVED.build(config, data)
    check_range(ImageData("digits"))
