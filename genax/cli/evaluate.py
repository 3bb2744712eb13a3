"""genax eval."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

from genax.cli.sample import add_experiment
from genax.front.runs import open_run
from genax.settings.files import to_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "eval",
        help="score a trained run on held-out data",
        description="Score a run's newest checkpoint, with averaged weights, on held-out data. "
        "Settings are overridden as --config.KEY=VALUE.",
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
        print(to_json({"step": step, **as_json(scores)}))
        return 0
    for name, score in scores.items():
        print(f"{name}: {shown(score)}")
    return 0


def shown(score: float) -> str:
    """A score as a person reads it, or that there is none."""
    return f"{score:.6g}" if math.isfinite(score) else f"no score, as the mean is {score}"


def as_json(scores: Mapping[str, float]) -> dict[str, Any]:
    """Scores as JSON: null for one that is not finite, and under "not_finite" what it is."""
    found: dict[str, Any] = {
        name: score if math.isfinite(score) else None for name, score in scores.items()
    }
    wrong = {name: str(scores[name]) for name, score in found.items() if score is None}
    return found | ({"not_finite": wrong} if wrong else {})
