"""Tables of sequences: TSV or CSV with a header that names a column `sequence`.

Labelled data and the input of predictions are both such tables; columns may come in any order and in either case of
letters, and columns that nobody asked for are left alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dnabert_jax.data import text
from dnabert_jax.errors import InputError


def is_table(path: str | Path) -> bool:
    """Whether the first line that is not blank is a header with a column `sequence`.

    Raises:
      InputError: as `text.rows`.
    """
    header = next(text.rows(path), (0, []))[1]
    return "sequence" in _names(header)


def read(path: str | Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table by column name.

    Args:
      path: plain or compressed TSV or CSV.
      required: columns that there must be, in lower case.

    Yields:
      1-based line number, and the fields by column name in lower case.

    Raises:
      InputError: as `text.rows`, a missing or repeated column, a row with more or fewer fields than the header, or no
        row at all.
    """
    rows = text.rows(path)
    line, header = next(rows, (0, []))
    if not line:
        raise InputError(f"{path}: an empty file; expected a header with {_listed(required)}, then rows")
    names = _names(header)
    for name in required:
        if names.count(name) != 1:
            how = f"{names.count(name)} columns" if name in names else "no column"
            found = ", ".join(field[:30] for field in header[:8])
            raise InputError(
                f"{path}: line {line}: {how} {name!r}; expected a header with {_listed(required)}, not {found}"
            )
    empty = True
    for line, fields in rows:
        if len(fields) != len(names):
            raise InputError(f"{path}: line {line}: {len(fields)} fields; expected {len(names)} as in the header")
        empty = False
        yield line, dict(zip(names, fields))
    if empty:
        raise InputError(f"{path}: nothing below the header; expected one sequence a row")


def _names(header: list[str]) -> list[str]:
    return [name.lower() for name in header]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))
