"""Networks of translations against PyTorch: outputs, loss and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import tree
from genax.gan.patch_discriminator import PatchDiscriminator, PixelDiscriminator
from genax.gan.resnet_generator import ResNetGenerator
from genax.gan.super_resolution import SRResNet
from genax.gan.unet_generator import UNetGenerator
from tests.gan import torch_translation as theirs
from tests.parity import require

[torch] = require("torch")

CASES = {
    "unet": (
        UNetGenerator((4, 8, 8, 8), 2, dropout=0.0),
        lambda: theirs.unet((4, 8, 8, 8), 3, 2),
        theirs.unet_names(4),
        16,
    ),
    "patches_batch": (
        PatchDiscriminator(4, 2),
        lambda: theirs.patches(3, 4, 2, "batch"),
        theirs.patch_names(2, "batch"),
        16,
    ),
    "patches_instance": (
        PatchDiscriminator(4, 2, "instance"),
        lambda: theirs.patches(3, 4, 2, "instance"),
        theirs.patch_names(2, "instance"),
        16,
    ),
    "pixels": (
        PixelDiscriminator(4),
        lambda: theirs.pixels(3, 4, "batch"),
        ["conv_0", "conv_1", "norm_1", "score"],
        8,
    ),
    "resnet": (
        ResNetGenerator(2, 4, 2),
        lambda: theirs.resnet(3, 2, 4, 2),
        theirs.resnet_names(2),
        12,
    ),
    "super_resolution": (
        SRResNet(2, 3, 4, 2),
        lambda: theirs.SuperResolution(3, 4, 2, 1),
        theirs.super_names(2, 1),
        8,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_agrees(name):
    ours, make, names, size = CASES[name]
    reference = theirs.randomised(make())
    image = np.random.default_rng(0).uniform(-1, 1, (3, size, size, 3)).astype(np.float32)
    params = tree.nest(theirs.leaves(reference, names))
    wanted = jax.eval_shape(lambda: ours.init(jax.random.key(0), jnp.asarray(image)))
    shapes = {path: leaf.shape for path, leaf in tree.flatten(wanted["params"]).items()}
    assert {path: leaf.shape for path, leaf in tree.flatten(params).items()} == shapes
    stats = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), wanted.get("batch_stats", {}))

    inputs = torch.tensor(image.transpose(0, 3, 1, 2).copy())
    outputs = reference(inputs)
    expected = outputs.detach().numpy().transpose(0, 2, 3, 1)
    expected = expected[..., 0] if name.startswith(("patches", "pixels")) else expected
    target = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)

    @jax.jit
    def loss(params):
        variables = {"params": params, "batch_stats": stats}
        y, _ = ours.apply(variables, jnp.asarray(image), train=True, mutable=["batch_stats"])
        return (y * target).mean(), y

    (_, y), slopes = jax.value_and_grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    weights = torch.tensor(target if target.ndim == 4 else target[..., None])
    (outputs * weights.permute(0, 3, 1, 2)).mean().backward()
    found = tree.flatten(slopes)
    largest = max(np.abs(leaf).max() for leaf in found.values())
    for path, wanted_slope in theirs.leaves(reference, names, lambda p: p.grad).items():
        np.testing.assert_allclose(
            found[path], wanted_slope, rtol=1e-4, atol=1e-5 * largest, err_msg=path
        )
