"""Free bits, warm-up and active units."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.nn.optimizers import warmup_constant
from genax.vae.active_units import count_active
from genax.vae.objectives import Terms, free_bits_loss, weight_at
from tests.experiments import config_of, load

TERMS = Terms(
    jnp.float32([10.0, 20.0, 30.0]),
    # Means 0.1, 2 and 0.5; of the first element the third is above.
    jnp.float32([[0.0, 1.0, 1.3], [0.1, 2.0, 0.1], [0.2, 3.0, 0.1]]),
)


def free(kl, free_bits, beta=1.0):
    terms = Terms(TERMS.reconstruction, kl)
    return free_bits_loss(nn.Module(), {"step": 5}, terms, free_bits, beta)


def test_each_dimension_has_its_mean_divergence_held_to_the_free_bits():
    """One image above them does not count if the batch's mean is below, and the other way round."""
    found = free(TERMS.kl, 0.6, beta=2.0)
    expected = np.float32([10, 20, 30]) + 2.0 * (0.6 + 2.0 + 0.6)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.aux["free_units"] == 2
    np.testing.assert_allclose(found.aux["kl"], [2.3, 2.2, 3.3], rtol=1e-6)


def test_only_dimensions_above_have_a_gradient():
    gradient = jax.grad(lambda kl: free(kl, 0.6).values.mean())(TERMS.kl)
    np.testing.assert_allclose(gradient, np.tile([0.0, 1 / 3, 0.0], (3, 1)), rtol=1e-6)


def test_no_free_bits_is_the_elbo():
    expected = TERMS.reconstruction + TERMS.kl.sum(-1).mean()
    np.testing.assert_allclose(free(TERMS.kl, 0.0).values, expected, rtol=1e-6)


def test_a_warm_up_is_linear_and_then_over():
    beta = warmup_constant(4.0, 100)
    found = [float(weight_at(beta, {"step": jnp.int32(step)})) for step in (0, 25, 100, 999)]
    assert found == pytest.approx([0.0, 1.0, 4.0, 4.0])
    assert weight_at(2.5, {}) == 2.5


def test_active_units_are_those_whose_mean_varies():
    """The variance of posterior means counts, and not their size."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4000, 4)) * np.sqrt([1.0, 0.011, 0.009, 0.0]) + [0, 0, 0, 5]
    assert count_active(means.astype(np.float32)) == {"active_units": 2.0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"widths": (8, 8, 8, 8)}, "images of 8x8 cannot be halved 4 times"),
        ({"widths": (8,), "decoder_hidden": (8,)}, "leave out config.decoder_hidden"),
        ({"widths": (8,), "decoder_activation": "relu"}, "leave out config.decoder_hidden"),
        ({"likelihood": "gaussian", "binarisation": "dynamic"}, "zeros and ones that config.binar"),
    ],
)
def test_settings_that_do_not_go_together(settings, sentence):
    module = load("experiments/vae/vae.py")
    config = config_of(module, "digits")
    config.update(settings)
    with pytest.raises(GenaxError, match=sentence):
        module.build(config)


def test_labels_that_are_not_there():
    module = load("experiments/vae/conditional_vae.py")

    class Unlabelled:
        @property
        def element(self):
            return {"image": jax.ShapeDtypeStruct((8, 8, 1), jnp.float32)}

        def fingerprint(self):
            return ""

        def train(self, batch_size, seed, shard): ...

        def evaluate(self, batch_size, shard): ...

    with pytest.raises(GenaxError, match=r"num_classes=10, but examples of .* have no label"):
        module.build(config_of(module, "digits"), Unlabelled())
