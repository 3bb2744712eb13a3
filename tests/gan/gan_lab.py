"""The networks of the package gan-lab, small, for comparison; tests skip without it.

    pip install --no-deps gan-lab==0.4.2

Its own requirements would replace PyTorch, and its networks need none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import partial
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import tree
from tests.parity import check_installed, converted, require

# Of the base of both families: channels of a block times its resolution, halved, and their bound.
BASE, MOST = 64, 16
WIDTHS = {"width": 2 * BASE, "max_width": MOST}
LATENT, BATCH = 16, 8
# How many resolutions from 4x4 on, and how far the last one has come in.
GROWTHS = [
    (2, 0.3),
    *(
        pytest.param(*growth, marks=pytest.mark.long)
        for growth in ((1, None), (2, None), (3, 0.3), (3, None))
    ),
]


def networks(family: str, width: int = BASE, max_width: int = MOST) -> ModuleType:
    """The module of a family's networks, "progan" or "stylegan".

    width: channels of a block times its resolution, halved.
    max_width: their bound.
    """
    require("torch")
    check_installed("gan_lab", how="--no-deps gan-lab==0.4.2")
    found: Any = importlib.util.find_spec("gan_lab")
    root = next(iter(found.submodule_search_locations))
    # Its modules import each other as if its folder were the first place to look, and its packages
    # import what trains, which needs far more.
    own = ("_int", "utils", "progan", "stylegan")
    kept = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] in own}
    sys.path.insert(0, root)
    try:
        for name in own[1:]:
            package: Any = ModuleType(name)
            package.__path__ = [os.path.join(root, name)]
            sys.modules[name] = package
        module = importlib.import_module(f"{family}.architectures")
        base = sys.modules[f"{family}.base"]
    finally:
        sys.path.remove(root)
        for name in [*sys.modules]:
            if name.split(".")[0] in own:
                del sys.modules[name]
        sys.modules.update(kept)
    base.FMAP_BASE, base.FMAP_MAX = width, max_width
    module.concat_mbstd_layer = official_deviation
    return module


def official_deviation(x, group_size):
    """The official minibatch deviation; that of the package has neighbours in a group."""
    torch = importlib.import_module("torch")
    groups = x.view(group_size, -1, *x.shape[1:])
    deviation = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    channel = deviation.repeat(group_size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


def grown(make: partial, sizes: int, share: float | None) -> Any:
    """A network that has grown to a number of sizes, the last of which has come in so far."""
    family = make.func.__base__
    family.reset_state()
    network = make()
    for _ in range(sizes - 1):
        # Generator and discriminator share their size, and the second to grow leaves it as it is.
        family._scale_inc_metadata_updated = False
        network.increase_scale()
    network.alpha = 1.0 if share is None else share
    return network


def with_official_bias(network: Any, module: ModuleType) -> Any:
    """The generator of ProGAN with one bias a feature in its first layer.

    gan-lab has one a feature and pixel.

    module: of its family's networks.
    """
    torch = importlib.import_module("torch")
    dense, reshape, *others = network.gen_blocks[0]
    dense.linear.bias = None
    bias = module.Conv2dBias(network.len_latent)
    network.gen_blocks[0] = torch.nn.Sequential(dense, reshape, bias, *others)
    return network


def randomised(network: Any) -> Any:
    """The network with numbers where its own begin as zeros or ones, which would hide faults."""
    torch = importlib.import_module("torch")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if any(part in name for part in ("bias", "noise", "const")):
                parameter.normal_(0.0, 0.3)
    return network


def copied(network: Any, params: Any, conversions: Any) -> Any:
    """Our parameters with the numbers of the other network."""
    leaves = tree.flatten(params)
    found = converted(conversions, dict(network.named_parameters()), leaves)
    assert all(leaves[path].shape == x.shape for path, x in found.items())
    # Copies: PyTorch's optimizer writes into its own.
    return tree.unflatten(leaves | {path: jnp.array(x) for path, x in found.items()}, params)


def agree(worst: dict[str, float]) -> None:
    """What `compare` found is as near as rounding."""
    assert max(worst["outputs"], worst["loss"], worst["AdamW step"]) < 1e-5, worst
    assert worst["gradients"] < 1e-4, worst


def share_of(share: float | None) -> Any:
    return None if share is None else jnp.float32(share)


def image_of(size: int) -> np.ndarray:
    """Images that are noise, always the same."""
    return np.random.default_rng(size).normal(size=(BATCH, size, size, 3)).astype(np.float32)


def nchw(x: Any) -> Any:
    """An array of ours as a tensor."""
    torch = importlib.import_module("torch")
    return torch.tensor(np.array(x).transpose(0, 3, 1, 2))


def nhwc(x: Any) -> np.ndarray:
    """A tensor as an array of ours."""
    return x.detach().numpy().transpose(0, 2, 3, 1)
