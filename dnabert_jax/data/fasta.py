"""FASTA as bases: streamed record by record, or looked up by interval through an index.

Both readers give the uint8 codes of `dnabert_jax.kmers`: lower case is read as upper case, U as T, and every IUPAC
ambiguity letter as N. A name is the first word after `>`; bytes of it that are no UTF-8 are written as `\\xNN`, so two
names never become one.
"""

import contextlib
import filecmp
import os
import shutil
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

from dnabert_jax import kmers, outputs
from dnabert_jax.data import text
from dnabert_jax.errors import InputError

_BLOCK = 1 << 20
_BLANKS = b" \t\v\f\r\n"
_NOT_A_BASE = 255
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Record:
    """One record of a FASTA file."""

    name: str
    bases: np.ndarray
    """uint8[n] of base codes."""


def records(path: str | Path) -> Iterator[Record]:
    r"""Streams the records of a FASTA file in file order, one in memory at a time.

    The file may be plain, gzip or bgzip; lines may have any length and end in \n, \r\n or \r. Blank lines and blanks
    between bases are skipped. A record may be empty: the caller decides whether that is an error.

    Raises:
      InputError: as `text.opened`; no FASTA, an empty file, a record without a name, a name that occurs twice, or a
        letter that is no nucleotide (the message says record and line).
    """
    lines_of: dict[str, int] = {}
    name, bases, line = "", bytearray(), 1
    header: bytearray | None = None  # of the header line that is being read
    at_line_start = True
    for block in _blocks(path):
        at = 0
        while at < len(block):
            if header is not None:
                end = block.find(b"\n", at)
                header += block[at : len(block) if end < 0 else end]
                if end < 0:
                    break
                if name:
                    yield Record(name, np.frombuffer(bases, np.uint8))
                name, bases = _name(path, line, bytes(header)), bytearray()
                if name in lines_of:
                    raise InputError(
                        f"{path}: line {line}: a second record {name!r}, after the one in line {lines_of[name]}; "
                        "expected a name of its own for each record"
                    )
                lines_of[name], header, at_line_start = line, None, True
                line, at = line + 1, end + 1
            elif at_line_start and block[at] == ord(">"):
                header, at = bytearray(), at + 1
            else:
                end = block.find(b"\n>", at) + 1 or len(block)
                letters = block[at:end]
                if not name and letters.strip():
                    raise _not_fasta(path, letters)
                codes = letters.translate(_CODES, _BLANKS)
                if _STRAY in codes:
                    raise _stray_letter(path, name, line, letters)
                bases += codes
                line, at = line + letters.count(b"\n"), end
                at_line_start = letters.endswith(b"\n")
    if not name:
        raise InputError(f"{path}: an empty file; expected FASTA, which begins with >")
    yield Record(name, np.frombuffer(bases, np.uint8))


class IndexedFasta:
    """A FASTA file, plain or bgzip, of which any interval can be read without reading the rest.

    The index beside the file (`.fai`, and `.gzi` for bgzip; samtools' formats) is used if it is there and not older
    than the file, and otherwise made and written, if it turns out to be another one. One thread at a time may read.

    Args:
      path: the FASTA file.

    Raises:
      InputError: as `records` when the index has to be made; also gzip that is not bgzip, lines of different length
        within a record, or an index that cannot be written.
    """

    names: tuple[str, ...]
    """Of the records, in file order."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        _check_can_be_indexed(self._path)
        made = not _has_fresh_index(self._path)
        if made:
            _make_index(self._path)
        file = _opened_with_index(self._path)
        if not made and (file is None or not file.references):
            _make_index(self._path)
            file = _opened_with_index(self._path)
        if file is None:
            raise InputError(f"{self._path}: cannot be read through its index; delete {self._path}.fai and try again")
        self._file = file
        self.names = tuple(file.references)
        self._lengths = dict(zip(self.names, file.lengths, strict=True))

    def __enter__(self) -> "IndexedFasta":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; nothing can be fetched afterwards."""
        self._file.close()

    def length(self, name: str) -> int:
        """Bases of a record.

        Raises:
          InputError: there is no such record.
        """
        if name not in self._lengths:
            raise InputError(f"{self._path}: has no record {name!r}")
        return self._lengths[name]

    def fetch(self, name: str, start: int, end: int) -> np.ndarray:
        """Bases of the 0-based half-open interval `start..end` of a record: uint8[end - start].

        Raises:
          InputError: there is no such record or interval, a letter that is no nucleotide, or an index that does not
            belong to the file.
        """
        length = self.length(name)
        if not 0 <= start <= end <= length:
            raise InputError(f"{self._path}: record {name!r} has {length} bases; {start}..{end} is not inside it")
        with _quiet():
            try:
                letters = self._file.fetch(name, start, end)
            except (OSError, ValueError):
                letters = ""
        if len(letters) != end - start:
            raise InputError(
                f"{self._path}: record {name!r} is shorter than its index says; delete {self._path}.fai and try again"
            )
        try:
            return kmers.encode(letters)
        except InputError as error:
            raise InputError(f"{self._path}: record {name!r}, behind base {start}: {error}") from None


