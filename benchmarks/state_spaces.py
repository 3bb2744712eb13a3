"""Train steps of state-space models: over lengths beside attention, and beside Mambas in PyTorch.

    python -m benchmarks.state_spaces lengths [--turns 3] [--out docs/state_spaces.png]
    python -m benchmarks.state_spaces steps [--turns 5] [--threads N]

A step is forward, backward and AdamW, float32. All sides are timed in turns within one process, on
as many threads.

lengths: one sequence of 256 to 16,384 tokens through networks of about 215,000 parameters, 64
wide: LLaMA of 3 blocks, Mamba and Mamba-2 of 6. The exponent is the slope of the logarithm of
the fastest time over that of the length, by least squares over all lengths and between the last
two. The picture needs the extra `plots`.

steps: Mamba of 4 blocks, 128 wide, 8 sequences of 256 tokens, beside transformers' class, whose
recurrence is a loop in Python here, and beside mambapy's parallel scan (`pip install --no-deps
mambapy`). Before anything is timed, logits are compared at the weights of transformers' class, and
all sides have as many parameters.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping

import flax.linen as nn
import jax
import numpy as np
import torch

from benchmarks.gpt import make_genax
from benchmarks.turns import Step, rates, seconds
from genax.hybrid.mamba import Mamba
from genax.hybrid.mamba2 import Mamba2
from genax.interop import load_pretrained
from genax.transformer.llama import LLaMA

VOCABULARY, RATE = 256, 1e-3
LENGTHS = tuple(2**power for power in range(8, 15))
WIDTH, LAYERS, BATCH, LENGTH = 128, 4, 8, 256


def networks(length: int) -> Mapping[str, nn.Module]:
    """The networks that are compared over lengths."""
    return {
        "Mamba": Mamba(VOCABULARY, 64, 6, scan_layers=True),
        "Mamba-2": Mamba2(VOCABULARY, 64, 6, state_size=64, head_dim=32, scan_layers=True),
        "attention": LLaMA(VOCABULARY, length, 64, 3, 2, tied_head=True, scan_layers=True),
    }


def random_tokens(batch: int, length: int) -> np.ndarray:
    """Tokens of rows that are one longer than what a network reads of them."""
    shape = (batch, length + 1)
    return np.random.default_rng(0).integers(0, VOCABULARY, shape).astype(np.int32)


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def over_lengths(turns: int) -> dict[str, list[float]]:
    """Seconds of the fastest step of each network, one number for each length."""
    found: dict[str, list[float]] = {}
    for length in LENGTHS:
        tokens, steps = random_tokens(1, length), {}
        for name, network in networks(length).items():
            steps[name], params = make_genax(network, tokens)
            if length == LENGTHS[0]:
                print(f"{name}: {size(params):,} parameters")
        for name, times in seconds(steps, turns).items():
            found.setdefault(name, []).append(min(wall for wall, _ in times))
        texts = (f"{name} {times[-1]:.3f} s" for name, times in found.items())
        print(f"{length:6,} tokens: {', '.join(texts)}", flush=True)
        jax.clear_caches()
    return found


def exponents(times: list[float]) -> tuple[float, float]:
    """Slopes of log time over log length: of all lengths, and of the last two."""
    lengths, logs = np.log(LENGTHS), np.log(times)
    slopes = (np.polyfit(lengths[from_:], logs[from_:], 1)[0] for from_ in (0, -2))
    whole, last = map(float, slopes)
    return whole, last


def draw(found: Mapping[str, list[float]], path: str) -> None:
    """Write the picture of all times over the length."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for name, times in found.items():
        whole, last = exponents(times)
        label = f"{name}: exponent {whole:.2f}, of the last two {last:.2f}"
        axes.loglog(LENGTHS, times, "-o", label=label, markersize=4, base=2)
    axes.set_xlabel("tokens of one sequence")
    axes.set_ylabel("seconds of a train step")
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=120)


def torch_step(model: torch.nn.Module, tokens: np.ndarray) -> Step:
    """A train step of a model in PyTorch that returns logits, or has them in its output."""
    rows = torch.tensor(tokens).long()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)

    def take() -> None:
        logits = model(rows[:, :-1])
        logits = getattr(logits, "logits", logits)
        targets = rows[:, 1:].flatten()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return take


def beside_torch(turns: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what is counted, and the tokens per second of each side."""
    import transformers
    from mambapy.mamba import Mamba as ScannedMamba
    from mambapy.mamba import MambaConfig, RMSNorm

    torch.manual_seed(0)
    tokens = random_tokens(BATCH, LENGTH)
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        tie_word_embeddings=False,
        use_cache=False,
    )
    model = transformers.MambaForCausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        module, variables = load_pretrained(folder)
    logits = jax.jit(module.apply)(variables, tokens[:1, :32]).logits
    with torch.inference_mode():
        expected = model(torch.tensor(tokens[:1, :32]).long()).logits.numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    ours, params = make_genax(Mamba(VOCABULARY, WIDTH, LAYERS, tied_head=False), tokens)
    # Its own language model imports the kernels for a GPU.
    scanned = torch.nn.Sequential(
        torch.nn.Embedding(VOCABULARY, WIDTH),
        ScannedMamba(MambaConfig(WIDTH, LAYERS)),
        RMSNorm(WIDTH),
        torch.nn.Linear(WIDTH, VOCABULARY, bias=False),
    )
    for other in (model, scanned):
        assert sum(part.numel() for part in other.parameters()) == size(params)
    sides = {
        "genax": ours,
        "transformers": torch_step(model, tokens),
        "mambapy": torch_step(scanned, tokens),
    }
    yield from rates(sides, turns, BATCH * LENGTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("lengths", "steps"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", default="docs/state_spaces.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    print(f"load {os.getloadavg()[0]:.1f}")
    if args.what == "steps":
        for kind, found in beside_torch(args.turns):
            texts = (f"{name} {rate:,.0f}" for name, rate in found.items())
            ratios = (f"{found['genax'] / found[name]:.2f}" for name in list(found)[1:])
            print(f"tokens/s, {kind}: {', '.join(texts)}; ratios {', '.join(ratios)}", flush=True)
        return
    found = over_lengths(args.turns)
    for name, times in found.items():
        print("{}: exponent {:.2f}, of the last two lengths {:.2f}".format(name, *exponents(times)))
    draw(found, args.out)


if __name__ == "__main__":
    main()
