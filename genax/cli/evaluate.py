"""genax eval."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

from genax.core.errors import GenaxError
from genax.core.files import to_json
from genax.front.experiments import reopen
from genax.front.restore import restore_variables
from genax.running import evaluate
from genax.running.compilation import keep_programs


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "eval",
        help="score a trained run on held-out data",
        description="Score a run's newest checkpoint, with averaged weights, on held-out data. "
        "Settings are overridden as --config.KEY=VALUE.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Print the scores."""
    opened = reopen(args.workdir, args.settings)
    keep_programs(opened.config.get("compile_cache", True))
    if not opened.task.evaluators:
        raise GenaxError(f"the experiment of {args.workdir} has no evaluators.")
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    scores = evaluate.evaluate(
        opened.task,
        variables,
        opened.experiment.evaluation,
        opened.eval_batch_size,
        opened.workdir,
        opened.strategy,
        step=step,
    )
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
