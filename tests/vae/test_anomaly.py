"""An autoencoder as a detector: its loss, its scores, and that it tells waves apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, make_step
from genax.core.data import Shard
from genax.core.step import init_state
from genax.data import ImageData, SeriesData
from genax.data.within import Within
from genax.running.evaluate import evaluate
from genax.running.sampling import sample, sampling_batch, variables
from genax.vae.anomaly import anomaly_scores, denoising_loss, draw_reconstructions, gaussian_of
from genax.vae.autoencoders import MLPSize
from genax.vae.objectives import elbo_loss
from tests.experiments import config_of, load

SIZE = MLPSize((5, 1, 1), (7,), 2, nn.tanh, gaussian_of(0.5))
RNGS = {"params": jax.random.key(0), "example": jax.random.key(1)}
BATCH = {
    "image": jax.random.normal(jax.random.key(2), (6, 5, 1, 1)),
    "index": jnp.arange(6),
}


VARIABLES = jax.jit(nn.init(elbo_loss, SIZE.networks()))(RNGS, BATCH)


def call(function, variables=VARIABLES):
    return jax.jit(nn.apply(function, SIZE.networks()))(variables, BATCH, rngs=RNGS)


def test_loss_without_noise_is_the_elbo():
    plain, found = call(elbo_loss), call(denoising_loss)
    np.testing.assert_allclose(found.values, plain.values, rtol=1e-5)
    noisy = call(lambda nets, batch: denoising_loss(nets, batch, noise=0.7))
    assert not np.allclose(noisy.aux["kl"], plain.aux["kl"])


def test_only_the_encoder_sees_the_noise():
    """A decoder that ignores its latent has the same error, whatever the noise is."""

    deaf = jax.tree.map_with_path(
        lambda path, leaf: 0 * leaf if "decoder" in jax.tree_util.keystr(path[:3]) else leaf,
        VARIABLES,
    )
    found = [call(partial(denoising_loss, noise=noise), deaf).aux for noise in (0.0, 2.0)]
    np.testing.assert_allclose(found[0]["reconstruction"], found[1]["reconstruction"], rtol=1e-5)
    assert not np.allclose(found[0]["kl"], found[1]["kl"])


def test_scores_by_numpy():
    def parts(nets, batch):
        posterior = nets.encoder(batch["image"])
        return nets.decoder(posterior.mean).mean, posterior.mean, posterior.log_variance

    mean, latent, log_variance = call(parts)
    found = call(lambda nets, batch: anomaly_scores(nets, batch, samples=4_000))
    error = np.square(mean - BATCH["image"]).reshape(6, -1)
    np.testing.assert_allclose(found["error"], error.mean(-1), rtol=1e-5)
    kl = 0.5 * (latent**2 + np.exp(log_variance) - 1 - log_variance).sum(-1)
    np.testing.assert_allclose(found["elbo"] - found["reconstruction"], kl, rtol=1e-3, atol=1e-3)
    # Each drawn latent adds its own error to that at the mean; the constant is of N(mean, 1/4).
    least = 0.5 * (error / 0.25 + np.log(2 * np.pi * 0.25)).sum(-1)
    assert (np.asarray(found["reconstruction"]) > least - 0.2).all()


def test_experiment_tells_waves_apart(tmp_path):
    module = load("experiments/vae/anomaly.py")
    config = config_of(module, "digits")
    experiment = module.build(config)
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    step = jax.jit(make_step(experiment.task))
    data = experiment.data.train(config.batch_size, 0, Shard())
    for _ in range(150):
        batch = next(data)
        batch.pop("id")
        state, _ = step(state, batch)
    weights = variables(state)
    scores = evaluate(experiment.task, weights, experiment.evaluation, 600, tmp_path)
    assert scores["anomaly/error/auroc"] > 0.95
    assert scores["anomaly/error/accuracy"] > 0.85
    assert (tmp_path / "evaluation" / "anomaly.png").stat().st_size
    sampler = experiment.task.samplers["reconstruction"]
    batch = sampling_batch(experiment.task, sampler, 6, tmp_path)
    drawn = sample(experiment.task, sampler, weights, 6)
    assert drawn.shape == (6, 48, 1, 1)
    assert sampler.render(drawn, batch, tmp_path).size[0] == 4 * 532


def test_images_are_drawn_in_pairs():
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1))
    assert draw_reconstructions(images, {"image": images}).size == (2 * 66 + 2, 3 * 66 + 2)


@dataclass(frozen=True)
class Unlabelled(Within):
    """Images alone."""

    @property
    def element(self):
        return {"image": self.data.element["image"]}


def test_given_data_take_the_place_of_its_own():
    module = load("experiments/vae/anomaly.py")
    config = config_of(module, "digits")
    # Of labelled series every fifth normal one is held out, as of its own.
    given = module.read(config, (SeriesData("waves"), SeriesData("waves", "test")))
    assert given == [*module.read(config)]
    # Of other data nothing is known but that they are normal.
    images = Within(ImageData("digits", range=(0.0, 1.0)))
    first, held_out, _ = module.read(config, (images, images))
    assert first.data is held_out.data is images
    built = module.build(config, (images, images))
    rows = {"scores": {"error": np.zeros(3)}, "mask": np.ones(3)}
    said = built.task.evaluators["anomaly"].says
    said = said({"test": rows, "held_out": rows, "label": np.zeros(3)}, None)
    assert said["threshold"] == f"quantile {config.quantile} of the training normals"
    with pytest.raises(GenaxError, match=r"has no 'label'.*give a labelled test set"):
        module.build(config, (images, Unlabelled(images)))


@pytest.mark.parametrize("variant", ["cpu", "fashion", "digits", "digits-images"])
def test_no_example_is_on_two_sides(variant, monkeypatch):
    module = load("experiments/vae/anomaly.py")
    config = config_of(module, variant)
    train, held_out, _ = module.read(config)
    assert held_out.by is train.by
    assert train.data.select.validates is False
    assert held_out.data.select == train.data.select.validation
    assert train.data.select.classes == (0,)
