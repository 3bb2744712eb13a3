"""Options of XLA that programs are compiled with."""

from __future__ import annotations

from functools import cache

import jax

# On two cores XLA's newer library for a CPU reaches 95 GFLOP/s in a convolution to 64 channels,
# the code it takes the place of 155; no type of operation goes to it with this.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": ""}


@cache
def compiler_options(platform: str | None = None) -> dict[str, str] | None:
    """For `jax.jit`, on a platform (None: the one at hand); None where XLA does not know them."""
    if (platform or jax.default_backend()) != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_CPU).lower().compile()
    except Exception:  # an unknown option is no error of one type across versions
        return None
    return dict(_CPU)
