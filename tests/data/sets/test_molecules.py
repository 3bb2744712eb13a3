"""Sets of molecules."""

from __future__ import annotations

import gzip
import zipfile

from genax.data.sets.molecules import LONGEST_CHAIN, read_carbon_chains
from genax.data.sets.prepare import prepare_set
from genax.data.text.examples import load_examples
from tests.data import fakes


def test_tables_of_moses(cache, tmp_path):
    archive = tmp_path / "molsets-0.3.1-py3-none-any.whl"
    splits = {"train": ["CCO", "c1ccccc1"], "test": ["CCN"], "test_scaffolds": ["C[C@H](N)O"]}
    with zipfile.ZipFile(archive, "w") as file:
        for split, texts in splits.items():
            table = "SMILES,SPLIT\n" + "".join(f"{text},{split}\n" for text in texts)
            file.writestr(f"moses/dataset/data/{split}.csv.gz", gzip.compress(table.encode()))
    known = fakes.like("moses", {name: len(texts) for name, texts in splits.items()}, archive)
    prepare_set(known, [archive])
    for split, texts in splits.items():
        assert [example["smiles"] for example in load_examples("moses", split)] == texts


def test_chains_are_different_molecules_with_their_valences():
    splits = read_carbon_chains()
    texts = [example["smiles"] for examples in splits.values() for example in examples]
    assert len(texts) == len(set(texts)) == 3_300
    assert max(map(len, texts)) <= LONGEST_CHAIN
    assert set("".join(texts)) == set("CNOc1()")
    assert read_carbon_chains() == splits
    for text in texts:
        assert text.count("(") == text.count(")")
        assert not any(pair in text for pair in ("NN", "NO", "ON", "OO"))
