"""genax list."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genax.core.errors import GenaxError
from genax.front.files import import_experiment, is_experiment, roots, variants_of
from genax.settings.files import to_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "list",
        help="show experiments, papers and variants",
        description="Show the experiments under ./experiments, or genax's own.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the experiments."""
    folders = [root / "experiments" for root in roots() if (root / "experiments").is_dir()]
    if not folders:
        raise GenaxError("there is no folder experiments here; run from a checkout of genax.")
    paths = filter(is_experiment, sorted(folders[0].rglob("*.py")))
    found = [_describe(path, folders[0].parent) for path in paths]
    if args.json:
        print(to_json({"experiments": found}))
        return 0
    for experiment in found:
        print(f"{experiment['path']}\n  {experiment['paper']}")
        for variant, what in experiment["variants"].items():
            print(f"    :{variant:<16} {what}")
    return 0


def _describe(path: Path, root: Path) -> dict[str, Any]:
    module = import_experiment(path)
    paper = (module.__doc__ or "").partition("\n")[0]
    variants = {name: variant.what for name, variant in variants_of(module).items()}
    return {"path": str(path.relative_to(root)), "paper": paper, "variants": variants}
