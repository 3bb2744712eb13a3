"""Stacks of equal layers, as a list or as one scanned layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.rematerialise import rematerialise


def make_blocks(
    block: type[nn.Module], num_layers: int, scan_layers: bool, remat: str, **fields: Any
) -> Any:
    """Return the layers of a stack, to be assigned in a module's setup.

    block: the class of a layer, called as block(x, cache, context, train) -> (x, cache). All layers
      read the same context.
    scan_layers: compile one layer and loop over it. Parameters then have a leading axis of layers.
    remat: policy of what the backward pass computes again, see `rematerialise`.
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
        in_axes=(0, nn.broadcast, nn.broadcast),
        out_axes=0,
        length=num_layers,
    )(**fields)


def run_blocks(
    blocks: Any,
    x: Float[Array, "b t d"],
    context: Any,
    caches: Any = None,
    train: bool = False,
) -> tuple[Float[Array, "b t d"], Any]:
    """Run all layers in turn.

    blocks: the layers that `make_blocks` made.
    x: [b, t, d], input of the first layer.
    context: input that all layers read.
    caches: caches of the layers, in the form in which they are returned. None means no caches.
    train: whether dropout is on.
    Returns the last layer's values and the caches: a tuple, or one cache with a leading axis of
    layers if they are scanned.
    """
    if not isinstance(blocks, Sequence):
        return blocks(x, caches, context, train)
    written = []
    for block, cache in zip(blocks, caches or [None] * len(blocks), strict=True):
        x, cache = block(x, cache, context, train)
        written.append(cache)
    return x, tuple(written)
