"""Short texts as rows of characters."""

from __future__ import annotations

import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data.text.lines import BEGIN, END, PAD, LineData

DATA = LineData("carbon_chains", 32, 10)


def test_a_row_has_a_beginning_and_an_end_and_decodes_to_its_text():
    assert {name: spec.shape for name, spec in DATA.element.items()} == {"tokens": (32,)}
    rows, texts = DATA.rows(), DATA.texts()
    assert DATA.decode(rows) == texts
    for row, text in zip(rows[:50], texts, strict=False):
        assert (row[0], row[len(text) + 1]) == (BEGIN, END)
        assert set(row[len(text) + 2 :].tolist()) <= {PAD}
        assert min(row[1 : len(text) + 1]) >= 3
    assert DATA.decode(np.array([[5, 6, END, 4], [END, 4, 4, 4], [4, PAD, BEGIN, 5]])) == [
        DATA.get_tokenizer().decode([2, 3]),
        "",
        DATA.get_tokenizer().decode([1, 2]),
    ]


def test_batches_of_a_run_share_its_characters(tmp_path):
    train = DATA.opened(tmp_path)
    batch = next(train.train(4, 0, Shard()))
    np.testing.assert_array_equal(batch["tokens"], DATA.rows()[batch["id"]])
    assert batch["tokens"].dtype == np.int32
    assert (tmp_path / "tokenizer.json").exists()
    test = LineData("carbon_chains", 32, 10, "test").opened(tmp_path)
    assert test.decode(next(iter(test.evaluate(5, Shard())))["tokens"]) == test.texts()[:5]
    prints = {data.fingerprint() for data in (DATA, train, test, LineData(DATA.name, 40, 10))}
    assert len(prints) == 3


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(GenaxError, match=r"carbon_chains has 'C.*config.context to 32 or above"):
        LineData("carbon_chains", 20, 10).fingerprint()
    with pytest.raises(GenaxError, match="vocab_size"):
        LineData("carbon_chains", 32, 9).fingerprint()
    with pytest.raises(GenaxError, match=r"carbon_chains has no text 'inchi'; it has smiles .Text"):
        LineData("carbon_chains", 32, 10, text="inchi").texts()
    with pytest.raises(GenaxError, match=r"stdlib_names has no text ''; it has code .Text., name"):
        LineData("stdlib_names", 32, 10).texts()
    (tmp_path / "names.csv").write_text("name,n\n" + "".join(f"x{k}y,{k}\n" for k in range(40)))
    own = LineData(f"csv:{tmp_path / 'names.csv'}", 6, 20, text="name")
    assert all(text.startswith("x") for text in own.decode(own.rows()))


def test_characters_that_are_named_need_no_reading(monkeypatch):
    named = LineData("carbon_chains", 32, 10, "test", characters="CCNOc1()")
    monkeypatch.setattr(LineData, "texts", lambda data, split=None: ["CCO", "c1ccccc1"])
    assert named.get_tokenizer().decode(range(7)) == "()1CNOc"
    assert named.decode(named.rows()) == ["CCO", "c1ccccc1"]
    few = LineData("carbon_chains", 32, 10, "test", characters="CO")
    with pytest.raises(GenaxError, match=r"has the characters '1c', which .* config.characters"):
        few.rows()
