"""The notebook, run as a reader runs it."""

from __future__ import annotations

import json

import pytest

from genax.front.samples import Samples
from tests.cli.command import ROOT, succeed
from tests.front.cells import play

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_of(path):
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_is_stored_but_the_source(path):
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert path.stat().st_size < 10_000


def test_quickstart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = play(code_of(ROOT / "notebooks" / "quickstart.ipynb"))
    pictures = [shown for shown in found["Out"].values() if isinstance(shown, Samples)]
    assert [len(picture.arrays) for picture in pictures] == [16, 8, 8]
    assert all(picture._repr_png_() for picture in pictures)
    columns = found["columns"]
    assert columns["elbo/loss"][-1] < columns["elbo/loss"][0]
    scores = succeed("eval", "runs/sharp", "--json").json
    assert scores.pop("said")["elbo"]["likelihood"] == "bernoulli"
    assert scores == {"step": 400, **found["run"].evaluate()}
