"""The conditional U-Net's sizes, and what it refuses.

It is compared with diffusers' UNet2DConditionModel in tests/interop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.conditional_unet import PRESETS, ConditionalUNet

TINY = ConditionalUNet(8, (1, 2), 1, transformer_layers=(1, 0), num_heads=(2, 2), num_groups=4)
X, TIMES = jnp.ones((2, 4, 4, 3)), jnp.array([3.0, 900.0])


def shapes_of(network, x=X, **conditions):
    return jax.eval_shape(
        lambda: network.init(jax.random.key(0), x, jnp.zeros(len(x)), **conditions)
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("preset", "width", "expected"),
    [("sd15", 768, 859_520_964), ("sd21", 1024, 865_910_724), ("sdxl", 2048, 2_567_463_684)],
)
def test_published_parameter_counts(preset, width, expected):
    given = {"memory": jnp.zeros((1, 77, width))}
    if preset == "sdxl":
        given |= {"text": jnp.zeros((1, 1280)), "numbers": jnp.zeros((1, 6))}
    shapes = shapes_of(ConditionalUNet(**PRESETS[preset]), jnp.zeros((1, 64, 64, 4)), **given)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == expected


@pytest.mark.long
def test_what_the_mask_hides_does_not_matter_and_the_rest_does():
    memory = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6)), jnp.float32)
    mask = jnp.array([[True, True, False], [True, True, True]])
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape, scale=0.3), s.dtype),
        shapes_of(TINY, memory=memory),
    )
    apply = jax.jit(lambda memory: TINY.apply(variables, X, TIMES, memory=memory, memory_mask=mask))
    before, after = apply(memory), apply(memory.at[:, 2].add(1.0))
    np.testing.assert_allclose(before[0], after[0], atol=1e-5)
    assert not np.allclose(before[1], after[1], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, (), "without a memory to attend to"),
        ({}, ("memory", "text"), "needs neither of text and numbers"),
        ({"added_time_features": 4}, ("memory", "text"), "needs both of text and numbers"),
        ({"num_classes": 3}, ("memory",), "without a label"),
        ({"num_heads": (2,)}, ("memory",), r"num_heads=\(2,\) for 2 multipliers"),
        ({"transformer_layers": (1,)}, ("memory",), r"transformer_layers=\(1,\) for 2 mult"),
    ],
)
def test_refusals(changes, given, message):
    known = {"memory": jnp.zeros((2, 3, 6)), "text": jnp.zeros((2, 5))}
    with pytest.raises(GenaxError, match=message):
        shapes_of(TINY.clone(**changes), **{name: known[name] for name in given})
