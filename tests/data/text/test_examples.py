from __future__ import annotations

import numpy as np
import pytest
import tensorflow_datasets as tfds

from genax.core.errors import GenaxError
from genax.data import ImageData
from genax.data.sets.catalogue import KNOWN
from genax.data.sets.embedded import load_stdlib
from genax.data.text import functions
from genax.data.text.examples import fingerprint_examples, load_examples
from genax.data.text.functions import names, signatures, summaries

EMBEDDED = ("stdlib_summaries", "stdlib_names", "stdlib_signatures")

SOURCE = '''
class Thing:
    @property
    def size(self):
        """Return how large it is.

        In metres.
        """
        text = """
left"""
        return len(text)

\x0c
    async def go(self, to=(1, ")"), *rest: "ä)"):  # comment (here)
        """Go."""
        return to

    def nothing(self):
        """Does nothing at all."""

    def short(): "A docstring in the line."; return 1

    def long(
        self,
        more,
    ):
        r"""First line that is
        no sentence."""
        return more

    def none( ):
        return 1
'''


@pytest.fixture
def small_library(monkeypatch):
    """Two small files; the held-out one repeats the other's function."""
    other = (
        'def more(a, b):\n    """Add one to the other."""\n    return a + b\n\ndef less(b): pass\n'
    )
    documents = {"train": [SOURCE], "validation": [SOURCE, other, "def broken("]}
    monkeypatch.setattr(functions, "load_stdlib", lambda: documents)
    functions.stdlib_examples.cache_clear()
    yield
    functions.stdlib_examples.cache_clear()


def test_summary_and_code_without_it():
    (only,) = summaries(SOURCE)
    assert only == {
        "code": '@property\ndef size(self):\n    text = """\nleft"""\n    return len(text)',
        "summary": "Return how large it is.",
        "method": 1,
    }


def test_code_that_is_too_long_is_left_out():
    body = "    x = 1\n" * 300
    assert not list(summaries(f'def f():\n    """Does this and that."""\n{body}'))


def test_names_are_hidden():
    source = SOURCE.replace("def go", "def goToHTTP_2")
    found = {example["name"]: example["code"] for example in names(source)}
    assert list(found) == ["size", "go to http 2", "long", "none"]
    assert found["go to http 2"].startswith("async def _(self, to=")
    assert found["size"] == 'def _(self):\n    text = """\nleft"""\n    return len(text)'
    assert found["none"] == "def none( ):\n    return 1".replace("none", "_")
    assert not list(names("def __init__(self):\n    self.x = 1\n"))


def test_answers_stand_where_they_are_said_to():
    found = list(signatures(SOURCE))
    asked = {example["question"]: example["answer"] for example in found}
    assert asked == {
        "what are the arguments of size?": "self",
        "what are the arguments of go?": 'self, to=(1, ")"), *rest: "ä)"',
        "what are the arguments of nothing?": "self",
    }
    for example in found:
        end = example["start"] + len(example["answer"])
        assert example["context"][example["start"] : end] == example["answer"]


def test_a_name_that_comes_twice_is_not_asked_for():
    source = "def f(a): pass\ndef f(b): pass\ndef g(c): pass\n"
    assert [example["answer"] for example in signatures(source)] == ["c"]


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_trains_is_not_held_out(name, small_library):
    train, held_out = (load_examples(name, split) for split in ("train", "validation"))
    assert train
    assert held_out
    assert all(example not in train for example in held_out)
    for example in [*train, *held_out]:
        assert example.keys() == KNOWN[name].fields.keys()
        assert all(field.fits(example[key]) for key, field in KNOWN[name].fields.items())
    before = fingerprint_examples(name, "train")
    assert before != fingerprint_examples(name, "validation")
    functions.stdlib_examples.cache_clear()
    assert load_examples(name, "train") == train
    assert fingerprint_examples(name, "train") == before