def _codes_of_bytes() -> bytes:
    codes = bytearray([_NOT_A_BASE]) * 256
    for letter in string.ascii_letters:
        try:
            codes[ord(letter)] = kmers.encode(letter)[0]
        except InputError:
            continue
    return bytes(codes)


_CODES = _codes_of_bytes()
_STRAY = bytes([_NOT_A_BASE])


def _blocks(path: str | Path) -> Iterator[bytes]:
    r"""The file in large pieces with \n as the only line end, one at the end of the file, and no byte order mark."""
    held, first, last = b"", True, b"\n"
    with text.opened(path) as file:
        while block := file.read(_BLOCK):
            if first:
                block = block.removeprefix(_BYTE_ORDER_MARK)
                first = False
            if held or b"\r" in block:
                block = held + block
                held = b"\r" if block.endswith(b"\r") else b""  # its \n may be the next byte
                block = block[: len(block) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if block:
                last = block[-1:]
                yield block
    if held or last != b"\n":
        yield b"\n"


def _name(path: str | Path, line: int, header: bytes) -> str:
    words = header.split(maxsplit=1)
    if not words:
        raise InputError(f"{path}: line {line}: a record without a name; expected a name after >")
    return words[0].decode("utf-8", "backslashreplace")


def _not_fasta(path: str | Path, letters: bytes) -> InputError:
    start = letters.lstrip()[:20].splitlines()[0].decode("utf-8", "backslashreplace")
    return InputError(f"{path}: begins with {start!r}; expected FASTA, whose first line begins with >")


def _stray_letter(path: str | Path, name: str, line: int, letters: bytes) -> InputError:
    at = next(at for at, byte in enumerate(letters) if _CODES[byte] == _NOT_A_BASE and byte not in _BLANKS)
    line += letters.count(b"\n", 0, at)
    letter = letters[at : at + 4].decode("utf-8", "replace")[0]
    return InputError(
        f"{path}: line {line}: record {name!r} has {letter!r}, which is no nucleotide; expected A, C, G, T, N "
        "or another IUPAC letter (a protein?)"
    )


def _index_paths(path: Path) -> list[Path]:
    return [Path(f"{path}.fai"), *([Path(f"{path}.gzi")] if text.is_block_gzip(path) else [])]


def _has_fresh_index(path: Path) -> bool:
    made = path.stat().st_mtime_ns
    return all(index.is_file() and index.stat().st_mtime_ns >= made for index in _index_paths(path))


def _check_can_be_indexed(path: Path) -> None:
    with text.opened(path) as file:
        start = file.read(len(_BYTE_ORDER_MARK))
    if not start:
        raise InputError(f"{path}: an empty file; expected FASTA, which begins with >")
    if not text.is_block_gzip(path) and _is_gzip(path):
        raise InputError(
            f"{path}: gzip, of which no part can be read alone; expected plain text or bgzip: recompress it with "
            f"`gunzip {path.name} && bgzip {path.name.removesuffix('.gz')}`"
        )


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _make_index(path: Path) -> None:
    """Writes the index beside the file after a look at every record, or finds that the one there is as it should be."""
    for record in records(path):
        del record
    finals = _index_paths(path)
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = [Path(folder, final.name) for final in finals]
            options = ["--fai-idx", str(made[0])] + (["--gzi-idx", str(made[1])] if len(made) > 1 else [])
            try:
                with _quiet():
                    pysam.faidx(*options, str(path))
            except pysam.SamtoolsError:
                raise InputError(
                    f"{path}: no index can be made; expected lines of equal length within a record, that end in a "
                    "line feed, and no byte order mark"
                ) from None
            for new, final in zip(made, finals, strict=True):
                if final.is_file() and filecmp.cmp(new, final, shallow=False):
                    with contextlib.suppress(OSError):  # it only looks older, as after a checkout or a copy
                        os.utime(final)
                    continue
                with outputs.file(final) as temporary:
                    shutil.copyfile(new, temporary)
    except OSError as error:
        raise InputError(
            f"{path}: its index {finals[0]} is missing or out of date and cannot be written "
            f"({error.strerror or error}); make it with `samtools faidx`, or copy the FASTA to a folder that can be "
            "written to"
        ) from None


def _opened_with_index(path: Path) -> pysam.FastaFile | None:
    with _quiet():
        try:
            file = pysam.FastaFile(str(path))
            _ = file.references
        except UnicodeDecodeError:
            raise InputError(f"{path}: a record name is no UTF-8 text; expected names that can be indexed") from None
        except (OSError, ValueError):
            return None
    return file


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps htslib from writing its own messages to stderr."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
