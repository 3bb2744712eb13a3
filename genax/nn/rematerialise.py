"""Layers that are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from genax.core.errors import GenaxError

# Of jax.checkpoint_policies, those that need no further arguments.
POLICIES = (
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
)
# This one keeps products with parameters too, but in the host's memory.
OFFLOAD = "offload_dot_with_no_batch_dims"
# Names by which policies know results: PRODUCT is that of `Projection`, ATTENDED those that the
# backward pass of a fused attention reads and that only its forward pass could compute again.
PRODUCT, ATTENDED = "product", "attended"


def rematerialise(layer: Any, policy: str, **options: Any) -> Any:
    """The class `layer` such that its backward pass keeps only what the policy names.

    policy: "none" keeps all, as without this; "full" keeps the layer's input alone; or a name of
    `jax.checkpoint_policies`, such as "dots_with_no_batch_dims_saveable", which keeps the products
    with parameters, or "offload_dot_with_no_batch_dims", which keeps them in the host's memory.
    Policies of products on the device also keep what fused attention gives ("splash", "ring"), so
    that it runs forward once.
    options: as in `nn.remat`. Raises GenaxError for an unknown policy.
    """
    if policy == "none":
        return layer
    if policy != "full" and policy not in (*POLICIES, OFFLOAD):
        raise GenaxError(
            f"remat={policy!r} is unknown; choose none, full or one of "
            f"{', '.join((*POLICIES, OFFLOAD))}."
        )
    return nn.remat(layer, policy=_saved(policy), **options)


def _saved(policy: str) -> Any:
    policies = jax.checkpoint_policies
    if policy == "full":
        return None
    if policy == OFFLOAD:
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[PRODUCT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    saved = getattr(policies, policy)
    if "dots" in policy:
        named = policies.save_only_these_names(PRODUCT, ATTENDED)
        return policies.save_from_both_policies(saved, named)
    return saved
