"""Which records of a split are read: those of some classes, and one side of a validation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from genax.core.errors import GenaxError
from genax.data.sets.records import Records
from genax.settings.ranges import AMOUNT, check_fields


@dataclass(frozen=True)
class Selection:
    """Records of a split by their labels, such as the normal ones that a detector trains on.

    classes: labels of the records that are kept; none of them keeps all.
    every: of the records that are kept, each of this number validates; 0 holds none out.
    validates: whether those that validate are read, and not the others.
    """

    classes: tuple[int, ...] = ()
    every: int = 0
    validates: bool = False

    def __post_init__(self):
        check_fields(self, every=AMOUNT)
        if self.every == 1 or (self.validates and not self.every):
            raise GenaxError(
                f"Selection(every={self.every}, validates={self.validates}) leaves nothing to one "
                "side; every is at least 2, or 0 if no record validates."
            )

    @property
    def validation(self) -> Selection:
        """The records that this selection holds out."""
        return replace(self, validates=True)

    def of(self, labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
        """Return the numbers of the records, int64, in their order.

        labels: of all records.
        """
        kept = np.arange(len(labels), dtype=np.int64)
        if self.classes:
            kept = kept[np.isin(labels, self.classes)]
        if not self.every:
            return kept
        validates = np.arange(len(kept)) % self.every == self.every - 1
        return kept[validates == self.validates]

    def records(self, records: Records, label: str, source: str) -> SelectedRecords:
        """Return the records that are selected. Raises GenaxError if there is none.

        label: the field that has the labels.
        source: what the error names.
        """
        labels = records.read(np.arange(len(records), dtype=np.int64))[label]
        ids = self.of(labels)
        if not len(ids):
            raise GenaxError(
                f"{source} has no record of {self}; its labels are {np.unique(labels).tolist()}."
            )
        return SelectedRecords(records, ids)


@dataclass(frozen=True, eq=False)
class SelectedRecords:
    """Some of the records of a split, by new numbers."""

    records: Records
    ids: Int[np.ndarray, " n"]

    @property
    def threads(self) -> int:
        """Threads that are worth reading with."""
        return self.records.threads

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """ids: int64 [b]. Returns arrays [b, ...]."""
        return self.records.read(self.ids[ids])

    def fingerprint(self) -> str:
        """Changes with the records; whoever asks knows the selection."""
        return self.records.fingerprint()
