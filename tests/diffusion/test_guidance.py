"""Classifier-free guidance, and samples of a class."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.clipping import dynamic_threshold
from genax.diffusion.guidance import (
    autoguidance,
    away_from,
    classifier_free,
    classifier_guidance,
    unguided,
)
from genax.diffusion.linear_flow import LinearFlow
from genax.diffusion.networks import GuidedNetworks
from genax.diffusion.predictions import (
    CLEAN,
    EPSILON,
    EPSILON_AND_VARIANCE,
    VELOCITY,
    V,
    predict_clean,
)
from genax.diffusion.process import expand
from genax.diffusion.respacing import respaced
from genax.diffusion.sampling import sample
from genax.diffusion.solvers import ddim, heun
from genax.diffusion.spacings import karras, leading
from genax.diffusion.unet import UNet
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.conditions import on_label
from tests.compilation import USERS_OPTIONS
from tests.diffusion.toys import PROCESS, WavyDenoiser, run
from tests.parity import require

NULL = 10
NOISY = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2, 1)), jnp.float32)
TIMES = jnp.array([100, 500, 900])
ARGUMENTS = {"label": jnp.array([1, 4, 7]), "level": jnp.array([0.1, 0.2, 0.3])}


def labelled(noisy, times, label, level, calls=None):
    """An output that differs by label and level, and counts how often it is asked for."""
    if calls is not None:
        calls.append(label.shape)
    wave = jnp.sin(label + level + times / 100)
    return noisy * wave[:, None, None, None]


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.5])
def test_guidance_is_of_both_outputs_in_one_call(scale):
    calls: list = []
    network = partial(labelled, calls=calls)
    guided = classifier_free(scale, label=NULL)(network, NOISY, TIMES, ARGUMENTS)
    assert calls == [(6,)]
    given = labelled(NOISY, TIMES, **ARGUMENTS)
    absent = labelled(NOISY, TIMES, jnp.full(3, NULL), ARGUMENTS["level"])
    np.testing.assert_allclose(guided, absent + scale * (given - absent), atol=1e-6)
    assert not np.allclose(given, absent)


def test_guidance_acts_within_its_interval():
    guide = classifier_free(3.0, interval=(500.0, 800.0), label=NULL)
    guided = guide(labelled, NOISY, TIMES, ARGUMENTS)
    everywhere = classifier_free(3.0, label=NULL)(labelled, NOISY, TIMES, ARGUMENTS)
    plain = unguided(labelled, NOISY, TIMES, ARGUMENTS)
    np.testing.assert_allclose(guided[1], everywhere[1], atol=1e-6)
    np.testing.assert_allclose(guided[jnp.array([0, 2])], plain[jnp.array([0, 2])], atol=1e-6)
    assert not np.allclose(everywhere, plain)


def test_null_values_may_be_arrays():
    """A text's encoding is dropped for that of the empty text."""
    texts, empty = jnp.arange(6.0).reshape(3, 2), jnp.array([7.0, 8.0])
    seen = []

    def network(noisy, times, text):
        seen.append(text)
        return noisy

    classifier_free(2.0, text=empty)(network, NOISY, TIMES, {"text": texts})
    np.testing.assert_array_equal(seen[0], [*texts, empty, empty, empty])


def test_a_null_value_of_no_condition_is_refused():
    with pytest.raises(GenaxError, match=r"\['caption'\].*conditions are \['label', 'level'\]"):
        classifier_free(2.0, caption=0)(labelled, NOISY, TIMES, ARGUMENTS)


class ClassMeans(nn.Module):
    """The clean image of a class is its number over 10; of no condition, 0."""

    @nn.compact
    def __call__(self, x, times, label, train=False):
        one = self.param("one", nn.initializers.ones, ())
        mean = jnp.where(label == NULL, 0, label / 10)
        return one * jnp.broadcast_to(mean[:, None, None, None], x.shape)


