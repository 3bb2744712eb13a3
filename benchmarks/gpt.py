"""A GPT train step beside transformers' GPT2LMHeadModel in PyTorch, on the same cores.

    python -m benchmarks.gpt [--vocab 84] [--turns 8] [--threads N]

6 layers, 384 wide, 6 heads, context 256, batch 16, float32: forward, backward and AdamW, the same
weights and tokens. The vocabulary is Shakespeare's 84 characters (nanoGPT's setting for a GPU has
this size and such a vocabulary); --vocab=50257 measures GPT-2's. Both sides are timed in turns
within one process, on as many threads, and the fastest and the median turn are kept; so is each
side's largest measured matrix product, of which the share of the peak follows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.torch_gpt import make_torch_adamw, make_torch_gpt
from genax.core import Phase, Stage, Task
from genax.core.compilation import compiler_options
from genax.core.step import init_state, make_step
from genax.nn.optimizers import adamw
from genax.transformer.gpt import GPT
from genax.transformer.networks import Networks
from genax.transformer.tasks.losses import next_token_loss

CONTEXT, BATCH, RATE, DECAY, B1, B2 = 256, 16, 1e-3, 0.1, 0.9, 0.99
PEAK_SIZE = 2048


def step_flops(decoder: GPT) -> float:
    """Multiplications and additions of a train step: 3 x forward; all scores are counted."""
    d, layers, tokens = decoder.hidden_size, decoder.num_layers, BATCH * CONTEXT
    products = 12 * layers * d * d + d * decoder.vocab_size
    return 3 * 2 * tokens * (products + 2 * layers * CONTEXT * d)


def make_genax(decoder: GPT, tokens: np.ndarray) -> tuple[Callable[[], None], dict]:
    """A function that takes one train step, and the initial parameters."""
    optimizer = adamw(RATE, DECAY, B1, B2)
    task = Task(Networks(decoder), [Stage([Phase("lm", next_token_loss, ("decoder",), optimizer)])])
    element = {"tokens": jax.ShapeDtypeStruct(tokens.shape[1:], jnp.int32)}
    state = jax.jit(lambda: init_state(task, 0, element))()
    params = jax.device_get(state.params["decoder"])
    step = jax.jit(make_step(task), donate_argnums=0, compiler_options=compiler_options())
    batch = jax.device_put({"tokens": tokens})

    def take() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return take, params


def make_torch(decoder: GPT, params: dict, tokens: np.ndarray) -> Callable[[], None]:
    """A function that takes one train step of the same model in PyTorch."""
    model = make_torch_gpt(decoder, params)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_torch_adamw(model, DECAY, B1, B2)
    inputs, targets = torch.tensor(tokens[:, :-1]).long(), torch.tensor(tokens[:, 1:]).long()

    def take() -> None:
        logits = model(input_ids=inputs).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return take


def make_peaks() -> tuple[Callable[[], None], Callable[[], None]]:
    """The same square float32 product by XLA and by PyTorch."""
    x = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE), np.float32)
    ours, theirs, product = jnp.asarray(x), torch.tensor(x), jax.jit(jnp.matmul)
    return (
        lambda: product(ours, ours).block_until_ready(),
        lambda: torch.matmul(theirs, theirs),
    )


def seconds(functions: dict[str, Callable[[], None]], turns: int) -> dict[str, list[float]]:
    """Wall time of each function in each turn, after two turns that do not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(turns + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def rows(vocab_size: int = 84, turns: int = 8, threads: int | None = None):
    """(name, value, ratio of genax to PyTorch): tokens/s, GFLOP/s, share of the matmul peak."""
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    decoder = GPT(vocab_size, CONTEXT, 384, 6, 6)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocab_size, (BATCH, CONTEXT + 1)).astype(np.int32)
    ours, params = make_genax(decoder, tokens)
    peaks = make_peaks()
    times = seconds(
        {
            "genax": ours,
            "torch": make_torch(decoder, params, tokens),
            "genax peak": peaks[0],
            "torch peak": peaks[1],
        },
        turns,
    )
    table = []
    for kind, pick in (("fastest", min), ("median", statistics.median)):
        best = {name: pick(values) for name, values in times.items()}
        for side in ("genax", "torch"):
            rate = BATCH * CONTEXT / best[side]
            table.append((f"{side} tokens/s, {kind}", rate, best["torch"] / best[side]))
    fastest = {name: min(values) for name, values in times.items()}
    for side in ("genax", "torch"):
        peak = 2 * PEAK_SIZE**3 / fastest[f"{side} peak"] / 1e9
        share = step_flops(decoder) / fastest[side] / 1e9 / peak
        table.append(
            (f"{side} matmul peak, GFLOP/s", peak, fastest["torch peak"] / fastest[f"{side} peak"])
        )
        table.append((f"{side} share of its peak", share, share))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=84)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    print(f"vocabulary {args.vocab}, load {os.getloadavg()[0]:.1f}")
    for name, value, ratio in rows(args.vocab, args.turns, args.threads):
        print(f"{name:<32} {value:10.2f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
