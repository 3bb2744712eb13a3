"""The VQ-VAE's sizes, its bound and its experiment, without a reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genax.core import GenaxError, init_state, make_step
from genax.front.experiments import configure, load
from genax.running.run import count_parameters
from genax.vae.quantised import uniform_elbo
from genax.vae.vq_settings import SIZES
from genax.vae.vq_vae import VQVAE, Networks

FILE = "experiments/vae/vq_vae.py"
TINY = {"width": 4, "block_width": 4, "num_codes": 8, "code_size": 3, "log_every": 5}


def built(variant, data=None, **changes):
    loaded = load(f"{FILE}:{variant}")
    config = configure(loaded, changes)
    return loaded.build(config, data), config


@pytest.mark.parametrize(("variant", "count"), [("cifar10", 4_942_915), ("digits", 60_178)])
def test_parameter_counts(variant, count):
    assert sum(count_parameters(built(variant)[0])[0].values()) == count


def test_codes_that_are_averages_are_no_parameters():
    counts = [
        sum(count_parameters(built("cifar10", **changes)[0])[0].values())
        for changes in ({}, {"averages": True})
    ]
    assert counts[0] - counts[1] == 512 * 64
    assert SIZES["paper"]["num_codes"] * SIZES["paper"]["code_size"] == 512 * 64


def test_images_by_their_codes():
    """`decode(encode(x))` is what the network itself makes of x, and the bound is of these."""
    nets = Networks(VQVAE(1, 4, 1, 4, num_codes=8, code_size=3, likelihood="bernoulli"))
    image = jnp.asarray(np.random.default_rng(0).integers(0, 2, (3, 8, 12, 1)), jnp.float32)
    batch = {"image": image, "index": jnp.arange(3)}

    def call(nets, batch):
        index = nets.autoencoder.encode(image)
        decoded, whole = nets.autoencoder.decode(index), nets.autoencoder(image)
        return index, decoded.logits, whole.logits, uniform_elbo(nets, batch)

    @jax.jit
    def found():
        params = nn.init(lambda nets: nets.autoencoder(image), nets)(jax.random.key(0))
        return nn.apply(call, nets)(params, batch)

    index, decoded, whole, bound = found()
    assert index.shape == (3, 2, 3)
    np.testing.assert_allclose(decoded, whole, atol=1e-5)
    logs = np.where(image > 0, -np.logaddexp(0, -decoded), -np.logaddexp(0, decoded))
    expected = logs.sum((1, 2, 3)) - 6 * np.log(8)
    np.testing.assert_allclose(bound.values, expected, rtol=1e-5)
    np.testing.assert_allclose(bound.aux["bits_per_dim"], -expected / (96 * np.log(2)), rtol=1e-5)


def test_refusals():
    with pytest.raises(GenaxError, match=r"images of 10x10 have no whole number of 4x4 pixels"):
        built("digits", size=10)
    with pytest.raises(GenaxError, match=r"averages=False, dead_below=0.1.*set dead_below=0"):
        count_parameters(built("digits", averages=False)[0])
    with pytest.raises(GenaxError, match=r"num_classes=10"):
        built("digits", num_classes=10)
    with pytest.raises(GenaxError, match=r"config\.likelihood=discretised_logistic is not one of"):
        built("digits", binarisation="static")


@pytest.mark.long
def test_few_different_vectors():
    """Images without a difference, and a single image: more codes than there are vectors."""
    experiment, _ = built("digits", **TINY)
    step = jax.jit(make_step(experiment.task))
    single = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    for image in (np.zeros_like(single), single):
        state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
        batch = {"image": np.repeat(image, 8, axis=0), "label": np.zeros(8, np.int32)}
        losses = []
        for _ in range(60):
            state, metrics = step(state, batch)
            losses.append(float(metrics["autoencoder/loss"]))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.collections))
        assert losses[-1] < losses[0]
        assert 1 <= metrics["autoencoder/used_codes"] <= 4