@pytest.mark.parametrize(
    ("process", "solver"),
    [
        (PROCESS, ddim(PROCESS, leading(1000, 5))),
        (VarianceExploding(), heun(VarianceExploding(), karras(5))),
    ],
    ids=["discrete", "continuous"],
)
def test_guided_samples_are_of_their_classes(process, solver):
    function = partial(
        sample,
        solver=solver,
        process=process,
        shape=(2, 2, 1),
        prediction=CLEAN,
        guide=classifier_free(2.0, label=NULL),
        condition=on_label,
    )
    batch = {"index": np.arange(3), "label": np.array([1, 3, NULL])}
    samples = run(function, ClassMeans(), batch)
    np.testing.assert_allclose(samples[:, 0, 0, 0], [0.2, 0.6, 0.0], atol=1e-5)


def test_a_network_of_another_name_is_sampled():
    class Two(nn.Module):
        first: nn.Module
        second: nn.Module

    function = partial(
        sample,
        solver=ddim(PROCESS, leading(1000, 2)),
        process=PROCESS,
        shape=(2, 2, 1),
        prediction=CLEAN,
        condition=on_label,
        network="second",
    )
    batch = {"index": np.arange(2), "label": np.array([1, 3])}
    variables = {"params": {"second": {"one": np.float32(1)}}}
    keys = {"example": jax.random.key(0)}
    samples = nn.apply(function, Two(nn.Dense(1), ClassMeans()))(variables, batch, rngs=keys)
    np.testing.assert_allclose(samples[:, 0, 0, 0], [0.1, 0.3], atol=1e-5)


def test_rescaled_guidance_is_that_of_diffusers():
    """Lin et al. 2023, section 3.4: the standard deviation of each image is brought back."""
    torch, diffusers = require("torch", "diffusers")
    del diffusers
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    given, absent = (np.random.default_rng(n).normal(size=(3, 4, 4, 2)) for n in (1, 2))
    given, absent = given.astype(np.float32), absent.astype(np.float32)
    guided = absent + 7.5 * (given - absent)
    theirs = rescale_noise_cfg(torch.from_numpy(guided), torch.from_numpy(given), 0.7)
    ours = away_from(jnp.asarray(absent), jnp.asarray(given), 7.5, TIMES, rescale=0.7)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    whole = away_from(jnp.asarray(absent), jnp.asarray(given), 7.5, TIMES, rescale=1.0)
    np.testing.assert_allclose(whole.std((1, 2, 3)), given.std((1, 2, 3)), rtol=1e-5)


def test_some_channels_are_not_guided():
    """The code of DiT guides 3 of 4 channels, and no learned variance."""
    noisy = jnp.tile(NOISY, 4)

    def network(noisy, times, label):
        return jnp.concatenate([noisy, noisy], axis=-1) * expand(label.astype(jnp.float32), noisy)

    arguments = {"label": ARGUMENTS["label"]}
    guided = classifier_free(3.0, channels=3, label=NULL)(network, noisy, TIMES, arguments)
    given = network(noisy, TIMES, **arguments)
    absent = network(noisy, TIMES, jnp.full(3, NULL))
    expected = absent + 3 * (given - absent)
    np.testing.assert_allclose(guided[..., :3], expected[..., :3], rtol=1e-5)
    np.testing.assert_array_equal(guided[..., 3:], given[..., 3:])


def test_guidance_without_a_null_class_is_refused():
    with pytest.raises(GenaxError, match="no null value is given"):
        classifier_free(2.0)
    unet = UNet(8, (1,), 1, (), num_groups=4, num_classes=3)
    with pytest.raises(GenaxError, match="has no label for no condition"):
        classifier_free(2.0, label=unet.null_label)


def test_a_conditional_network_is_not_sampled_without_its_condition():
    unet = UNet(8, (1,), 1, (), num_groups=4, num_classes=3)
    draw = partial(sample, process=PROCESS, shape=(2, 2, 1), solver=ddim(PROCESS, leading(1000, 2)))
    with pytest.raises(GenaxError, match=r"called without a label"):
        run(draw, unet, {"index": np.arange(2)})


# Two classes of images whose pixels are one number, which is normal.
CENTRES, SPREAD = jnp.array([-0.5, 0.7]), 0.3


def log_joint(noisy, times):
    """The log density of each class, [b, 2]; one pixel."""
    signal, sigma = PROCESS.signal(times)[:, None], PROCESS.sigma(times)[:, None]
    variance = jnp.square(signal * SPREAD) + jnp.square(sigma)
    distance = noisy.reshape(-1, 1) - signal * CENTRES
    return -jnp.square(distance) / (2 * variance)


