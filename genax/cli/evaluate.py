"""genax eval."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

from genax.cli.sample import add_experiment
from genax.front.runs import open_run
from genax.running.evaluate import Scores
from genax.running.results import floors, shown_result
from genax.settings.files import to_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "eval",
        help="score a trained run on held-out data",
        description="Score a run's newest checkpoint, with averaged weights, on held-out data. "
        "Settings are overridden as --config.KEY=VALUE. WORKDIR/evaluation keeps the scores and "
        "how they came about.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    add_experiment(parser)
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Print the scores."""
    opened = open_run(args.workdir, args.experiment, args.settings)
    step = opened.newest(args.step)
    scores = opened.evaluate(step, averaged=not args.raw)
    if args.json:
        print(to_json(shown_result(scores, step)))
        return 0
    for line in lines(scores):
        print(line)
    return 0


def lines(scores: Scores) -> Iterator[str]:
    """Scores as a person reads them, each beside its floor, and what limits them."""
    floor = floors(scores)
    for name, score in scores.items():
        beside = f" (floor {shown(floor[name])})" if name in floor else ""
        yield f"{name}: {shown(score)}{beside}"
    for name, said in scores.said.items():
        yield from (f"{name}: {note}" for note in said.get("notes", ()))


def shown(score: float) -> str:
    """A score as a person reads it, or that there is none."""
    return f"{score:.6g}" if math.isfinite(score) else f"no score, as the mean is {score}"
