"""Every published size, compiled for the TPU slice that its experiment states.

    python -m benchmarks.slices [EXPERIMENT:VARIANT ...] [--out slices.jsonl] [--plan]

One row of a Markdown table for each stage of its task, as `genax compile` says it; needs libtpu and
no TPU. With --out each row's facts are also kept there, and those kept already are not compiled
again. With --plan the compiler is stopped before it writes the instructions, see `plans`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax

from benchmarks.plans import planned
from genax.ahead.programs import topology
from genax.cli.compile import describe
from genax.front.experiments import configure, load
from genax.front.files import variants_of

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = (
    "size",
    "slice",
    "mesh",
    "batch",
    "GiB: state, batch",
    "temporaries",
    "of",
    "TFLOP a step",
    "model's",
    "GB moved",
    "GB sent",
    "step at least, s",
    "bound by",
    "utilisation at most",
    "estimate, s",
    "utilisation by it",
)


def published() -> Iterator[str]:
    """All variants that state a slice."""
    for path in sorted((ROOT / "experiments").glob("*/*.py")):
        name = str(path.relative_to(ROOT))
        for variant in variants_of(load(name).module):
            if load(f"{name}:{variant}").config().parallel.topology:
                yield f"{name}:{variant}"


def stages(name: str) -> int:
    """The number of stages of an experiment's task."""
    loaded = load(name)
    return len(loaded.build(configure(loaded, {})).task.stages)


def facts(
    name: str,
    settings: Mapping[str, str] | None = None,
    stage: int = 0,
    plan: bool = False,
) -> dict:
    """What `genax compile --json` prints, the slice, and the length of a sequence if it has one.

    plan: what is `planned`, with no other settings than the experiment's.
    """
    loaded = load(name)
    config = configure(loaded, settings or {})
    where = config.parallel.topology
    found = {"size": name, "stage": stage, "slice": where, "context": config.get("context")}
    if plan:
        return found | planned(name, loaded, config, stage)
    return found | describe(loaded, config, topology(where), stage).facts


def row(fact: dict) -> str:
    """A line of the table."""
    mesh = (
        ", ".join(f"{axis}={size}" for axis, size in fact["mesh"].items() if size > 1) or "data=1"
    )
    length = f" x {fact['context']:,}" if fact.get("context") else ""
    split = f" in {fact['accumulate']}" if fact["accumulate"] > 1 else ""
    cells = [
        _short(fact["size"], fact["stage"]),
        fact["slice"],
        mesh,
        f"{fact['batch_size']:,}{length}{split}",
    ]
    gib = 2.0**30
    if fact["memory"] is None:
        return line([*cells, f"needs {fact['memory_wanted'] / gib:.1f}: does not fit"])
    sent = sum(one["bytes"] for one in fact["collectives"].values())
    cells += [
        f"{fact['memory']['arguments'] / gib:.2f}",
        f"{fact['memory']['temporaries'] / gib:.2f}",
        f"{fact['memory_there'] / gib:.0f}",
        f"{fact['flops'] / 1e12:,.1f}",
        f"{fact['model_flops'] / 1e12:,.1f}",
    ]
    if "roofline_seconds" not in fact:
        return line([*cells, "", f"{sent / 1e9:,.2f}", "", "", "", "plan", ""])
    roofline = fact["roofline_seconds"]
    cells += [
        f"{fact['bytes'] / 1e9:,.1f}",
        f"{sent / 1e9:,.2f}",
        f"{roofline['step']:.3g}",
        roofline["bound"],
        f"{fact['model_flops_utilisation']:.0%}",
        f"{fact['estimate_seconds']['step']:.3g}",
        f"{fact['estimated_utilisation']:.0%}",
    ]
    return line(cells)


def _short(name: str, stage: int) -> str:
    path, variant = name.split(":")
    return f"{Path(path).stem}:{variant}" + (f", stage {stage}" if stage else "")


def line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="EXPERIMENT:VARIANT")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--plan", action="store_true")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    kept = {}
    if args.out and args.out.exists():
        found = map(json.loads, args.out.read_text().splitlines())
        kept = {(fact["size"], fact["stage"]): fact for fact in found}
    print(line(COLUMNS), "|" + "---|" * len(COLUMNS), sep="\n")
    for name, stage in ((n, s) for n in args.names or published() for s in range(stages(n))):
        fact = kept.get((name, stage))
        if fact is None:
            fact = facts(name, stage=stage, plan=args.plan)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(fact, allow_nan=False) + "\n")
        print(row(fact), flush=True)


if __name__ == "__main__":
    main()
