"""Conditional autoencoders of images: bounds by numpy, shapes of what they make."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.vae.convolutional import ConvEncoder
from genax.vae.distributions import Gaussian
from genax.vae.translation import (
    PairEncoder,
    SourceDecoder,
    TranslationNetworks,
    draw_translations,
    translate,
    translation_elbo,
    translation_elbo_loss,
    translations,
    variety,
)

NETWORKS = TranslationNetworks(
    PairEncoder((4, 6), (7,), 3), ConvEncoder((4, 6), (7,), 3), SourceDecoder(3, (4, 6), 0.5)
)
RNGS = {"params": jax.random.key(0), "example": jax.random.key(1)}
KEYS = jax.random.split(jax.random.key(2))
BATCH = {
    "image": jax.random.uniform(KEYS[0], (5, 8, 8, 3), minval=-1),
    "source": jax.random.uniform(KEYS[1], (5, 8, 8, 1), minval=-1),
    "index": jnp.arange(5),
}
VARIABLES = jax.jit(nn.init(translation_elbo_loss, NETWORKS))(RNGS, BATCH)


def call(function, batch=BATCH, variables=VARIABLES):
    rngs = {"example": jax.random.key(1)}
    return jax.jit(nn.apply(function, NETWORKS))(variables, dict(batch), rngs=rngs)


def test_divergence_is_the_mean_of_the_log_ratio():
    one = Gaussian(jnp.float32([0.5, -1.0]), jnp.float32([-1.0, 0.3]))
    other = Gaussian(jnp.float32([0.0, -0.5]), jnp.float32([0.2, 0.3]))
    z = one.transform(jax.random.normal(jax.random.key(0), (200_000, 2)))
    ratio = (one.log_prob(z) - other.log_prob(z)).mean(0)
    np.testing.assert_allclose(one.kl_to(other), ratio, atol=0.01)
    np.testing.assert_array_equal(one.kl_to(one), 0)
    standard = Gaussian(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(one.kl_to(standard), one.kl_to_standard(), rtol=1e-6)


def test_bound_by_numpy():
    def parts(nets, batch):
        posterior = nets.encoder(batch["image"], batch["source"])
        prior = nets.prior(batch["source"])
        decoded = nets.decoder(posterior.mean[:, None], batch["source"]).mean[:, 0]
        return posterior, prior, decoded

    posterior, prior, decoded = call(parts)
    loss = call(partial(translation_elbo_loss, beta=3.0))
    kl = np.asarray(posterior.kl_to(prior)).sum(-1)
    np.testing.assert_allclose(loss.aux["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(loss.values, loss.aux["reconstruction"] + 3 * kl, rtol=1e-5)
    np.testing.assert_allclose(-call(translation_elbo).values, loss.values - 2 * kl, rtol=1e-5)
    # Posteriors that are points leave the decoder's mean at theirs.
    points = jax.tree.map_with_path(
        lambda path, leaf: leaf - 40.0 * ("log_variance" in jax.tree_util.keystr(path)), VARIABLES
    )
    error = np.square(np.asarray(decoded, np.float64) - BATCH["image"]) / 0.25
    expected = 0.5 * (error + np.log(2 * np.pi * 0.25)).sum((1, 2, 3))
    found = call(translation_elbo_loss, variables=points)
    np.testing.assert_allclose(found.aux["reconstruction"], expected, rtol=1e-3)


def test_images_are_of_their_source_and_of_their_latent():
    mean = call(translate)
    assert mean.shape == (5, 8, 8, 3)
    assert np.abs(mean).max() < 1
    found = call(partial(translations, samples=4))
    assert found.shape == (5, 4, 8, 8, 3)
    assert np.asarray(found).std(1).min() > 0
    part = {name: value[3:] for name, value in BATCH.items()}
    np.testing.assert_allclose(call(partial(translations, samples=4), part), found[3:], atol=1e-6)
    other = {**BATCH, "source": -BATCH["source"]}
    assert not np.allclose(call(translate, other), mean)
    picture = draw_translations(np.asarray(found)[..., :1], {**BATCH, "image": mean[..., :1]})
    assert picture.size == (6 * 66 + 2, 5 * 66 + 2)


def test_variety_by_numpy():
    evaluator = variety(samples=4)
    found = evaluator.summarize(jax.tree.map(np.asarray, call(evaluator.function)), None)
    drawn = np.asarray(call(partial(translations, samples=4)))
    squares = np.square(drawn - np.asarray(BATCH["image"])[:, None]).mean((2, 3, 4))
    ratios = 10 * np.log10(4 / squares)
    assert found["psnr"] == pytest.approx(ratios.mean(), rel=1e-4)
    assert found["best_psnr"] == pytest.approx(ratios.max(1).mean(), rel=1e-4)
    assert found["spread"] == pytest.approx(np.sqrt(drawn.var(1).mean()), rel=1e-4)


def test_sides_that_cannot_be_halved_are_refused():
    networks = NETWORKS.clone(decoder=SourceDecoder(3, (4, 6, 8, 8)))
    with pytest.raises(GenaxError, match="8x8 cannot be halved 4 times"):
        jax.eval_shape(nn.init(translation_elbo_loss, networks), RNGS, BATCH)
