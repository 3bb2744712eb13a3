"""How programs are compiled: with which options of XLA, and kept from one run to the next."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax

_OPTIONS = {
    # XLA's newer library for CPUs is slower in convolutions: on two cores 95 GFLOP/s to 64
    # channels, against 155 of the code that it replaces. The empty list of types turns it off.
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": ""},
    # If parameters are split along what is summed over, XLA would add up the products part by part
    # and write the sums each time: GPT-2 on v5e:4x4 then moves 436 GB a step instead of 111.
    "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}
_HIT = "/jax/compilation_cache/cache_hits"


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


def keep_programs(wanted: bool) -> None:
    """Keep what JAX compiles in $JAX_COMPILATION_CACHE_DIR or ~/.cache/genax/compiled, or do not.

    Call it before anything is compiled.
    """
    if not wanted:
        jax.config.update("jax_enable_compilation_cache", False)
    # A program of microbatches that is read back on several devices of a CPU waits for ever in a
    # collective (BERT's step, jax 0.10.2).
    elif not jax.config.values["jax_compilation_cache_dir"] and not (
        jax.default_backend() == "cpu" and jax.device_count() > 1
    ):
        folder = Path.home() / ".cache" / "genax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def compiled(program: Any, say: Callable[[str], None], *arguments: Any) -> Callable:
    """A jitted program compiled for these arguments; says how long that took."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == _HIT:
            hits.append(event)

    start = time.perf_counter()
    jax.monitoring.register_event_listener(listen)
    try:
        ready = program.lower(*arguments).compile()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    kept = " (from the cache)" if hits else ""
    say(f"compiled in {time.perf_counter() - start:.1f} s{kept}")
    return ready
