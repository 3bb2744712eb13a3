"""The published sizes: parameter counts, exactly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from genax.hybrid.mamba import MAMBA_PRESETS, Mamba
from genax.hybrid.mamba2 import MAMBA2_PRESETS, Mamba2
from genax.settings import from_config
from genax.settings.config import base_config
from genax.transformer.settings import sizes
from tests.cli.command import succeed

FAMILIES = {"mamba": (Mamba, MAMBA_PRESETS), "mamba2": (Mamba2, MAMBA2_PRESETS)}
SIZES = [(file, name) for file, (_, presets) in FAMILIES.items() for name in presets]


@pytest.mark.long
@pytest.mark.parametrize(("file", "name"), SIZES)
def test_parameters(file, name):
    kind, presets = FAMILIES[file]
    network = from_config(kind, base_config(**sizes(presets[name]), scan_layers=True))
    tokens = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), tokens)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == presets[name].params


@pytest.mark.long
@pytest.mark.parametrize(("file", "name"), [SIZES[4], SIZES[9]])
def test_genax_params(file, name):
    found = succeed("params", f"experiments/hybrid/{file}.py:{name}", "--json")
    assert found.json["total"] == FAMILIES[file][1][name].params
