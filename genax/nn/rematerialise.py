"""Layers that the backward pass computes again instead of keeping them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from genax.core.errors import GenaxError

# The members of jax.checkpoint_policies that take no further arguments.
POLICIES = (
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
)
# This policy keeps products with parameters too, but in the host's memory.
OFFLOAD = "offload_dot_with_no_batch_dims"
# Names of results, for policies. PRODUCT names the result of `Projection`. ATTENDED names the
# results of a fused attention that its backward pass reads: only its forward pass could compute
# them again.
PRODUCT, ATTENDED = "product", "attended"


def rematerialise(layer: Any, policy: str, **options: Any) -> Any:
    """Return the class `layer` with a backward pass that keeps only what the policy names.

    policy: "none" keeps everything and returns the class as it is. "full" keeps the layer's input
      alone. Any other policy is a name of `jax.checkpoint_policies`:
      "dots_with_no_batch_dims_saveable", for example, keeps the products with parameters, and
      "offload_dot_with_no_batch_dims" keeps them in the host's memory. Policies of products on the
      device also keep the results of fused attention ("splash", "ring"), so that it runs forward
      once.
    options: arguments of `nn.remat`.
    Raises GenaxError for an unknown policy.
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
