"""The table of published sizes: its rows have the settings of the experiments."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pytest

from benchmarks.slices import facts, published, row
from genax.front.experiments import configure, load
from tests.parity import require

TABLE = (Path(__file__).resolve().parents[1] / "docs" / "scaling.md").read_text()
CELLS = re.compile(r"^\| (\w+:[^ ,|]+)(?:, stage \d+)? \| (\S+) \| (\S[^|]*) \| ([\d,]+)", re.M)


def stated():
    """Slices, meshes and batches of the rows, by size."""
    section = TABLE.split("\n## ")[1]
    assert section.startswith("Every size on the slice its experiment states")
    found: dict[str, set[tuple[str, int, int]]] = {}
    for size, place, mesh, batch in CELLS.findall(section):
        parts = prod(int(part) for part in re.findall(r"=(\d+)", mesh))
        found.setdefault(size, set()).add((place, parts, int(batch.replace(",", ""))))
    return found


def asked():
    """The same by the experiments."""
    found = {}
    for name in published():
        config = configure(load(name), {})
        place = config.parallel.topology
        chips = prod(int(size) for size in place.partition(":")[2].split("x"))
        path, variant = name.split(":")
        found[f"{Path(path).stem}:{variant}"] = {(place, chips, config.batch_size)}
    return found


def test_each_published_size_has_a_row_with_its_settings():
    assert stated() == asked()


@pytest.mark.long
def test_a_plan_says_what_the_program_says():
    require("libtpu", extra="tpu")
    name = "experiments/vae/vae.py:pytorch"
    plan, program = facts(name, plan=True), facts(name)
    memory = program.pop("memory")
    assert plan.pop("memory")["arguments"] == memory["arguments"] > 0
    assert plan == {key: program[key] for key in plan}
    assert row(plan | {"memory": memory}).endswith("| plan |  |")
