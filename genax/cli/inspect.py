"""genax inspect."""

from __future__ import annotations

import argparse

from genax.front.restore import facts
from genax.settings.files import to_json
from genax.settings.flat import flat


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "inspect",
        help="show what a run holds: step, digest, settings, versions",
        description="Show a checkpoint's step, state digest, settings and versions. Two runs with "
        "one digest are the same run.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    found = facts(args.workdir, args.step)
    if args.json:
        print(to_json(found))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in flat(value).items():
                print(f"  {key}: {item}")
        else:
            print(f"{name}: {value}")
    return 0
