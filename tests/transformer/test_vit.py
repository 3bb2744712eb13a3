"""The Vision Transformer: maps of attention, pooling, and a schedule of its own."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.settings.overrides import override
from genax.transformer.tasks.classification import Networks, show_attention
from genax.transformer.vit import ViT, attention_maps
from tests import experiments

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)), jnp.float32)


def make(**settings):
    vit = ViT(8, 2, 12, 3, 2, 5, **settings)
    return vit, jax.jit(vit.init)(jax.random.key(0), IMAGES)


def stacked(variables):
    """The same parameters as `scan_layers` has them."""
    params = dict(variables["params"])
    blocks = [params.pop(f"blocks_{number}") for number in range(3)]
    return {"params": params | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks)}}


@pytest.mark.long
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_scanned_layers_show_the_same(pool):
    """The published sizes scan and rematerialise their layers; their pictures are drawn too."""
    vit, variables = make(pool=pool)
    scanned = vit.clone(scan_layers=True, remat="full")
    expected = attention_maps(vit, variables, IMAGES)
    assert expected.shape == (3, 2, 2, *(16 + (pool == "token"),) * 2)
    np.testing.assert_allclose(expected.sum(-1), 1, rtol=1e-5)
    found = attention_maps(scanned, stacked(variables), IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    show = partial(show_attention, batch={"image": IMAGES})
    picture = jax.jit(nn.apply(show, Networks(scanned)))(
        {"params": {"classifier": stacked(variables)["params"]}}
    )
    assert picture.shape == (2, 8, 16, 1)
    assert np.isfinite(picture).all()


@pytest.mark.parametrize("variant", ["digits", "b16"])
def test_a_picture_and_a_run_of_any_length(variant):
    """The learning rate follows its own length, so that a bounded run is a run's beginning."""
    vit = experiments.load("experiments/transformer/vit.py")
    config = override(experiments.config_of(vit, variant), {"steps": 1})
    assert config.decay_steps > config.warmup_steps
    assert list(vit.build(config).task.samplers) == ["attention"]
