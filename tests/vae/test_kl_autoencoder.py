"""Autoencoders of latent diffusion: published sizes, their distributions, and the experiment."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, init_state, tree
from genax.core.data import Shard
from genax.core.task import Task
from genax.data import ImageData
from genax.evaluation.lpips_weights import LPIPSWeights
from genax.running.evaluate import evaluate
from genax.settings.overrides import override
from genax.vae import vq_autoencoder
from genax.vae.distributions import Gaussian
from genax.vae.kl_autoencoder import SIZES, KLAutoencoder
from genax.vae.latent_statistics import latent_statistics
from genax.vae.vq_autoencoder import VQAutoencoder
from tests.core.toys import line_task
from tests.experiments import config_of, load

EXPERIMENT = "experiments/vae/kl_autoencoder.py"


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (KLAutoencoder(**SIZES["f8"]), 83_653_863),
        pytest.param(KLAutoencoder(**SIZES["f8-16"]), 83_819_683, marks=pytest.mark.long),
        pytest.param(
            VQAutoencoder(**vq_autoencoder.SIZES["f4"]), 55_322_782, marks=pytest.mark.long
        ),
    ],
    ids=["kl-f8", "kl-f8-16", "vq-f4"],
)
def test_published_parameter_counts(network, count):
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def built(variant="digits", **settings):
    module = load(EXPERIMENT)
    texts = {name: str(value) for name, value in settings.items()}
    return module.build(override(config_of(module, variant), texts))


def test_variances_have_ends():
    """Whatever the encoder says; a diffusion model gets its distribution by this method."""
    network = built(channels=8, num_groups=4, multipliers="(1,)").task.networks.autoencoder
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    params = jax.tree.map(lambda s: jnp.zeros(s.shape), params)
    values = jnp.array([0.5, -0.5, 99.0, -99.0])
    params["quant_conv"]["bias"] = values
    encode = jax.jit(lambda params, x: network.apply({"params": params}, x, method="encode"))
    found = encode(params, jnp.zeros((1, 4, 4, 1)))
    assert isinstance(found, Gaussian)
    np.testing.assert_array_equal(found.mean[0, 0, 0], values[:2])
    np.testing.assert_array_equal(found.log_variance[0, 0, 0], [20.0, -30.0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attention_levels": "(0, 2)"}, r"attention_levels=\(0, 2\) must be numbers of the 2 res"),
        ({"multipliers": "(1, 1, 1, 1, 1)"}, "needs .* multiples of 16; pad them"),
        ({"perceptual": "vgg"}, "images of 8x8 are too small for VGGFeatures"),
        ({"perceptual": "alex"}, "images of 8x8 are too small for AlexNetFeatures"),
        ({"num_layers": 3}, "hold no patch of a discriminator with num_layers=3"),
        ({"game": "relativistic"}, "config.game='relativistic' compares scores of images"),
        ({"num_groups": 7}, "channels do not divide into 7 groups"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    def trace():
        experiment = built(**settings)
        jax.eval_shape(partial(init_state, experiment.task, 0, experiment.data.element))

    with pytest.raises(GenaxError, match=said):
        trace()


@pytest.mark.parametrize(
    ("settings", "stages", "networks"),
    [
        ({}, [["autoencoder"], ["autoencoder", "discriminator"]], {"perceptual", "discriminator"}),
        ({"reconstruction_steps": 0}, [["autoencoder", "discriminator"]], None),
        ({"adversarial_weight": 0, "perceptual": "none"}, [["autoencoder"]], set()),
        ({"learned_variance": True, "adversarial_weight": 0}, [["autoencoder"]], None),
    ],
)
def test_what_is_trained(settings, stages, networks):
    """Stages follow from the settings; features are given and never trained."""
    task = built(**settings, channels=8, num_groups=4, multipliers="(1,)").task
    assert [[phase.name for phase in stage.phases] for stage in task.stages] == stages
    if networks is not None:
        there = {name for name in ("perceptual", "discriminator") if getattr(task.networks, name)}
        assert there == networks
        assert task.fixed == (("perceptual",) if "perceptual" in networks else ())
    learned = "learned_variance" in settings
    assert all(("log_variance" in stage.phases[0].trains) == learned for stage in task.stages)


def test_published_features_are_weights_of_a_package():
    sources = built("cpu").pretrained
    assert sources == {LPIPSWeights("alex"): {"params": "params/perceptual"}}
    assert built(perceptual="untrained").pretrained == {}
    both = built("cpu", perceptual="vgg", pretrained="runs/x").pretrained
    assert list(both) == ["runs/x", LPIPSWeights("vgg")]


def test_statistics_of_latents_are_those_of_draws(tmp_path):
    data = ImageData("digits", "train[:50]")

    def encode(nets, batch):
        mean = batch["image"] + 2
        return Gaussian(mean, jnp.full_like(mean, np.log(0.3)))

    evaluators = {"latents": latent_statistics(encode, data, examples=40)}
    task: Task = replace(line_task(), evaluators=evaluators)
    scores = evaluate(task, {"params": {}}, None, 20, tmp_path)
    (batch,) = data.evaluate(50, Shard())
    mean = batch["image"][:40].astype(np.float64) + 2
    deviation = np.sqrt(mean.var() + 0.3)
    assert scores["latents/mean"] == pytest.approx(mean.mean(), rel=1e-5)
    assert scores["latents/deviation"] == pytest.approx(deviation, rel=1e-5)
    assert scores["latents/scale_factor"] == pytest.approx(1 / deviation, rel=1e-5)
    assert scores.said["latents"]["images"] == 40


def test_words_are_the_nearest_and_gradients_pass_through():
    """The first word of a tie counts."""
    network = VQAutoencoder(8, (1,), 1, num_groups=4, num_codes=4, code_size=2)
    image = jnp.zeros((1, 2, 2, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    params = jax.tree.map(lambda s: jnp.zeros(s.shape), params)
    params["codebook"] = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    latents = jnp.array([[0.9, 0.0], [1.1, 0.1], [0.0, 3.0], [1.0, 0.0]]).reshape(1, 2, 2, 2)

    @jax.jit
    def quantise(params, latents):
        def total(params, latents):
            found = network.apply({"params": params}, latents, method="quantise")
            through = (found.latents * jnp.arange(8.0).reshape(1, 2, 2, 2)).sum()
            return through + found.codebook_error.sum() + 10 * found.commitment_error.sum(), found

        return jax.grad(total, (0, 1), has_aux=True)(params, latents)

    (of_params, of_latents), found = quantise(params, latents)
    assert found.indices.reshape(-1).tolist() == [0, 1, 2, 0]
    words = params["codebook"][found.indices]
    np.testing.assert_allclose(found.latents, words, atol=1e-6)
    error = latents - words
    np.testing.assert_allclose(found.codebook_error, [jnp.square(error).mean()], rtol=1e-6)
    straight = jnp.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_allclose(of_latents, straight + 10 * error / 4, rtol=1e-5)
    moved = np.zeros((4, 2))
    np.add.at(moved, np.asarray(found.indices).reshape(-1), -np.asarray(error / 4).reshape(-1, 2))
    np.testing.assert_allclose(of_params["codebook"], moved, rtol=1e-5)
    assert not any(
        leaf.any() for path, leaf in tree.flatten(of_params).items() if path != "codebook"
    )
