"""Scores and pictures of molecules that are written as SMILES, by RDKit (the extra `molecules`)."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genax.core import Evaluator
from genax.core.errors import GenaxError
from genax.core.task import Batch, Rendered
from genax.evaluation.kept import kept

# Molecules of a picture, and of one of its rows.
SHOWN, COLUMNS = 24, 6


def check_rdkit() -> None:
    """Raise GenaxError if RDKit is not installed."""
    if importlib.util.find_spec("rdkit") is None:
        raise GenaxError("molecules need RDKit: python -m pip install 'genax[molecules]'.")


def canonical(texts: Sequence[str]) -> list[str]:
    """Return the canonical SMILES of each text, "" for one that is no molecule.

    A molecule is a text that is not empty, that RDKit reads, and that passes its sanitisation.
    """
    from rdkit import Chem, rdBase

    rdBase.DisableLog("rdApp.*")  # It prints a line for each text that is none.
    try:
        found = []
        for text in texts:
            molecule = Chem.MolFromSmiles(text) if text.strip() else None
            found.append("" if molecule is None else Chem.MolToSmiles(molecule))
        return found
    finally:
        rdBase.EnableLog("rdApp.*")


def molecule_scores(texts: Sequence[str], known: Callable[[str], bool]) -> dict[str, float]:
    """Return the scores of MOSES (Polykovskiy et al. 2020) of texts that a model wrote.

    validity: share of the texts that are molecules, see `canonical`.
    uniqueness: share of different ones among these.
    novelty: share of these different ones that the training set does not have.

    A share of no molecule is NaN, which is no score.
    known: whether the training set has a canonical SMILES.
    """
    valid = [text for text in canonical(texts) if text]
    unique = {*valid}
    new = sum(not known(text) for text in unique)
    return {
        "validity": len(valid) / len(texts),
        "uniqueness": len(unique) / len(valid) if valid else math.nan,
        "novelty": new / len(unique) if valid else math.nan,
    }


def digests(texts: Sequence[str]) -> np.ndarray:
    """Return 64 bits of the SHA-256 of each text, sorted and each once, as uint64."""
    whole = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
    return np.unique(np.frombuffer(whole, "<u8"))


def known_molecules(fingerprint: str, texts: Callable[[], Sequence[str]]) -> Callable[[str], bool]:
    """Return whether a set has a canonical SMILES, by the digests of its own, kept in the cache.

    fingerprint: of the set.
    texts: returns its SMILES; asked once.
    """
    import rdkit

    def make(folder: Path) -> dict[str, np.ndarray]:
        return {"digests": digests([text for text in canonical(texts()) if text])}

    name = hashlib.sha256(f"{fingerprint} {rdkit.__version__}".encode()).hexdigest()[:32]
    found = kept(f"molecules/{name}", make)["digests"]

    def known(text: str) -> bool:
        digest = digests([text])
        place = int(np.searchsorted(found, digest[0]))
        return place < len(found) and bool(found[place] == digest[0])

    return known


def molecules(
    write: Callable[[Any, Batch], Any],
    decode: Callable[[Any, Any], Sequence[str]],
    training: Callable[[Any], tuple[str, Callable[[], Sequence[str]]]],
    samples: int,
) -> Evaluator:
    """Evaluator of SMILES that a model writes: see `molecule_scores`.

    write: (nets, batch) -> rows of tokens, one for each element of batch["index"].
    decode: (rows, workdir) -> their texts.
    training: workdir -> the arguments of `known_molecules`.
    samples: how many are written.
    Raises GenaxError if RDKit is not installed.
    """
    check_rdkit()

    def summarize(rows: Any, workdir: Any) -> dict[str, float]:
        return molecule_scores(decode(rows, workdir), known_molecules(*training(workdir)))

    def says(rows: Any, workdir: Any) -> dict[str, Any]:
        import rdkit

        return {"samples": len(rows), "rdkit": rdkit.__version__}

    return Evaluator(write, summarize, samples, says=says)


def molecule_grid(texts: Sequence[str], columns: int = COLUMNS) -> Rendered:
    """Draw texts as molecules with what was written below each, as an SVG.

    A text that is no molecule is an empty place with the text.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import Draw

    rdBase.DisableLog("rdApp.*")
    try:
        drawn = [Chem.MolFromSmiles(text) if text.strip() else None for text in texts]
    finally:
        rdBase.EnableLog("rdApp.*")
    shown = [Chem.MolFromSmiles("") if one is None else one for one in drawn]
    legends = [text if len(text) <= 30 else f"{text[:27]}..." for text in texts]
    svg = Draw.MolsToGridImage(
        shown, molsPerRow=columns, subImgSize=(220, 180), legends=legends, useSVG=True
    )
    return Rendered(svg.encode(), ".svg")


def draw_molecules(
    samples: Any, batch: Any, workdir: Any, decode: Callable[[Any, Any], Sequence[str]]
) -> Rendered:
    """Draw the first rows of tokens as molecules."""
    return molecule_grid(decode(np.asarray(samples)[:SHOWN], workdir))


def draw_ways(
    samples: Any, batch: Any, workdir: Any, decode: Callable[[Any, Any], Sequence[str]]
) -> Rendered:
    """Draw rows of molecules, each a way from one to another: samples are [n, k, t]."""
    rows = np.asarray(samples)[: SHOWN // COLUMNS]
    return molecule_grid(decode(rows.reshape(-1, rows.shape[-1]), workdir), rows.shape[1])
