"""Stacks of layers of one kind, as a list or as one scanned layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
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

    block: the class of a layer, called as block(x, cache, context, train) -> (x, cache). The
      context is what all layers read.
    scan_layers: compile one layer and loop over it. Parameters then have a leading axis of layers.
    remat: what the backward pass computes again, for memory: see `rematerialise`.
    per_layer: call block(x, cache, context, train, row), where the row is what the layer reads
      alone.
    fields: of each layer.
    Raises GenaxError for less than one layer.
    """
    if num_layers < 1:
        raise GenaxError(f"num_layers={num_layers}: a stack of blocks has at least one.")
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

    blocks: made by `make_blocks`.
    per_layer: arrays with a leading axis of layers, for blocks that were made with `per_layer`;
      each layer reads its row.
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


def _given(row: Any) -> tuple[Any, ...]:
    return () if row is None else (row,)
