"""Text files as users have them: plain, gzip or bgzip, with any line end.

Every reader of FASTA, BED, GTF and tables opens its file here, so compression is told from the first bytes in one
place, and a file that was cut short is reported in the same words whichever way it shows.
"""

import csv
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dnabert_jax.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"

# SAM specification, section 4.1: a BGZF block is a gzip member whose extra field begins with the subfield "BC", and a
# complete file ends in one empty block.
_BGZF_HEADER_LENGTH = 18
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a plain, gzip or bgzip file, told apart by content, for reading as decompressed bytes.

    Args:
      path: a file, or a pipe.

    Yields:
      A buffered binary file.

    Raises:
      InputError: the file is missing, a folder or unreadable; or, on opening or while reading, compressed data that
        end early or are damaged. A bgzip file without its empty last block was cut between two blocks and counts.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a file") from None
    with file:
        head = file.peek(_BGZF_HEADER_LENGTH)[:_BGZF_HEADER_LENGTH]
        if not head.startswith(_GZIP_MAGIC):
            yield file
            return
        if _is_block_gzip_header(head) and not _ends_in_empty_block(file):
            raise _damaged(path)
        with gzip.GzipFile(fileobj=file) as compressed, io.BufferedReader(_Checked(compressed, path), 1 << 20) as out:
            yield out


def require_rereadable(path: str | Path) -> None:
    """For readers that look at the beginning of a file before they read it all.

    Raises:
      InputError: the path is a pipe, which gives its content only once.
    """
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise InputError(f"{path}: a pipe; expected a file, because its beginning is read twice")


def is_block_gzip(path: str | Path) -> bool:
    """Whether the file begins as bgzip, the blocked gzip that a FASTA index can point into.

    Raises:
      InputError: the file is missing, a folder or unreadable.
    """
    try:
        with open(path, "rb") as file:
            return _is_block_gzip_header(file.read(_BGZF_HEADER_LENGTH))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); expected a file") from None


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Lines of a UTF-8 text file with their 1-based numbers.

    Line ends may be \n, \r\n or \r and are taken off, and so is a byte order mark. One line is in memory at a time
    (in a file with only \r line ends, the whole file).

    Raises:
      InputError: as `opened`, or a line that is no UTF-8 text.
    """
    number = 0
    with opened(path) as file:
        for raw in file:
            for piece in _without_end(raw).split(b"\r"):
                number += 1
                try:
                    text = piece.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise InputError(f"{path}: line {number}: no UTF-8 text; expected a text file") from None
                yield number, text


def rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a tab- or comma-separated table, the header (if any) among them.

    The delimiter is the tab where the first line that is not blank has one, else the comma. Fields may be quoted as
    spreadsheets do, but not run over several lines; blanks around a field are taken off. Blank lines are skipped.

    Yields:
      1-based line number and the fields.

    Raises:
      InputError: as `lines`, or a quote that is not closed.
    """
    delimiter = ""
    for number, text in lines(path):
        if not text.strip():
            continue
        delimiter = delimiter or ("\t" if "\t" in text else ",")
        if '"' in text:
            try:
                fields = next(csv.reader([text], delimiter=delimiter, strict=True))
            except csv.Error as error:
                raise InputError(f"{path}: line {number}: quotes that do not match ({error})") from None
        else:
            fields = text.split(delimiter)
        yield number, [field.strip() for field in fields]


def _damaged(path: str | Path) -> InputError:
    return InputError(f"{path}: the compressed data end early or are damaged; copy or download the file again")


def _is_block_gzip_header(head: bytes) -> bool:
    has_extra_field = head[:4] == b"\x1f\x8b\x08\x04"
    return has_extra_field and len(head) == _BGZF_HEADER_LENGTH and head[12:16] == b"BC\x02\x00"


def _ends_in_empty_block(file: BinaryIO) -> bool:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return True  # the end of a pipe cannot be looked at beforehand
    descriptor = file.fileno()
    return os.pread(descriptor, len(_BGZF_END), max(status.st_size - len(_BGZF_END), 0)) == _BGZF_END


def _without_end(raw: bytes) -> bytes:
    if raw.endswith(b"\r\n"):
        return raw[:-2]
    return raw[:-1] if raw.endswith((b"\n", b"\r")) else raw


class _Checked(io.RawIOBase):
    """Decompressed bytes, with every way in which the decompressor notices damage turned into one error."""

    def __init__(self, compressed: gzip.GzipFile, path: str | Path) -> None:
        self._compressed = compressed
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            return self._compressed.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise _damaged(self._path) from None
