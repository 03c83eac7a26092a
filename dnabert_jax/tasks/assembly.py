"""Whether an annotation is of the assembly that a FASTA holds.

Coordinates of another assembly mostly lie inside the records too, so nothing but the bases can tell. Nearly all introns
begin with GT and end with AG; where fewer than half of them do, annotation and genome do not belong together.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dnabert_jax import kmers
from dnabert_jax.data import annotation, regions
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError

_ENOUGH = 300
"""Introns that are looked at; of more, as many are taken at equal distances."""


def require_match(
    exons: pd.DataFrame,
    genome: IndexedFasta,
    source: str | Path,
    fasta: str | Path,
    *,
    allow_mismatch: bool = False,
    say: Callable[[str], None] = regions.note,
) -> None:
    """Looks at the ends of introns. An annotation without introns says nothing and goes through.

    Args:
      exons: as `annotation.exons` gives them, under the genome's names of records and inside them.
      genome: the genome.
      source: the annotation, for messages.
      fasta: the genome, for messages.
      allow_mismatch: say it only.
      say: is told then.

    Raises:
      InputError: fewer than half of the introns read GT..AG.
    """
    introns = annotation.introns(exons).drop_duplicates(["record", "start", "end", "strand"])
    introns = introns[introns.end - introns.start >= 4].sort_values(["record", "start"], kind="stable")
    if len(introns) > _ENOUGH:
        introns = introns.iloc[np.linspace(0, len(introns) - 1, _ENOUGH).astype(int)]
    right = 0
    for row in introns.itertuples():
        ends = genome.fetch(row.record, row.start, row.start + 2), genome.fetch(row.record, row.end - 2, row.end)
        bases = np.concatenate(ends)
        read = bases if row.strand == "+" else kmers.reverse_complement(bases)
        right += kmers.decode(read) == "GTAG"
    require_most(right, len(introns), source, fasta, allow_mismatch=allow_mismatch, say=say)


def require_most(
    right: int,
    introns: int,
    source: str | Path,
    fasta: str | Path,
    *,
    allow_mismatch: bool,
    say: Callable[[str], None],
) -> None:
    """Raises InputError, or with `allow_mismatch` says, that fewer than half of the introns looked at read GT..AG."""
    if 2 * right >= introns:
        return
    found = f"{source}: {right} of {introns} introns read GT..AG on {fasta}"
    if not allow_mismatch:
        raise InputError(
            f"{found}; expected nearly all, as where the two are of one assembly (--allow-mismatch goes on)"
        )
    say(f"{found}, which do not seem to be of one assembly; going on, as --allow-mismatch says")
