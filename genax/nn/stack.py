"""Stacks of equal layers, as a list or as one scanned layer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.rematerialise import rematerialise


def make_blocks(
    block: type[nn.Module],
    num_layers: int,
    scan_layers: bool,
    remat: str,
    per_layer: bool = False,
    **fields: Any,
) -> Any:
    """Return the layers of a stack, to be assigned in a module's setup.

    block: the class of a layer, called as block(x, cache, context, train) -> (x, cache). All layers
      read the same context.
    scan_layers: compile one layer and loop over it. Parameters then have a leading axis of layers.
    remat: policy of what the backward pass computes again, see `rematerialise`.
    per_layer: call block(x, cache, context, train, row), where the row is what the layer reads
      alone.
    fields: fields of each layer.
    Raises GenaxError for fewer than one layer.
    """
    if num_layers < 1:
        raise GenaxError(f"num_layers={num_layers}: a stack has at least one layer.")
    # XLA may not merge the recomputed layer with the first one; a scan already keeps it apart.
    layer = rematerialise(block, remat, prevent_cse=not scan_layers, static_argnums=(4,))
    if not scan_layers:
        return [layer(**fields) for _ in range(num_layers)]
    return nn.scan(
        layer,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, nn.broadcast, nn.broadcast) + (0,) * per_layer,
        out_axes=0,
        length=num_layers,
    )(**fields)


def run_blocks(
    blocks: Any,
    x: Float[Array, "b t d"],
    context: Any,
    caches: Any = None,
    train: bool = False,
    per_layer: Any = None,
) -> tuple[Float[Array, "b t d"], Any]:
    """Run all layers in turn.

    blocks: the layers that `make_blocks` made.
    x: [b, t, d], input of the first layer.
    context: input that all layers read.
    caches: caches of the layers, in the form in which they are returned. None means no caches.
    train: whether dropout is on.
    per_layer: arrays with a leading axis of layers, for blocks that were made with `per_layer`.
      Each layer reads its row.
    Returns the last layer's values and the caches: a tuple, or one cache with a leading axis of
    layers if they are scanned.
    """
    if not isinstance(blocks, Sequence):
        return blocks(x, caches, context, train, *_given(per_layer))
    written = []
    for number, (block, cache) in enumerate(
        zip(blocks, caches or [None] * len(blocks), strict=True)
    ):
        row = jax.tree.map(lambda rows, number=number: rows[number], per_layer)
        x, cache = block(x, cache, context, train, *_given(row))
        written.append(cache)
    return x, tuple(written)


def unstack(leaves: Mapping[str, Any], prefix: str, num_layers: int) -> dict[str, Any]:
    """Leaves below "<prefix>/" with an axis of layers, as "<prefix>_<number>/" without."""
    found: dict[str, Any] = {}
    for path, leaf in leaves.items():
        if path.startswith(f"{prefix}/"):
            rest = path.removeprefix(prefix)
            found |= {f"{prefix}_{number}{rest}": leaf[number] for number in range(num_layers)}
        else:
            found[path] = leaf
    return found


def with_layers_of(wanted: Collection[str], leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by path, whose layers are stacked or single as the wanted paths have them.

    Single layers lie below "<prefix>_<number>/", stacked ones below "<prefix>/" with an axis of
    layers. A leaf that neither form makes a wanted one stays as it is.
    Raises GenaxError if a stack misses a layer.
    """
    found: dict[str, Any] = {}
    stacks: dict[str, dict[int, Any]] = defaultdict(dict)
    for path, leaf in leaves.items():
        if path in wanted:
            found[path] = leaf
        elif layer := _layer_of(path, wanted):
            stack, number = layer
            stacks[stack][number] = leaf
        elif np.ndim(leaf) and (prefix := _prefix_of(path, wanted)):
            found |= unstack({path: leaf}, prefix, len(leaf))
        else:
            found[path] = leaf
    for stack, layers in stacks.items():
        missing = sorted(set(range(max(layers) + 1)) - set(layers))
        if missing:
            raise GenaxError(f"layers {missing} of {stack} are missing; a stack needs all of them.")
        found[stack] = jnp.stack([layers[number] for number in sorted(layers)])
    return found


def _layer_of(path: str, wanted: Collection[str]) -> tuple[str, int] | None:
    """The wanted stack that the leaf of a single layer belongs to, and the layer's number."""
    for number in re.finditer(r"_(\d+)(?=/)", path):
        stack = path[: number.start()] + path[number.end() :]
        if stack in wanted:
            return stack, int(number[1])
    return None


def _prefix_of(path: str, wanted: Collection[str]) -> str | None:
    """The prefix of a stacked leaf whose layers are wanted one by one."""
    prefixes = (path[: slash.start()] for slash in re.finditer("/", path))
    return next((one for one in prefixes if f"{one}_0{path[len(one) :]}" in wanted), None)


def _given(row: Any) -> tuple[Any, ...]:
    return () if row is None else (row,)
