"""The one tokenizer of a run: loaded from its folder, or made at its start and saved there."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from etils import epath

from genax.core.errors import GenaxError
from genax.data.text.tokenizers import (
    FILE,
    Tokenizer,
    load_tokenizer,
    read_tokenizer,
    save_tokenizer,
)


@dataclass(frozen=True)
class Tokenized(ABC):
    """Data whose tokenizer belongs to a run."""

    _workdir: Any = field(default=None, init=False, repr=False, compare=False)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def opened(self, workdir: Any) -> Self:
        """The same data with the tokenizer of the run in `workdir`.

        The tokenizer is loaded from there, or made and saved there. Data that is not opened makes
        the tokenizer of a new run and saves it nowhere.
        """
        found = copy.copy(self)
        object.__setattr__(found, "_workdir", workdir)
        return found

    @abstractmethod
    def get_tokenizer(self, save: bool = False) -> Tokenizer:
        """Return the run's tokenizer, or the one that a new run would have."""
        ...

    @abstractmethod
    def _make(self) -> Tokenizer:
        """Return the tokenizer of a new run."""
        ...

    def _new(self) -> Tokenizer:
        if "new" not in self._kept:
            self._kept["new"] = self._make()
        return self._kept["new"]

    def check_weights(self, folder: Any, workdir: Any) -> None:
        """Raise GenaxError if the weights in a folder are of another tokenizer than the run's.

        workdir: the run's folder.
        """
        theirs = find_tokenizer(folder)
        if theirs is None:
            return
        kept = epath.Path(workdir) / FILE
        ours = read_tokenizer(kept) if kept.exists() else self.get_tokenizer()
        if ours.to_json() != theirs.to_json():
            raise GenaxError(
                f"the weights in {folder} belong to its tokenizer ({theirs.kind!r}, {theirs.size} "
                f"tokens), and this run has another one ({ours.kind!r}, {ours.size} tokens); name "
                f"--config.pretrained={folder}, which takes its tokenizer too, or map none of its "
                "embeddings."
            )


def run_tokenizer(
    workdir: Any, kind: str, vocab_size: int, make: Callable[[], Tokenizer], save: bool
) -> Tokenizer:
    """The tokenizer in workdir, or else a new one, saved there if `save` says so.

    workdir: None makes one and does not save it. make: makes the one of a new run.
    Raises GenaxError if it is of another kind, or has a number that is not below vocab_size.
    """
    path = None if workdir is None else epath.Path(workdir) / FILE
    if path is not None and path.exists():
        tokenizer, source = load_tokenizer(workdir), str(path)
    else:
        tokenizer, source = make(), "the data's tokenizer"
    if tokenizer.kind != kind:
        raise GenaxError(
            f"{source} is a tokenizer of kind {tokenizer.kind!r} but the experiment asks for "
            f"{kind!r}; use another workdir, or the old setting."
        )
    if tokenizer.size > vocab_size:
        raise GenaxError(
            f"{source} of kind {kind!r} has tokens up to number {tokenizer.size - 1}, more than "
            f"vocab_size={vocab_size} holds; set config.vocab_size to {tokenizer.size} or above."
        )
    if path is not None and not path.exists() and save:
        save_tokenizer(tokenizer, workdir)
    return tokenizer


def find_tokenizer(folder: Any) -> Tokenizer | None:
    """Return the tokenizer of a Hugging Face directory, a run or an import; None if it has none."""
    places = (epath.Path(folder) / FILE, epath.Path(folder) / "hugging_face" / FILE)
    return next((read_tokenizer(path) for path in places if path.exists()), None)


def pretrained_tokenizer(folder: Any) -> Tokenizer:
    """Return the tokenizer that `find_tokenizer` finds.

    Raises GenaxError if there is none.
    """
    found = find_tokenizer(folder)
    if found is None:
        raise GenaxError(
            f"{folder} holds no {FILE}; import a directory that has one, or name another folder."
        )
    return found
