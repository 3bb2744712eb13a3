"""How near samples of a model are to images that it has not seen, by features of extractors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from genax.core.data import Data
from genax.core.errors import GenaxError
from genax.core.task import Batch, Evaluator
from genax.evaluation.extractors import (
    Extractor,
    Features,
    check_images,
    features_of,
    key_of,
    named,
    pixels,
)
from genax.evaluation.fidelity_scores import SETTINGS, fidelity_scores, memorisation_scores
from genax.evaluation.kept import kept


def fidelity(
    draw: Callable[[Any, Batch], Any],
    extractors: Sequence[Extractor],
    train: Data,
    test: Data,
    examples: int = 10_000,
    *,
    train_examples: int | None = None,
    conditional: bool = False,
    says: Mapping[str, Any] | None = None,
) -> Evaluator:
    """Evaluator of samples, drawn once, by the features of extractors.

    Its scores are "<extractor>/fid", and so on for "kid", "precision", "recall", "density",
    "coverage" and those of `memorisation_scores`. Each is that of the samples against the first
    `examples` test images. The floor is that of as many training images against the same test
    images; of the distances to training images it is that of the test images.

    draw: a sampler's function, (nets, batch) -> [b, h, w, c] in [-1, 1].
    extractors: of different names.
    train, test: images of the samples' shape and range.
    examples: how many samples are drawn. Draws that read a label or another array of the test data
      end with that data.
    train_examples: how many training images are searched for neighbours; None is `examples`.
    conditional: whether samples are drawn for batch["label"]. Then "accuracy" is the share of
      samples that an extractor with classes takes for their label, and its floor that of the test
      images.
    says: how samples are drawn, such as {"solver": "ddim", "steps": 50, "guidance": 1.5}.
    Raises GenaxError, before data is read, for data that cannot be compared.
    """
    for data in (train, test):
        check_images(data)
    shapes = [data.element["image"].shape for data in (train, test)]
    if shapes[0] != shapes[1]:
        raise GenaxError(
            f"images of {named(train)} have the shape {shapes[0]}, those of {named(test)} "
            f"{shapes[1]}; samples are compared with both, so they need one shape."
        )
    names = [extractor.name for extractor in extractors]
    if not names or len(set(names)) < len(names):
        raise GenaxError(
            f"samples are compared by the extractors {names}; each name of them names its scores, "
            "so give at least one extractor, and no name twice."
        )
    telling = [extractor.name for extractor in extractors if extractor.classes is not None]
    if conditional and (not telling or "label" not in test.element):
        raise GenaxError(
            f"the extractors {names} and {named(test)} do not tell whether a sample is of its "
            "class; that takes a classifier and labelled data: leave conditional out."
        )
    searched = max(train_examples or examples, examples)

    def rows(nets: Any, batch: Batch, arrays: Any) -> Any:
        images = draw(nets, batch)
        if images.shape[1:] != shapes[1]:
            raise GenaxError(
                f"samples have the shape {images.shape[1:]}, images of {named(test)} {shapes[1]}; "
                "a score needs data of the samples' shape."
            )
        found = pixels(images)
        rows = {}
        for extractor in extractors:
            own = arrays[extractor.name]
            rows[extractor.name] = {"features": extractor.features(own, found)}
            if conditional and extractor.classes is not None:
                rows[extractor.name]["right"] = extractor.classes(own, found) == batch["label"]
        return rows

    def given(workdir: Any) -> dict[str, Any]:
        return {extractor.name: extractor.given(workdir) for extractor in extractors}

    def real(extractor: Extractor, arrays: Any) -> tuple[Features, Features]:
        unseen = features_of(test, extractor, arrays, examples)
        return unseen, features_of(train, extractor, arrays, searched)

    def summarize(found: Any, workdir: Any) -> dict[str, float]:
        scores: dict[str, float] = {}
        for extractor in extractors:
            own = found[extractor.name]
            compared = real(extractor, extractor.given(workdir))
            new = fidelity_scores(own["features"], *compared)
            if "right" in own:
                new["accuracy"] = float(own["right"].mean())
            scores |= {f"{extractor.name}/{name}": score for name, score in new.items()}
        return scores

    def described(found: Any, workdir: Any) -> dict[str, Any]:
        about: dict[str, Any] = {}
        notes: list[str] = []
        floor: dict[str, float] = {}
        for extractor in extractors:
            name, arrays = extractor.name, extractor.given(workdir)
            unseen, seen = real(extractor, arrays)
            about[name], drawn = extractor.described(arrays), len(found[name]["features"])
            key = key_of(test.fingerprint(), train.fingerprint(), about[name]["sha256"], drawn)
            at_best = kept(
                f"floors/{name}-{key_of(key, examples, searched, SETTINGS)}",
                partial(_floor, unseen, seen, drawn),
            )
            if "right" in found[name] and "test_accuracy" in about[name]:
                at_best["accuracy"] = about[name]["test_accuracy"]
            floor |= {f"{name}/{score}": float(value) for score, value in at_best.items()}
            notes += _notes(name, drawn, *unseen.shape)
        return {
            **(says or {}),
            "samples": drawn,
            "test": {"data": named(test), "images": len(unseen)},
            "train": {"data": named(train), "images": len(seen)},
            "extractors": about,
            "statistics": {"precision": "float64", **SETTINGS},
            "floor": floor,
            "notes": list(dict.fromkeys(notes)),
        }

    return Evaluator(rows, summarize, examples, test, given, described)


def _floor(unseen: Features, seen: Features, drawn: int, folder: Path) -> dict[str, np.float64]:
    """Return the scores of training images in the place of samples, by name."""
    scores = {
        **fidelity_scores(seen[:drawn], unseen, seen),
        **memorisation_scores(unseen, unseen, seen),
    }
    return {name: np.float64(score) for name, score in scores.items()}


def _notes(name: str, samples: int, images: int, width: int) -> list[str]:
    """Return what limits the scores of so many samples and images, a sentence each."""
    notes = []
    if min(samples, images) <= width:
        notes.append(
            f"{samples} samples and {images} images are no more than the {width} features of "
            f"{name}: their covariances are singular and the FID is too high; compare it at equal "
            "counts only, and with its floor."
        )
    if samples != images:
        notes.append(
            f"{samples} samples are compared with {images} images; precision, recall, density and "
            "coverage are even at equal counts only."
        )
    return notes
