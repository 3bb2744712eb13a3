"""genax params."""

from __future__ import annotations

import argparse

from genax.cli.experiments import configure, load
from genax.core.files import to_json
from genax.running.run import count_parameters


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "params",
        help="count an experiment's parameters without allocating them",
        description="Count parameters by network; settings are overridden as --config.KEY=VALUE.",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT[:VARIANT]", help="path of a Python file")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Print the counts."""
    loaded = load(args.experiment)
    counts = count_parameters(loaded.build(configure(loaded, args.settings)))
    total = sum(counts.values())
    if args.json:
        print(to_json({"networks": counts, "total": total}))
        return 0
    for name, count in counts.items():
        print(f"{name}: {count:,}")
    print(f"total: {total:,}")
    return 0
