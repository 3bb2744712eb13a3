"""Greedy generation with a cache, beside transformers' `generate` in PyTorch, on the same cores.

    python -m benchmarks.decoding [MODEL ...] [--turns 5] [--threads N]

GPT-2 124M, a LLaMA of the size of stories15M, Mamba of 130M and of 4 blocks 128 wide, at random
weights that transformers draws and `genax.interop.load_pretrained` reads; prompts of 16 tokens, 128
new ones, float32, batches of 1 and 16. Both sides run in turns within one process, on as many
threads; the fastest and the median turn are kept. The tokens must be the same. The last rows are
how fast a product with one row reads a matrix of the size of GPT-2's embedding, which bounds a
batch of one, and the rate of a large product, which bounds larger ones. Beside other work on
the machine, one core is measured best:

    taskset -c 0 python -m benchmarks.decoding --threads 1
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from genax.interop import load_pretrained
from genax.transformer.decoding import generate

PROMPT, NEW, BATCHES = 16, 128, (1, 16)
Draw = Callable[[], np.ndarray]


def models() -> dict[str, Callable[[], transformers.PreTrainedModel]]:
    """Wide initial weights, so that the tokens vary."""
    none = {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.1}
    gpt = transformers.GPT2Config(**none)
    llama = transformers.LlamaConfig(
        vocab_size=32_000,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        **none,
    )
    small = {"vocab_size": 256, "hidden_size": 128, "num_hidden_layers": 4}
    return {
        "GPT-2 124M": lambda: transformers.GPT2LMHeadModel(gpt),
        "LLaMA 15M": lambda: transformers.LlamaForCausalLM(llama),
        "Mamba 130M": lambda: transformers.MambaForCausalLM(transformers.MambaConfig(**none)),
        "Mamba 0.5M": lambda: transformers.MambaForCausalLM(
            transformers.MambaConfig(**small, **none)
        ),
    }


def make_torch(model: transformers.PreTrainedModel, prompts: np.ndarray) -> Draw:
    """A function that continues the prompts in PyTorch."""
    inputs = torch.from_numpy(prompts)
    settings = {"do_sample": False, "use_cache": True, "pad_token_id": 0}

    def draw() -> np.ndarray:
        found = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            **settings,
        )
        return found[:, PROMPT:].numpy()

    return draw


def make_genax(module: nn.Module, variables, prompts: np.ndarray) -> Draw:
    """A function that continues the prompts in genax."""
    keys = jax.random.split(jax.random.key(0), len(prompts))
    arrays = jax.device_put((variables, prompts.astype(np.int32), keys))

    def run(model, prompts, keys):
        return generate(model.decoder, prompts, NEW, keys, temperature=0.0)

    compiled = jax.jit(nn.apply(run, module))
    return lambda: np.asarray(compiled(*arrays))


def seconds(sides: list[Draw], turns: int) -> list[list[float]]:
    """Wall time of each side in each turn, after one that does not count."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(turns + 1):
        for side, kept in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            if turn:
                kept.append(time.perf_counter() - start)
    return times


def bounds(turns: int) -> tuple[float, float]:
    """GB/s of a matrix times a row, and GFLOP/s of a square product, both by XLA."""
    matrix, row = jnp.ones((50_257, 768)), jnp.ones(768)
    square, product = jnp.ones((2048, 2048)), jax.jit(jnp.matmul)
    read, multiply = seconds(
        [lambda: np.asarray(product(matrix, row)), lambda: np.asarray(product(square, square))],
        4 * turns,
    )
    return matrix.size * 4e-9 / min(read), 2 * 2048**3 * 1e-9 / min(multiply)


def rows(names: list[str], turns: int = 5, threads: int | None = None):
    """(name, tokens/s of genax and of transformers, ratio), fastest and median turn."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    for name, make in models().items():
        if names and name not in names:
            continue
        model = make().eval()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            module, variables = load_pretrained(folder)
        for batch in BATCHES:
            rng = np.random.default_rng(batch)
            prompts = rng.integers(0, model.config.vocab_size, (batch, PROMPT))
            sides = [make_genax(module, variables, prompts), make_torch(model, prompts)]
            found, expected = sides[0](), sides[1]()
            np.testing.assert_array_equal(found, expected)
            times = seconds(sides, turns)
            for kind, pick in (("fastest", min), ("median", statistics.median)):
                ours, theirs = (batch * NEW / pick(kept) for kept in times)
                yield f"{name}, batch {batch}, {kind}", ours, theirs, ours / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(models())}")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if unknown := set(args.models) - set(models()):
        parser.error(f"no model is named {', '.join(sorted(unknown))}")
    print(f"load {os.getloadavg()[0]:.1f}; tokens/s of genax, of transformers, ratio")
    with torch.inference_mode():
        for name, ours, theirs, ratio in rows(args.models, args.turns, args.threads):
            print(f"{name:<32} {ours:9.1f} {theirs:9.1f} {ratio:6.2f}", flush=True)
    gigabytes, gigaflops = bounds(args.turns)
    print(f"one row times a matrix: {gigabytes:.0f} GB/s; square product: {gigaflops:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
