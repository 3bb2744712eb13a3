"""Data sets that need no download: handwritten digits, waves, the standard library's source."""

from __future__ import annotations

import colorsys
import hashlib
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

DIGITS_TEST = 297
WAVE_LENGTH = 48
WAVES = ("normal", "periods", "jump", "gap")
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


def load_digits(split: str) -> dict[str, np.ndarray]:
    """Return scikit-learn's digits: "image" uint8 [n, 8, 8, 1] in 0..255, "label" int32 [n].

    split: "train" (the first 1,500) or "test" (the last 297).
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    part = slice(-DIGITS_TEST) if split == "train" else slice(-DIGITS_TEST, None)
    return {"image": images[part], "label": labels[part].astype(np.int32)}


def read_digits() -> dict[str, list[dict[str, Any]]]:
    """Return the examples of both splits of `load_digits`."""
    splits = {split: load_digits(split) for split in ("train", "test")}
    return {
        split: [
            {"image": image, "label": label}
            for image, label in zip(arrays["image"], arrays["label"].tolist(), strict=True)
        ]
        for split, arrays in splits.items()
    }


def read_digit_pairs() -> dict[str, list[dict[str, Any]]]:
    """Return the digits as pairs: black strokes on white, and in the colour of their class.

    A pixel belongs to a stroke if it has more than half the greatest value. The ten colours are
    those of a wheel of hues.
    """
    colours = np.array([colorsys.hsv_to_rgb(digit / 10, 0.8, 0.8) for digit in range(10)]) * 255
    pairs = {}
    for split in ("train", "test"):
        arrays = load_digits(split)
        ink = arrays["image"] / 255
        colour = 255 * (1 - ink) + colours[arrays["label"]][:, None, None] * ink
        strokes = np.broadcast_to(np.where(ink > 0.5, 0, 255), colour.shape)
        parts = (np.rint(part).astype(np.uint8) for part in (strokes, colour))
        pairs[split] = [
            {"strokes": one, "colour": other, "label": label}
            for one, other, label in zip(*parts, arrays["label"].tolist(), strict=True)
        ]
    return pairs


def read_waves() -> dict[str, list[dict[str, Any]]]:
    """Return waves of four classes by turns in "test", of which "train" has few but normal ones.

    All begin as 2 sin(t) + sin(2t) in two periods with a shift of at most an eighth of a period and
    normal noise of deviation 0.15. "periods" has three periods, "jump" rises by 2 at a random
    place, and of "gap" a random fifth is 0. Each has the mean 0 and the deviation 1.
    """
    draw = np.random.default_rng(0)

    def wave(label: int) -> dict[str, Any]:
        time = np.arange(WAVE_LENGTH) / WAVE_LENGTH * 4 * np.pi
        time = (1.5 if WAVES[label] == "periods" else 1.0) * time + draw.uniform(-0.4, 0.4)
        series = 2 * np.sin(time) + np.sin(2 * time)
        start = draw.integers(WAVE_LENGTH // 5, WAVE_LENGTH - 2 * WAVE_LENGTH // 5)
        if WAVES[label] == "jump":
            series[start:] += 2
        if WAVES[label] == "gap":
            series[start : start + WAVE_LENGTH // 5] = 0
        series = series + draw.normal(0, 0.15, WAVE_LENGTH)
        series = (series - series.mean()) / series.std()
        return {"series": series.astype(np.float32)[:, None], "label": label}

    return {
        "train": [wave(number // 10 % 4 if number % 10 == 0 else 0) for number in range(400)],
        "test": [wave(max(0, number % 6 - 2)) for number in range(600)],
    }


def read_stdlib() -> dict[str, list[dict[str, Any]]]:
    """Return the documents of `load_stdlib` as examples."""
    return {
        split: [{"text": document} for document in documents]
        for split, documents in load_stdlib().items()
    }


def load_stdlib() -> dict[str, list[str]]:
    """Return source files of this Python's standard library, by split ("train", "validation").

    They are all *.py files below the standard library's folder, sorted by path, without installed
    packages, test folders and what the build generated for this machine. A file is held out if 20
    divides the SHA-256 of its relative path: 5% of the files, the same on every machine.
    """
    root = Path(sysconfig.get_path("stdlib"))
    documents: dict[str, list[str]] = {"train": [], "validation": []}
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        generated = any(part.startswith(("config-", "_sysconfigdata")) for part in relative.parts)
        if generated or _SKIPPED & set(relative.parts):
            continue
        digest = hashlib.sha256(relative.as_posix().encode()).digest()
        split = "train" if int.from_bytes(digest, "big") % 20 else "validation"
        documents[split].append(path.read_bytes().decode("utf-8", errors="replace"))
    return documents
