"""BigGAN-deep's generator against the package pytorch_pretrained_biggan, by copied weights.

    pip install --no-deps pytorch-pretrained-biggan==0.1.1

It is a port of the authors' published weights, whose image is the first three channels of its last
convolution. Of its requirements only those that download weights are missing then.
"""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import tree
from genax.gan.big_gan import BigGANGenerator
from tests.gan import big_gan_torch as reference
from tests.parity import check_installed, require

[torch] = require("torch")
NAME = "pytorch_pretrained_biggan"
CLASSES, LATENT, WIDTH = 5, 6, 4
# (whether the block doubles the resolution, channels in, channels out), from 4 pixels to 64. Each
# change of channels halves them.
MULTIPLIERS = (16, 8, 4, 2, 1)
LAYERS = [
    layer
    for inputs, outputs in pairwise(MULTIPLIERS)
    for layer in ((False, inputs, inputs), (True, inputs, outputs))
]
# The row of 51 sets of statistics that truncation 0.5 stands for.
TRUNCATION, ROW = 0.5, 25
RENAMED = {
    "snconv1x1_theta": "query",
    "snconv1x1_phi": "key",
    "snconv1x1_g": "value",
    "snconv1x1_o_conv": "output",
}


def package():
    """Its module of networks, which needs nothing that downloads."""
    check_installed(NAME, how="--no-deps pytorch-pretrained-biggan==0.1.1")
    absent = ("boto3", "botocore", "botocore.exceptions")
    stubs = {name: ModuleType(name) for name in absent if name not in sys.modules}
    if "botocore.exceptions" in stubs:
        stubs["botocore.exceptions"].ClientError = Exception
    sys.modules.update(stubs)
    try:
        return importlib.import_module(NAME)
    finally:
        for name in stubs:
            del sys.modules[name]


def norm(path, module):
    """A norm's layers if it has a condition, and its statistics."""
    found = {}
    if module.conditional:
        found |= reference.layer(f"{path}/scale", module.scale)
        found |= reference.layer(f"{path}/bias", module.offset)
        path = f"{path}/norm"
    else:
        found[f"params/{path}/scale"] = reference.array(module.weight)
        found[f"params/{path}/bias"] = reference.array(module.bias)
    found[f"batch_stats/{path}/mean"] = reference.array(module.running_means[ROW])
    found[f"batch_stats/{path}/var"] = reference.array(module.running_vars[ROW])
    return found


def variables(model):
    """Our variables, by path. Two blocks of theirs are one resolution of ours."""
    generator = model.generator
    found = {"params/labels/embedding": reference.array(model.embeddings.weight).T}
    found |= reference.layer("project", generator.gen_z)
    found |= norm("norm", generator.bn) | reference.layer("image", generator.conv_to_rgb)
    blocks = [layer for layer in generator.layers if hasattr(layer, "conv_0")]
    for number, block in enumerate(blocks):
        path = f"block_{number // 2}_{number % 2}"
        for part in range(4):
            found |= norm(f"{path}/norm_{part}", getattr(block, f"bn_{part}"))
            found |= reference.layer(f"{path}/conv_{part}", getattr(block, f"conv_{part}"))
    [attention] = [layer for layer in generator.layers if not hasattr(layer, "conv_0")]
    for name, ours in RENAMED.items():
        found |= reference.layer(f"attention/{ours}", getattr(attention, name))
    found["params/attention/weight"] = reference.array(attention.gamma)[0]
    return tree.nest(jax.tree.map(jnp.asarray, found))


def test_images_agree():
    library = package()
    config = library.BigGANConfig(
        output_dim=64,
        z_dim=LATENT,
        class_embed_dim=LATENT,
        channel_width=WIDTH,
        num_classes=CLASSES,
        layers=LAYERS,
        attention_layer_position=2,
    )
    torch.manual_seed(0)
    model = library.BigGAN(config).eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("bn.weight", "running_vars")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("bn.bias", "running_means", "gamma")):
                tensor.normal_()
        # The vectors of singular values move in training mode; then they are used as they are.
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                module.train()
                hook(module, None)
                module.eval()
    network = BigGANGenerator(
        64,
        3,
        WIDTH,
        LATENT,
        label_size=LATENT,
        multipliers=MULTIPLIERS,
        attention_at=8,
        deep=True,
        spare_channels=True,
        epsilon=config.eps,
        spectral_epsilon=config.eps,
        num_classes=CLASSES,
    )
    z = np.random.default_rng(0).normal(size=(3, LATENT)).astype(np.float32)
    label = np.array([0, 4, 2])
    with torch.no_grad():
        one_hot = torch.eye(CLASSES)[label]
        expected = model(torch.tensor(z), one_hot, TRUNCATION).numpy().transpose(0, 2, 3, 1)
    ours = jax.jit(network.apply)(variables(model), jnp.asarray(z), jnp.asarray(label))
    assert expected.std() > 0.1
    np.testing.assert_allclose(ours, expected, 1e-5, 1e-5)
