"""The share of each experiment's lines that stand in another experiment too.

    python -m benchmarks.repetition [--lines]

Lines are compared without the spaces around them. Lines without a word, imports and docstrings are
left out; comments and all other lines count. A line is repeated if it and a line beside it stand
together, in this order, in another experiment: papers have a batch of 256 in common, and all
experiments a `build`, without one being a copy. With --lines the repeated lines are printed too.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def counted_lines(source: str) -> list[str]:
    """Return the lines of a program that count."""
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node = node.body[0]
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line.strip() for line in source.splitlines()]
    return [
        line
        for number, line in enumerate(lines, 1)
        if number not in skipped and any(map(str.isalnum, line))
    ]


def repeated_lines(lines: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Return the lines of each program that stand in another one, two or more in a row."""
    pairs = {name: set(pairwise(own)) for name, own in lines.items()}
    found = {}
    for name, own in lines.items():
        others = set().union(*(pairs[other] for other in lines.keys() - {name}))
        shared = [pair in others for pair in pairwise(own)]
        beside = zip(own, [False, *shared], [*shared, False], strict=True)
        found[name] = [line for line, before, after in beside if before or after]
    return found


def experiments() -> dict[str, list[str]]:
    """Return the counted lines of each experiment of the repository, by its path."""
    paths: Iterable[Path] = sorted((ROOT / "experiments").rglob("*.py"))
    return {str(path.relative_to(ROOT)): counted_lines(path.read_text()) for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", action="store_true", help="print the repeated lines as well")
    args = parser.parse_args()
    lines = experiments()
    for name, repeated in repeated_lines(lines).items():
        share = len(repeated) / len(lines[name])
        print(f"{name:<50} {len(repeated):>4} of {len(lines[name]):>4} lines, {share:.0%}")
        for line in repeated if args.lines else ():
            print(f"    {line}")


if __name__ == "__main__":
    main()
