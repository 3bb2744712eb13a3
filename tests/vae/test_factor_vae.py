"""FactorVAE's shuffled latents."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.vae.factor_vae import shuffle_dimensions


@pytest.mark.parametrize("latent", [1, 5])
def test_each_dimension_is_permuted_by_itself(latent):
    z = jnp.arange(20.0 * latent).reshape(20, latent)
    shuffled = np.asarray(jax.jit(shuffle_dimensions)(jax.random.key(0), z))
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(z, axis=0))
    orders = {tuple(np.argsort(column)) for column in shuffled.T}
    assert len(orders) == latent
    assert (shuffled != np.asarray(z)).any()


def test_a_permutation_takes_each_element_everywhere():
    z = jnp.arange(5.0)[:, None]
    keys = jax.random.split(jax.random.key(1), 2000)
    drawn = jax.jit(jax.vmap(lambda key: shuffle_dimensions(key, z)))(keys)
    counts = (np.asarray(drawn)[..., 0][:, :, None] == np.arange(5)).mean(0)
    assert np.abs(counts - 0.2).max() < 0.05
