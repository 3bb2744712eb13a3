"""Which folder imports which: arrows point down only, and no two modules import each other."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.experiments import ROOT

CHAPTER = ("core", "settings", "nn", "data", "evaluation")
CHAPTERS = ("transformer", "diffusion", "gan", "vae")
# A folder imports itself and these.
BELOW = {
    "core": (),
    "settings": ("core",),
    "running": ("core", "settings", "nn"),
    "ahead": ("core", "settings", "running"),
    "nn": ("core", "settings"),
    "data": ("core", "settings"),
    "evaluation": ("core", "settings", "nn", "data"),
    **dict.fromkeys(CHAPTERS, CHAPTER),
    "hybrid": (*CHAPTER, *CHAPTERS),
    "interop": ("core", "settings", "nn", "data", *CHAPTERS, "hybrid"),
    "front": ("core", "settings", "running", "data", "interop"),
    "cli": ("core", "settings", "running", "ahead", "data", "interop", "front"),
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "genax").rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """The modules of genax that a file imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in inner}
    return {name for name in found if name.partition(".")[0] == "genax"}


def folder(module: str) -> str:
    return ([*module.split("."), ""])[1]


@pytest.mark.parametrize("name", sorted(BELOW))
def test_a_folder_imports_what_lies_below_it(name):
    allowed = {"", name, *BELOW[name]}
    above = {
        f"{module} imports {other}"
        for module, path in FILES.items()
        if folder(module) == name
        for other in imports(path)
        if folder(other) not in allowed
    }
    assert not above


def test_every_folder_has_its_place():
    assert {folder(module) for module in FILES} - {"", "__main__"} == set(BELOW)


def test_a_newcomer_reads_the_core_in_an_afternoon():
    lines = {
        module: len(path.read_text().splitlines())
        for module, path in FILES.items()
        if folder(module) == "core"
    }
    assert sum(lines.values()) <= 1_800
    assert max(lines.values()) <= 400


def test_no_file_is_long():
    assert not [name for name, path in FILES.items() if len(path.read_text().splitlines()) > 600]


def test_no_circle():
    graph = {
        module: {other for other in imports(path) if other in FILES and other != module}
        for module, path in FILES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))
