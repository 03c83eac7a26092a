"""Parts of a genome where no negative may come from, such as promoters when windows outside them are drawn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import bioframe
import numpy as np
import pandas as pd

_COLUMNS = ("record", "start", "end")


@dataclass(frozen=True)
class Excluded:
    """Disjoint intervals by record, in order; 0-based half-open. Made by `Excluded.of`."""

    starts: Mapping[str, np.ndarray]
    """int64[m] by record."""
    ends: Mapping[str, np.ndarray]
    """int64[m] by record, exclusive; both rise."""

    @classmethod
    def of(cls, intervals: Iterable[tuple[str, int, int]]) -> "Excluded":
        """What any of (record, start, end) covers; they may come in any order, overlap and repeat."""
        table = pd.DataFrame(list(intervals), columns=list(_COLUMNS))
        if table.empty:
            return cls({}, {})
        merged = bioframe.merge(table.astype({"start": np.int64, "end": np.int64}), min_dist=0, cols=_COLUMNS)
        by_record = {record: rows.sort_values("start") for record, rows in merged.groupby("record", sort=False)}
        return cls(
            {record: rows.start.to_numpy() for record, rows in by_record.items()},
            {record: rows.end.to_numpy() for record, rows in by_record.items()},
        )

    def padded(self, bases: int) -> "Excluded":
        """The same with `bases` more on either side of every interval, not before the beginning of a record."""
        return Excluded.of(
            (record, max(int(start) - bases, 0), int(end) + bases)
            for record in self.starts
            for start, end in zip(self.starts[record], self.ends[record])
        )

    def free(self, record: str, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Whether windows share no base with what is excluded.

        Args:
          record: name of their record; one of which nothing is excluded is free everywhere.
          starts: int[n], 0-based.
          ends: int[n], exclusive.

        Returns:
          bool[n].
        """
        if record not in self.starts:
            return np.ones(len(starts), bool)
        # The first interval that ends behind the start of the window has to begin behind its end, or not at all.
        first = np.searchsorted(self.ends[record], starts, side="right")
        return np.append(self.starts[record], np.iinfo(np.int64).max)[first] >= ends
