"""Programs that are compiled once and kept for the next run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_HIT = "/jax/compilation_cache/cache_hits"


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
