"""What the pages on Python show, run as it stands there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.command import ROOT
from tests.front.cells import play


def blocks(text):
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


@pytest.mark.long
def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = play(blocks((ROOT / "docs" / "python.md").read_text()))
    assert (tmp_path / "digits.png").stat().st_size
    assert found["run"].checkpoints == [200]
    assert "def my_loss" in (tmp_path / "runs" / "mine" / "experiment.py").read_text()


@pytest.mark.long
def test_what_lies_beneath(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs" / "design.md").read_text().partition("## From Python")[2]
    [found] = [play([block]) for block in blocks(section)]
    assert found["images"].shape == (16, 8, 8, 1)
    assert np.isfinite(found["metrics"]["discriminator/loss"])
