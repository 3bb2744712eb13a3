"""Options of XLA that programs are compiled with."""

from __future__ import annotations

from functools import cache

import jax

_OPTIONS = {
    # On two cores XLA's newer library for a CPU reaches 95 GFLOP/s in a convolution to 64 channels,
    # the code it takes the place of 155; no type of operation goes to it with this.
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
    # Where parameters are split along what is summed over, XLA would add up the products part by
    # part and write the sums each time: GPT-2 on v5e:4x4 then moves 436 GB a step instead of 111.
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}


@cache
def compiler_options(platform: str | None = None) -> dict[str, str] | None:
    """For `jax.jit`, on a platform (None: the one at hand); None where XLA does not know them."""
    platform = platform or jax.default_backend()
    options = _OPTIONS.get(platform)
    if options is not None and platform == jax.default_backend():
        try:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
        except Exception:  # an unknown option is no error of one type across versions
            return None
    return None if options is None else dict(options)
