"""genax params."""

from __future__ import annotations

import argparse

from genax.front.experiments import configure, load
from genax.running.run import count_parameters
from genax.settings.files import to_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "params",
        help="count an experiment's parameters without allocating them",
        description="Count parameters by network, and those that are fixed; settings are "
        "overridden as --config.KEY=VALUE.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT[:VARIANT]", help="path of a Python file")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Print the counts."""
    loaded = load(args.experiment)
    counts, fixed = count_parameters(loaded.build(configure(loaded, args.settings)))
    total = sum(counts.values())
    if args.json:
        print(to_json({"networks": counts, "total": total} | ({"fixed": fixed} if fixed else {})))
        return 0
    for name, count in counts.items():
        print(_line(name, count, fixed.get(name, 0)))
    print(_line("total", total, sum(fixed.values())))
    return 0


def _line(name: str, count: int, fixed: int) -> str:
    return f"{name}: {count:,}" + (f", {fixed:,} of them fixed" if fixed else "")
