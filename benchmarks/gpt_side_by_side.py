"""The GPT experiment beside the same model in PyTorch: same weights, batches, schedule and steps.

    python -m benchmarks.gpt_side_by_side [--variant cpu] [--steps N] [--seed 0] [--threads N]

PyTorch trains transformers' GPT2LMHeadModel from genax's initial weights on genax's batches. Both
are scored on the whole validation split. The goal is within 0.03 nats a token.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.torch_gpt import make_torch_adamw, make_torch_gpt
from genax.core.data import Shard
from genax.core.step import init_state, make_step
from genax.front.experiments import configure, load
from genax.nn.optimizers import warmup_cosine
from genax.running.evaluate import evaluate
from genax.running.sampling import variables


def train_genax(experiment, state, batches):
    """The state after the normal step on each batch, and the seconds it took."""
    step = jax.jit(make_step(experiment.task), donate_argnums=0)
    start = time.perf_counter()
    for batch in tqdm(batches, "genax", disable=None):
        state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    return state, time.perf_counter() - start


def train_torch(model, batches, config):
    """Train in place; the seconds it took."""
    optimizer = make_torch_adamw(model, config.weight_decay, config.b1, config.b2)
    schedule = warmup_cosine(
        config.learning_rate, config.final_learning_rate, config.warmup_steps, config.decay_steps
    )
    rates = np.asarray(jax.jit(schedule)(np.arange(config.steps)))
    trained = [p for p in model.parameters() if p.requires_grad]
    start = time.perf_counter()
    for rate, batch in zip(tqdm(rates, "torch", disable=None), batches, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        tokens = torch.tensor(batch["tokens"]).long()
        torch_loss(model, tokens).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, config.clip)
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


def torch_loss(model, tokens):
    """Nats of each token but the first of a window."""
    logits = model(input_ids=tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), tokens[:, 1:], reduction="none"
    )


def torch_score(model, data, batch_size):
    """Mean nats per token over the evaluation data."""
    total = count = 0.0
    with torch.no_grad():
        for batch in data.evaluate(batch_size, Shard()):
            losses = torch_loss(model, torch.tensor(batch["tokens"]).long()).mean(1).numpy()
            total += float((losses * batch["mask"]).sum())
            count += float(batch["mask"].sum())
    return total / count


def compare(variant: str = "cpu", steps: int | None = None, seed: int = 0) -> dict:
    """Validation loss in nats per token and training seconds of both."""
    loaded = load(f"experiments/transformer/gpt.py:{variant}")
    config = configure(loaded, {} if steps is None else {"steps": str(steps)})
    experiment = loaded.build(config)
    source = experiment.data.train(config.batch_size, seed, Shard())
    batches = [{"tokens": next(source)["tokens"]} for _ in range(config.steps)]
    state = jax.jit(lambda: init_state(experiment.task, seed, experiment.data.element))()
    torch.manual_seed(seed)
    model = make_torch_gpt(experiment.task.networks.decoder, state.params["decoder"])

    state, seconds = train_genax(experiment, state, batches)
    scores = evaluate(
        experiment.task, variables(state), experiment.evaluation, config.eval_batch_size, None
    )
    torch_seconds = train_torch(model, batches, config)
    theirs = torch_score(model, experiment.evaluation, config.eval_batch_size)
    ours = scores["validation/loss"]
    return {
        "variant": variant,
        "steps": config.steps,
        "seed": seed,
        "genax": ours,
        "torch": theirs,
        "difference": ours - theirs,
        "genax_seconds": seconds,
        "torch_seconds": torch_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="cpu")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="PyTorch's; fewer where the cores are busy")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    result = compare(args.variant, args.steps, args.seed)
    print(f"{result['variant']}, {result['steps']} steps: validation loss in nats per token")
    for side in ("genax", "torch"):
        print(f"{side:<6} {result[side]:.4f}   trained in {result[side + '_seconds']:.0f} s")
    print(f"difference {result['difference']:+.4f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
