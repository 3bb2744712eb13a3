"""Scores of one run over several values of its settings, such as solvers and numbers of steps.

    python -m benchmarks.sweep runs/ddpm OUT.jsonl solver=ddim,heun,uni_pc ddim_steps=5,10,20,50
    python -m benchmarks.sweep --picture fid.png evaluations images/classifier/fid solver OUT.jsonl

The first command scores every combination and adds a line for each to OUT.jsonl: the settings, the
scores, the seconds that it took and, if ddim_steps is swept, the evaluations of the network for a
sample. What is already in the file is left out, so that a sweep may be continued. The second draws
a score (or several, by commas) of files against a setting or another score, one line for each value
of a setting.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import genax
from genax.settings.files import to_json


def sweep(workdir: str, out: Path, settings: dict[str, list[str]]) -> None:
    """Score every combination of settings that the file does not have."""
    known = [row["settings"] for row in rows([out])] if out.exists() else []
    for values in itertools.product(*settings.values()):
        chosen = dict(zip(settings, values, strict=True))
        if chosen in known:
            continue
        began = time.perf_counter()
        found = finite(genax.open(workdir, config=chosen).evaluate())
        seconds = round(time.perf_counter() - began, 1)
        line = to_json({"settings": chosen, **evaluations(chosen), **found, "seconds": seconds})
        with out.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def finite(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Return scores for JSON, which has no number that is not finite: they are null."""
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def evaluations(settings: dict[str, Any]) -> dict[str, int]:
    """Return how often a sampler of so many steps calls the network."""
    if "ddim_steps" not in settings:
        return {}
    steps = int(settings["ddim_steps"])
    counts = {"heun": 2 * steps - 1, "dpm_2": 2 * steps - 1, "pndm": steps + 9}
    return {"evaluations": counts.get(settings.get("solver", ""), steps)}


def rows(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the lines of files."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def draw(picture: str, x: str, ys: list[str], by: str, paths: list[Path]) -> None:
    """Draw scores against a setting, or against another score."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = rows(paths)
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for value, y in itertools.product(dict.fromkeys(row["settings"].get(by) for row in found), ys):
        group = [row for row in found if row["settings"].get(by) == value]
        points = sorted(
            (float({**row["settings"], **row}[x]), row[y]) for row in group if row[y] is not None
        )
        parts = [value, y.rpartition("/")[2] if len(ys) > 1 else None]
        label = ", ".join(part for part in parts if part)
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xlabel=x, yscale="log" if ys[0].endswith("fid") else "linear")
    axes.set_ylabel(ys[0] if len(ys) == 1 else ys[0].rpartition("/")[0])
    axes.legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--picture", metavar="PNG")
    parser.add_argument("words", nargs="+")
    args = parser.parse_args()
    if args.picture:
        x, ys, by, *paths = args.words
        draw(args.picture, x, ys.split(","), by, [Path(path) for path in paths])
        return
    workdir, out, *settings = args.words
    pairs = (setting.partition("=") for setting in settings)
    sweep(workdir, Path(out), {name: values.split(",") for name, _, values in pairs})


if __name__ == "__main__":
    main()