def of_class(noisy, times, label):
    """The clean image to expect of a class."""
    signal, sigma = (expand(f(times), noisy) for f in (PROCESS.signal, PROCESS.sigma))
    gain = signal * SPREAD**2 / (jnp.square(signal * SPREAD) + jnp.square(sigma))
    centre = expand(CENTRES[label], noisy)
    return centre + gain * (noisy - signal * centre)


def of_all(noisy, times):
    """The clean image to expect of both classes."""
    shares = jax.nn.softmax(log_joint(noisy, times))
    both = [of_class(noisy, times, jnp.full(len(noisy), label)) for label in (0, 1)]
    return sum(expand(shares[:, label], noisy) * both[label] for label in (0, 1))


@pytest.mark.parametrize("prediction", [EPSILON, CLEAN, V], ids=["noise", "clean", "v"])
def test_guidance_by_an_exact_classifier_gives_the_class(prediction):
    """A scale of 1 makes a conditional denoiser of one without conditions (rule of Bayes)."""
    noisy, times = jnp.array([-0.2, 0.4, 1.1])[:, None, None, None], jnp.array([20, 300, 700])
    label = jnp.array([0, 1, 0])
    signal, sigma = (expand(f(times), noisy) for f in (PROCESS.signal, PROCESS.sigma))

    def network(noisy, times):
        clean = of_all(noisy, times)
        return prediction.target(clean, (noisy - signal * clean) / sigma, signal, sigma)

    guidance = classifier_guidance(1.0, PROCESS, prediction, classifier=log_joint)
    guide = guidance.make(WavyDenoiser(), {"label": label}, noisy, times, {})
    output = guide(network, noisy, times, {})
    found = predict_clean(PROCESS, prediction, output, noisy, times)
    np.testing.assert_allclose(found, of_class(noisy, times, label), atol=1e-4)
    plain = predict_clean(PROCESS, prediction, network(noisy, times), noisy, times)
    assert np.abs(plain - of_class(noisy, times, label)).max() > 0.1


@pytest.mark.parametrize("prediction", [V, VELOCITY], ids=["v", "velocity"])
def test_a_classifier_moves_nothing_where_there_is_no_signal(prediction):
    process = LinearFlow()
    noisy, times = jnp.array([0.3, 0.3])[:, None, None, None], jnp.array([1.0, 0.5])

    def logits(noisy, times):
        return noisy[:, 0, 0] * jnp.arange(2)

    guidance = classifier_guidance(2.0, process, prediction, classifier=logits)
    guide = guidance.make(WavyDenoiser(), {"label": jnp.array([1, 1])}, noisy, times, {})
    moved = guide(lambda noisy, times: noisy, noisy, times, {}) - noisy
    assert moved[0] == 0
    assert np.isfinite(moved).all()
    assert moved[1] != 0


@pytest.mark.parametrize("wrong", [{"rescale": 1.5}, {"interval": (800.0, 200.0)}])
def test_guidance_of_no_strength_is_refused(wrong):
    with pytest.raises(GenaxError, match="has to be from 0 to 1, and the interval"):
        away_from(NOISY, NOISY, 2.0, TIMES, **wrong)


def test_an_output_without_a_spread_is_not_rescaled():
    """That of a new DiT is 0."""
    assert (away_from(0 * NOISY, 0 * NOISY, 2.0, TIMES, rescale=0.7) == 0).all()


class Classifier(nn.Module):
    """Logits of three classes, which name the mean of an image."""

    @nn.compact
    def __call__(self, x, times, train=False):
        one = self.param("one", nn.initializers.ones, ())
        mean = x.mean((1, 2, 3))[:, None] - jnp.array([-2.0, 0.0, 2.0])
        return -3 * one * jnp.square(mean) + 0 * times[:, None]


class Waves(nn.Module):
    """Noise and, if asked, its variance."""

    channels: int = 1

    @nn.compact
    def __call__(self, x, times, train=False):
        return jnp.tile(WavyDenoiser(name="wave")(x, times), self.channels)