def test_fingerprint_follows_the_content(small_library, monkeypatch):
    before = fingerprint_examples("stdlib_summaries", "train")
    changed = {"train": [SOURCE.replace("how large", "how big")], "validation": []}
    monkeypatch.setattr(functions, "load_stdlib", lambda: changed)
    functions.stdlib_examples.cache_clear()
    assert fingerprint_examples("stdlib_summaries", "train") != before


@pytest.mark.long
def test_the_standard_library_itself(monkeypatch):
    # Every tenth file to train: to parse all of them takes ten seconds.
    documents = load_stdlib()
    documents["train"] = documents["train"][::10]
    monkeypatch.setattr(functions, "load_stdlib", lambda: documents)
    functions.stdlib_examples.cache_clear()
    for name, least in zip(EMBEDDED, (300, 800, 800), strict=True):
        train, held_out = (load_examples(name, split) for split in ("train", "validation"))
        assert len(train) > least
        assert held_out
    functions.stdlib_examples.cache_clear()
    for example in train:
        assert example["context"].startswith(example["answer"], example["start"])
        assert len(example["context"]) <= 600
        assert "\n" not in example["answer"]


def test_clear_errors(cache):
    with pytest.raises(GenaxError, match="no data set 'nothing'"):
        load_examples("nothing", "train")
    with pytest.raises(GenaxError, match="verses has no split 'dev'; it has train, validation"):
        load_examples("verses", "dev")
    with pytest.raises(GenaxError, match="stdlib_summaries has no split 'test'"):
        fingerprint_examples("stdlib_summaries", "test")
    with pytest.raises(GenaxError, match="digits is a set of images; use ImageData"):
        load_examples("digits", "train")
    with pytest.raises(GenaxError, match="stdlib is a set of documents; use TextData"):
        load_examples("stdlib", "train")
    with pytest.raises(GenaxError, match="run: genax data prepare imdb"):
        load_examples("imdb", "train")
    with pytest.raises(GenaxError, match="verses is a set of examples; use load_examples"):
        ImageData("verses").element  # noqa: B018


class Questions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set with TFDS's own kinds of features."""

    VERSION = tfds.core.Version("1.0.0")
    name = "questions"
    url_infos = None

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(num_classes=3),
            "words": tfds.features.Sequence(tfds.features.Text()),
            "answers": tfds.features.Sequence({"start": np.int32, "text": tfds.features.Text()}),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(3):
            answers = [{"start": start, "text": f"ñ{start}"} for start in range(number)]
            yield (
                number,
                {"text": f"É {number}", "label": number, "words": ["a", "ö"], "answers": answers},
            )


def test_prepared_tfds_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    Questions(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    *_, last = load_examples("tfds:questions", "train")
    assert last == {
        "text": "É 2",
        "label": 2,
        "words": ("a", "ö"),
        "answers/start": (0, 1),
        "answers/text": ("ñ0", "ñ1"),
    }
    assert len(load_examples("tfds:questions", "train[:2]")) == 2
    first = fingerprint_examples("tfds:questions", "train")
    assert first != fingerprint_examples("tfds:questions", "train[:2]")
    with pytest.raises(GenaxError, match="no split 'dev'"):
        fingerprint_examples("tfds:questions", "dev")
    with pytest.raises(GenaxError, match="run: genax data prepare tfds:imdb_reviews"):
        load_examples("tfds:imdb_reviews", "train")
    with pytest.raises(GenaxError, match=r"tfds:cifar10 is a set of images \('image'\)"):
        load_examples("tfds:cifar10", "train")


@pytest.mark.long
def test_slices_of_embedded_examples():
    whole = load_examples("stdlib_names", "validation")
    assert list(load_examples("stdlib_names", "validation[:10]")) == list(whole[:10])
    prints = {fingerprint_examples("stdlib_names", split) for split in ("train", "train[:50%]")}
    assert len(prints) == 2
    with pytest.raises(GenaxError, match="holds no record"):
        load_examples("stdlib_names", "validation[5:5]")
