"""How long the GPT train step takes to compile, and how that grows with the layers.

    python -m benchmarks.compile_time [--turns 5]

6 and 48 scanned layers and 6 that are not scanned, 64 wide, so that the work of the compiler is
what counts: tracing, lowering and XLA's compilation of forward, backward and AdamW, in turns within
one process, with no cache. The fastest and the median turn are kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp

from genax.core import Phase, Stage, Task
from genax.core.compilation import compiler_options
from genax.core.step import init_state, make_step
from genax.nn.optimizers import adamw
from genax.transformer.gpt import GPT
from genax.transformer.networks import Networks
from genax.transformer.tasks.losses import next_token_loss

CONTEXT, BATCH = 64, 2
CASES = {"6 scanned": (6, True), "48 scanned": (48, True), "6 not scanned": (6, False)}


def compile_step(num_layers: int, scan: bool) -> tuple[float, float]:
    """Seconds to trace and lower the step, and seconds in XLA."""
    jax.clear_caches()
    decoder = GPT(256, CONTEXT, 64, num_layers, 2, scan_layers=scan)
    optimizer = adamw(1e-3, 0.1, 0.9, 0.99)
    task = Task(Networks(decoder), [Stage([Phase("lm", next_token_loss, ("decoder",), optimizer)])])
    element = {"tokens": jax.ShapeDtypeStruct((CONTEXT + 1,), jnp.int32)}
    state = jax.eval_shape(partial(init_state, task, 0, element))
    batch = {"tokens": jax.ShapeDtypeStruct((BATCH, CONTEXT + 1), jnp.int32)}
    step = jax.jit(make_step(task), donate_argnums=0, compiler_options=compiler_options())
    start = time.perf_counter()
    lowered = step.lower(state, batch)
    middle = time.perf_counter()
    lowered.compile()
    return middle - start, time.perf_counter() - middle


def rows(turns: int = 5):
    """(name, seconds, ratio to 6 scanned layers), fastest and median turn."""
    jax.config.update("jax_enable_compilation_cache", False)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for turn in range(turns + 1):
        for name, case in CASES.items():
            taken = compile_step(*case)
            if turn:
                times[name].append(taken)
    for kind, pick in (("fastest", min), ("median", statistics.median)):
        best = {name: pick(map(sum, taken)) for name, taken in times.items()}
        for name, value in best.items():
            yield f"{name}, {kind}", value, value / best["6 scanned"]
    for name, taken in times.items():
        value = min(xla for _, xla in taken)
        yield f"{name}, XLA alone, fastest", value, value / min(x for _, x in times["6 scanned"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; seconds, ratio to 6 scanned layers")
    for name, value, ratio in rows(args.turns):
        print(f"{name:<36} {value:7.2f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
