"""genax inspect."""

from __future__ import annotations

import argparse

from genax.core import tree
from genax.core.files import to_json
from genax.core.tree import flat
from genax.front.restore import open_checkpoints


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
    checkpoints, step = open_checkpoints(args.workdir, args.step)
    arrays = checkpoints.arrays(step)
    params = {path: leaf for path, leaf in arrays.items() if path.startswith("params/")}
    record = checkpoints.record(step)["run"]
    facts = {
        "step": step,
        "digest": tree.digest(arrays),
        "params_digest": tree.digest(params),
        "checkpoints": checkpoints.steps,
        **record,
    }
    if args.json:
        print(to_json(facts))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, item in flat(value).items():
                print(f"  {key}: {item}")
        else:
            print(f"{name}: {value}")
    return 0
