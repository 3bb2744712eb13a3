"""Scores of SMILES, and their pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from genax.core.errors import GenaxError
from genax.data.sets.molecules import read_carbon_chains
from genax.evaluation import molecules as of_molecules
from genax.evaluation.molecules import (
    canonical,
    draw_ways,
    known_molecules,
    molecule_grid,
    molecule_scores,
    molecules,
)
from genax.running.evaluate import evaluate
from tests.core.toys import line_task

pytest.importorskip("rdkit")

# Ethanol twice, benzene, one ring that stays open, five bonds of a carbon, nothing.
TEXTS = ["CCO", "OCC", "c1ccccc1", "C1CC", "C(C)(C)(C)(C)C", "", " "]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAX_DATA", str(tmp_path / "cache"))


def test_what_is_a_molecule():
    assert canonical(TEXTS) == ["CCO", "CCO", "c1ccccc1", "", "", "", ""]


def test_scores_by_hand():
    scores = molecule_scores(TEXTS, {"c1ccccc1"}.__contains__)
    assert scores == {"validity": 3 / 7, "uniqueness": 2 / 3, "novelty": 1 / 2}
    none = molecule_scores(["C1", "("], {"CCO"}.__contains__)
    assert none["validity"] == 0
    assert math.isnan(none["uniqueness"])
    assert math.isnan(none["novelty"])


def test_a_training_set_is_known_by_its_molecules(cache):
    asked = []

    def texts():
        asked.append(1)
        return ["OCC", "C1CC", "CCN"]

    for _ in range(2):
        known = known_molecules("a fingerprint", texts)
        assert [known(text) for text in ("CCO", "CCN", "C1CC", "CCC")] == [True, True, False, False]
    assert len(asked) == 1
    assert not known_molecules("another", lambda: ["C"])("CCO")


def test_all_embedded_chains_are_molecules():
    splits = read_carbon_chains()
    texts = [example["smiles"] for examples in splits.values() for example in examples]
    assert all(canonical(texts))


def test_an_evaluator_reads_what_was_written(cache, tmp_path):
    def write(nets, batch):
        return batch["index"][:, None] % len(TEXTS)

    def decode(rows, workdir):
        return [TEXTS[row[0]] for row in rows]

    def training(workdir):
        return "a fingerprint", lambda: ["CCO"]

    scores = {"written": molecules(write, decode, training, 14)}
    task = replace(line_task(), evaluators=scores)
    found = evaluate(task, {"params": {}}, None, 5, tmp_path)
    assert found == pytest.approx(
        {"written/validity": 6 / 14, "written/uniqueness": 2 / 6, "written/novelty": 1 / 2}
    )
    assert found.said["written"]["samples"] == 14


def test_pictures_have_a_place_for_each_text():
    picture = molecule_grid([*TEXTS, "C" * 40])
    assert picture.suffix == ".svg"
    content = picture.content.decode()
    assert content.startswith("<?xml")
    assert "svg" in content
    rows = np.zeros((3, 4, 5), np.int32)
    drawn = draw_ways(rows, {}, None, lambda rows, workdir: ["CCO"] * len(rows))
    assert drawn.suffix == ".svg"


def test_without_rdkit_it_is_named(monkeypatch):
    monkeypatch.setattr(of_molecules.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GenaxError, match=r"pip install 'genax.molecules.'"):
        of_molecules.check_rdkit()