def guided_samples(guide, other, prediction=EPSILON, denoiser=None, process=PROCESS):
    draw = partial(
        sample,
        solver=ddim(process, leading(process.num_timesteps, 4)),
        process=process,
        shape=(2, 2, 1),
        prediction=prediction,
        clip_denoised=False,
        guide=guide,
    )
    batch = {"index": np.arange(3), "label": np.array([0, 1, 2])}
    ones = {"wave": {"one": np.float32(1)}, "one": np.float32(1)}
    variables = {"params": {"denoiser": ones, "guide": ones}}
    apply = nn.apply(draw, GuidedNetworks(denoiser or Waves(), other))
    keys = {"example": jax.random.key(0)}
    draw = jax.jit(lambda batch: apply(variables, batch, rngs=keys), compiler_options=USERS_OPTIONS)
    return np.asarray(draw(batch))


@pytest.mark.parametrize("spaced", [False, True])
def test_a_classifier_of_the_task_moves_samples_to_their_class(spaced):
    process = respaced(PROCESS, leading(1000, 10)) if spaced else PROCESS
    plain = guided_samples(unguided, Classifier(), process=process)
    guide = classifier_guidance(2.0, process)
    guided = guided_samples(guide, Classifier(), process=process)
    moves = (guided - plain).mean((1, 2, 3))
    assert moves[0] < -0.1
    assert moves[2] > 0.1
    variance = guided_samples(guide, Classifier(), EPSILON_AND_VARIANCE, Waves(2), process)
    np.testing.assert_allclose(variance, guided, atol=1e-5)


class Worse(nn.Module):
    """Noise that is too small."""

    @nn.compact
    def __call__(self, x, times, train=False):
        return 0.5 * WavyDenoiser(name="wave")(x, times)


def test_autoguidance_goes_away_from_the_worse_network():
    """A scale of 2 finds 3/2 of the noise if the worse network finds half of it."""

    class Larger(nn.Module):
        @nn.compact
        def __call__(self, x, times, train=False):
            return 1.5 * WavyDenoiser(name="wave")(x, times)

    guided = guided_samples(autoguidance(2.0, PROCESS), Worse())
    expected = guided_samples(unguided, Worse(), denoiser=Larger())
    np.testing.assert_allclose(guided, expected, atol=1e-4)
    none = guided_samples(autoguidance(1.0, PROCESS), Worse())
    np.testing.assert_allclose(none, guided_samples(unguided, Worse()), atol=1e-5)


def test_a_guide_that_the_task_does_not_have_is_refused():
    draw = partial(sample, process=PROCESS, shape=(2, 2, 1), solver=ddim(PROCESS, leading(1000, 2)))
    for guide in (autoguidance(2.0, PROCESS), classifier_guidance(1.0, PROCESS)):
        with pytest.raises(GenaxError, match="calls the network 'guide', which the task does not"):
            run(partial(draw, guide=guide), WavyDenoiser(), {"index": np.arange(2)})


@pytest.mark.parametrize("largest", [1.0, 1.5, 100.0])
def test_dynamic_thresholding_is_that_of_diffusers(largest):
    torch, diffusers = require("torch", "diffusers")
    images = 1.5 * np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    images[0] /= 10
    scheduler = diffusers.DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=largest
    )
    theirs = scheduler._threshold_sample(torch.from_numpy(images))
    ours = dynamic_threshold(0.9, largest)(jnp.asarray(images))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    if largest == 100.0:
        np.testing.assert_allclose(dynamic_threshold(0.9)(jnp.asarray(images)), theirs, atol=1e-6)


def test_samples_are_clipped_by_a_function():
    seen = []

    def halved(clean):
        seen.append(clean.shape)
        return clean / 2

    draw = partial(sample, process=PROCESS, shape=(2, 2, 1), solver=ddim(PROCESS, leading(1000, 2)))
    run(partial(draw, clip_denoised=halved), WavyDenoiser(), {"index": np.arange(3)})
    assert seen == [(3, 2, 2, 1)]
    for wrong in ({"quantile": 1.1}, {"largest": 0.5}):
        with pytest.raises(GenaxError, match="dynamic_threshold"):
            dynamic_threshold(**wrong)
