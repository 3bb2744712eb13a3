"""Options of XLA that programs are compiled with."""

from __future__ import annotations

from functools import cache

import jax

_OPTIONS = {
    # XLA's newer library for CPUs is slower in convolutions: on two cores 95 GFLOP/s to 64
    # channels, against 155 of the code that it replaces. The empty list of types turns it off.
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
    # If parameters are split along what is summed over, XLA would add up the products part by part
    # and write the sums each time: GPT-2 on v5e:4x4 then moves 436 GB a step instead of 111.
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}


@cache
def compiler_options(platform: str | None = None) -> dict[str, str] | None:
    """Options of `jax.jit` on a platform (None: the one at hand); None if XLA lacks them."""
    platform = platform or jax.default_backend()
    options = _OPTIONS.get(platform)
    if options is not None and platform == jax.default_backend():
        try:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
        except Exception:  # an unknown option is no error of one type across versions
            return None
    return None if options is None else dict(options)
