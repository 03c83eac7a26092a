"""The records of a file as commands take them: held to a length, and their errors told from those of writing."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dnabert_jax.data import sequences
from dnabert_jax.data.sequences import Sequence
from dnabert_jax.errors import InputError


def read(path: str | Path, **options: Any) -> Iterator[Sequence]:
    """As `sequences.read`, with InputError where reading fails half-way, so that any OSError is one of writing."""
    try:
        yield from sequences.read(path, **options)
    except OSError as error:
        raise InputError(f"{path}: cannot be read to its end ({error.strerror or error})") from None


def no_longer(records: Iterable[Sequence], longest: int, source: str | Path, otherwise: str) -> Iterator[Sequence]:
    """The records, none of more than `longest` bases.

    Raises:
      InputError: a longer one; the message says what it may be `otherwise`.
    """
    for record in records:
        if len(record.bases) > longest:
            raise InputError(
                f"{source}: record {record.id!r} has {len(record.bases)} bases; expected at most {longest}, {otherwise}"
            )
        yield record
