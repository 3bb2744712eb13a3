"""Scores of experiments over several seeds: the median, the lowest and the highest.

    python -m benchmarks.seeds OUT.jsonl --seeds 0,1,2,3,4 --runs runs/modes \
        experiments/gan/modes.py experiments/gan/modes.py:packed steps=40000

Each seed of each experiment trains a run of its own in a folder below --runs, and adds its scores
and the seconds that this took to OUT.jsonl. What is already there is not trained again, and a run
that was stopped goes on; its seconds are then those of the rest. At the end the table is printed.
Several processes may share the work if each has its own seeds; the last one prints all that the
file has.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import genax
from benchmarks.sweep import finite, rows
from genax.settings.files import to_json


def train(name: str, seed: int, runs: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Train a run and return its line."""
    began = time.perf_counter()
    folder = runs / f"{Path(name).name.replace('.py', '').replace(':', '-')}-{seed}"
    found = finite(genax.train(name, folder, {**settings, "seed": seed}).evaluate())
    seconds = round(time.perf_counter() - began, 1)
    return {"experiment": name, "seed": seed, "settings": settings, **found, "seconds": seconds}


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the median of each score, the lowest and the highest, of each experiment."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        settings = " ".join(f"{key}={value}" for key, value in line["settings"].items())
        groups.setdefault(f"{line['experiment']} {settings}".strip(), []).append(line)
    texts = []
    for name, group in groups.items():
        texts.append(f"{name}, seeds {', '.join(str(line['seed']) for line in group)}")
        for score in group[0]:
            values = [line.get(score) for line in group]
            known = [value for value in values if isinstance(value, float | int)]
            if score in ("experiment", "seed", "settings") or not known:
                continue
            lost = f", {len(values) - len(known)} not finite" if len(known) < len(values) else ""
            ends = f"{min(known):.4g} to {max(known):.4g}"
            texts.append(f"  {score}: {statistics.median(known):.4g} ({ends}){lost}")
    return "\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("words", nargs="+", metavar="EXPERIMENT or KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, required=True)
    args = parser.parse_args()
    settings = dict(word.split("=", 1) for word in args.words if "=" in word)
    experiments = [word for word in args.words if "=" not in word]
    for seed in map(int, args.seeds.split(",")):
        for name in experiments:
            wanted = {"experiment": name, "seed": seed, "settings": settings}
            known = rows([args.out]) if args.out.exists() else []
            if not any(wanted.items() <= line.items() for line in known):
                line = to_json(train(name, seed, args.runs, settings))
                with args.out.open("a") as file:
                    file.write(line + "\n")
                print(line, flush=True)
    print(table(rows([args.out])))


if __name__ == "__main__":
    main()
