"""Promoters as a plain list of sequences, which says nothing about where on a genome they are.

EPDnew and DeePromoter hand them out so: one sequence a line, 300 bases each, -249..+50. FASTA and tables with a column
`sequence` hold the same.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.data import sequences, tables, text
from dnabert_jax.errors import InputError


class Named(NamedTuple):
    """A sequence and what it is called."""

    id: str
    bases: np.ndarray
    """uint8[n] of base codes."""


def read(path: str | Path, length: int, site: int) -> list[Named]:
    """The sequences of a file in its order.

    Args:
      path: one sequence a line, FASTA, or a table with a column `sequence` and perhaps `id`; may be compressed.
      length: bases that each has to have.
      site: place of the transcription start site among them, from 1, for messages.

    Returns:
      The sequences, with the file's ids or `line N`.

    Raises:
      InputError: as the readers of these formats; naming the line or record, a sequence of another length.
    """
    found = _lines(path) if _is_list(path) else [Named(each.id, each.bases) for each in sequences.read(path, k=1)]
    for each in found:
        if len(each.bases) != length:
            raise InputError(
                f"{path}: {each.id}: {len(each.bases)} bases; expected {length}, number {site} of them the "
                "transcription start site"
            )
    return found


def _is_list(path: str | Path) -> bool:
    text.require_rereadable(path)
    first = next((row for _, row in text.lines(path) if row.strip()), "")
    if not first:
        raise InputError(f"{path}: an empty file; expected a sequence a line, FASTA, or a table of sequences")
    return not first.lstrip().startswith(">") and not tables.is_table(path)


def _lines(path: str | Path) -> list[Named]:
    found = []
    for line, row in text.lines(path):
        if row.strip():
            try:
                found.append(Named(f"line {line}", kmers.encode(row.strip())))
            except InputError as error:
                raise InputError(f"{path}: line {line}: {error}") from None
    return found
