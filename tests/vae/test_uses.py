"""What settings ask for besides training: samplers and scores of a trained autoencoder."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.step import init_state
from genax.running.evaluate import evaluate
from genax.running.sampling import variables
from genax.settings.overrides import override
from tests.experiments import config_of, load


def built(file, variant="digits", **settings):
    module = load(f"experiments/vae/{file}.py")
    return module.build(override(config_of(module, variant), settings))


def test_tools_are_asked_for():
    plain = built("vae").task.samplers
    asked = built("vae", tools="true").task.samplers
    assert {*asked} - {*plain} == {"latent_map", "interpolation", "traversal"}
    flat = built("vae", tools="true", latent_size="2").task.samplers
    assert {*flat} - {*asked} == {"manifold"}
    labelled = built("conditional_vae", tools="true").task.samplers
    assert {"image", "label"} <= {*labelled["traversal"].condition(3, None)}


def test_factors_are_read_where_they_are_scored(tmp_path):
    experiment = built("beta_vae", "shapes", factor_examples="300", hidden="(8,)")
    assert experiment.data.element["factors"].shape == (4,)
    task = experiment.task
    state = jax.jit(lambda: init_state(task, 0, experiment.data.element))()
    found = evaluate(task, variables(state), experiment.evaluation, 64, tmp_path)
    # An encoder at random tells places a little.
    assert 0 < found["factors/mig"] < 0.3
    assert 0.2 < found["factors/factor_vae"] <= 1
    assert found.said["factors"]["factors"] == ["shape", "scale", "x", "y"]
    with pytest.raises(GenaxError, match="digits has no factors; choose dsprites or shapes"):
        built("vae", factor_examples="10")
    # A caller's data, whose factors have no names, beside settings that name another set.
    module = load("experiments/vae/vae.py")
    config = override(config_of(module, "digits"), {"factor_examples": "10"})
    assert "factors" in module.build(config, experiment.data).task.evaluators


def test_images_are_compressed_by_a_run(tmp_path):
    experiment = built("compression", hidden="(8,)", latent_size="2", compressed="20")
    task = experiment.task
    only = {name: None for name in task.evaluators if name != "compression"}
    task = experiment.replace(evaluators=only).task
    state = jax.jit(lambda: init_state(task, 0, experiment.data.element))()
    found = evaluate(task, variables(state), experiment.evaluation, 20, tmp_path)
    assert found["compression/lossless"] == 1
    assert found["compression/bits_per_dim"] > found["compression/bound_bits_per_dim"] * 0.95
    assert np.isfinite(found["compression/zlib_bits_per_dim"])


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("vae", {}, "likelihood of the levels that images have"),
        ("vae", {"likelihood": "gaussian"}, "likelihood of the levels"),
        ("vae", {"likelihood": "discretised_logistic", "levels": "1000"}, "at most 256"),
        ("vae", {"binarisation": "dynamic", "test_split": ""}, "choose config.test_split"),
        ("conditional_vae", {"binarisation": "static"}, "config.num_classes=0"),
    ],
)
def test_what_cannot_be_compressed_is_refused_before_training(file, settings, message):
    with pytest.raises(GenaxError, match=message):
        built(file, compressed="10", **settings)
