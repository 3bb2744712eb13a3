"""What the loop costs: steps a second of `train` against the bare compiled step.

    python benchmarks/loop.py [EXPERIMENT[:VARIANT]] [--steps N]

Both run in one process, in turns. The loop logs, prefetches, watches for values that are not
finite, and five times checkpoints and evaluates; computing scores is no part of its steps' time,
waiting for the steps before it is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jax

from genax.core.data import open_data
from genax.core.devices import create
from genax.core.step import make_step, make_steps
from genax.front.experiments import configure, load
from genax.running.loop import train
from genax.running.prefetch import Prefetch


def bare(run, steps: int) -> float:
    """Steps a second of the compiled step on one batch that lies on the device."""
    k = run.config["steps_per_call"]
    step = make_step(run.task, 0, run.config["accumulate"])
    state = create(run.initial, run.strategy)
    advance = run.strategy.compile(make_steps(step) if k > 1 else step, state, k > 1)
    batches = open_data(run.datas[0], run.workdir).train(run.batch_size(), 0, run.strategy.part)
    prefetch = Prefetch(batches, run.strategy, k)
    batch = next(prefetch).batch
    prefetch.close()
    state, metrics = advance(state, batch)
    jax.block_until_ready(metrics)
    start = time.perf_counter()
    for _ in range(steps // k):
        state, metrics = advance(state, batch)
    jax.block_until_ready(state)
    return steps / (time.perf_counter() - start)


def looped(run) -> float:
    """Steps a second that the loop reports: the median of its lines after the first."""
    with contextlib.redirect_stderr(io.StringIO()):
        train(run)
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    rates = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    return statistics.median(rates[1:])


def rows(experiment: str = "experiments/transformer/gpt.py", steps: int = 500, turns: int = 5):
    """(name, steps a second, ratio to the bare compiled step), over the turns."""
    loaded = load(experiment)
    often = ("log_every", "checkpoint_every", "eval_every")
    settings = {"steps": steps, **dict.fromkeys(often, steps // 5), "sample_every": 0}
    if "evaluation_windows" in loaded.config():
        settings["evaluation_windows"] = 100
    config = configure(loaded, {key: str(value) for key, value in settings.items()})
    measured: dict[str, list[float]] = {"bare": [], "loop": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as folder:
            run = loaded.run(config, Path(folder))
            quiet = replace(run.task, samplers={})
            run = replace(run, experiment=replace(run.experiment, task=quiet))
            measured["bare"].append(bare(run, steps))
            measured["loop"].append(looped(run))
    table = []
    for kind, pick in (("fastest", max), ("median", statistics.median)):
        rates = {name: pick(found) for name, found in measured.items()}
        for name, rate in rates.items():
            table.append((f"{name}, {kind}", rate, rate / rates["bare"]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="?", default="experiments/transformer/gpt.py")
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    print(f"{args.experiment} on {jax.devices()[0].device_kind}")
    for name, rate, ratio in rows(args.experiment, args.steps):
        print(f"{name:<20} {rate:9.2f} steps/s   {ratio:.3f}")


if __name__ == "__main__":
    main()
