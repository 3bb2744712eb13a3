"""Readers of sets of molecules as SMILES (Weininger 1988), a line of text each."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Examples = Mapping[str, Sequence[Mapping[str, Any]]]
LONGEST_CHAIN = 30
_RINGS = ("C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "c1ccccc1")


def read_moses(folder: Path) -> Examples:
    """Read the three splits of MOSES, tables with a column SMILES."""
    examples = {}
    for split in ("train", "test", "test_scaffolds"):
        found = list(folder.rglob(f"moses/dataset/data/{split}.csv.gz"))
        if len(found) != 1:
            raise ValueError(f"{len(found)} files named {split}.csv.gz, expected one")
        with gzip.open(found[0], "rt", encoding="utf-8", newline="") as file:
            examples[split] = [{"smiles": row["SMILES"]} for row in csv.DictReader(file)]
    return examples


def read_carbon_chains() -> Examples:
    """Return different SMILES that a small grammar draws.

    A molecule is a chain of one to five parts: an atom C, N or O (neither N nor O beside another
    of these), one with a branch, or a ring of carbon. Of chemistry it knows nothing but valences.
    """
    draw = np.random.default_rng(0)

    def chain(most: int) -> str:
        parts: list[str] = []
        for _ in range(draw.integers(1, most + 1)):
            kind = draw.random()
            carbon = not parts or parts[-1][-1] not in "NO"
            if kind < 0.3 and carbon and parts:
                parts.append("NO"[draw.integers(2)])
            elif kind < 0.45 and most > 2:
                parts.append(f"C({chain(2)})")
            elif kind < 0.55:
                parts.append(_RINGS[draw.integers(len(_RINGS))])
            else:
                parts.append("C")
        return "".join(parts)

    found: dict[str, None] = {}
    while len(found) < 3_300:
        text = chain(5)
        if len(text) <= LONGEST_CHAIN:
            found[text] = None
    every = [{"smiles": text} for text in found]
    return {"train": every[:3_000], "test": every[3_000:]}
