"""What a splice-site model calls in a region, held against the annotation."""

import heapq
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dnabert_jax.inference import predictions
from dnabert_jax.loaded import Model
from dnabert_jax.rounds.borders import Asked, Border
from dnabert_jax.tasks.splice import NEITHER


class FalsePositive(NamedTuple):
    """A border that is no annotated site and was called one."""

    border: Border
    called: str
    """Donor or acceptor."""
    probability: float
    """Of that class."""


@dataclass
class Counts:
    """What was called. A border is called what its likeliest class is; all but non-canonical sites count as such."""

    borders: int = 0
    """That could be a site by their letters."""
    sites: int = 0
    """Annotated canonical sites among them."""
    found: int = 0
    """Of these, called what they are."""
    other_kind: int = 0
    """Of these, called a donor where there is an acceptor, or the other way round."""
    false_positives: int = 0
    """Borders called donor or acceptor that are no annotated site, of either kind."""
    non_canonical: int = 0
    """Annotated sites that do not read GT or AG."""
    non_canonical_found: int = 0

    @property
    def missed(self) -> int:
        """Canonical sites that were not called what they are."""
        return self.sites - self.found

    @property
    def precision(self) -> float | None:
        """The share of calls that are right; None where nothing was called."""
        called = self.found + self.other_kind + self.false_positives
        return self.found / called if called else None

    @property
    def recall(self) -> float | None:
        """The share of canonical sites that were found; None where there are none."""
        return self.found / self.sites if self.sites else None


def score(
    model: Model,
    asked: Iterable[tuple[Asked, np.ndarray]],
    *,
    known: Collection[Border] = (),
    most: int,
    progress: Callable[[Border], None] = lambda _: None,
) -> tuple[Counts, list[FalsePositive]]:
    """Asks a model about borders, as they come.

    Args:
      model: of donors, acceptors and what is neither.
      asked: as `borders.of` yields them.
      known: borders whose false positives are counted, but not given back: those of the examples that there are.
      most: how many are given back at most, which bounds what is in memory.
      progress: hears of each border.

    Returns:
      The counts, and the false positives of the highest probability, those first; of equal ones the first that came.
    """
    classes = model.config.classes
    counts = Counts()
    kept: list[tuple[float, int, FalsePositive]] = []  # a heap, the least probable at its root
    found = predictions.predict(model.config, model.params, asked, batch_size=model.batch_size)
    for number, (each, probabilities) in enumerate(found):
        called, probability = classes[int(probabilities.argmax())], float(probabilities.max())
        progress(each.border)
        if not each.canonical:
            counts.non_canonical += 1
            counts.non_canonical_found += called in each.labels
            continue
        counts.borders += 1
        if each.labels:
            counts.sites += 1
            counts.found += called in each.labels
            counts.other_kind += called not in (NEITHER, *each.labels)
        elif called != NEITHER:
            counts.false_positives += 1
            if each.border not in known:
                entry = probability, -number, FalsePositive(each.border, called, probability)
                (heapq.heappush if len(kept) < most else heapq.heappushpop)(kept, entry)
    return counts, [entry[-1] for entry in sorted(kept, reverse=True)]
