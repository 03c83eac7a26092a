"""Reading text files against Python's own readers, and every way in which a compressed file can be cut short."""

import gzip
import os
import re

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax.data import text
from dnabert_jax.errors import InputError

CONTENT = b"".join(b">r%d\n%s\n" % (i, b"ACGTTGCA" * 9) for i in range(2000))
DAMAGED = "the compressed data end early or are damaged; copy or download the file again"


def write_plain(path, content):
    path.write_bytes(content)


def write_gzip(path, content):
    path.write_bytes(gzip.compress(content, mtime=0))


def write_two_gzips(path, content):
    path.write_bytes(gzip.compress(content[:999], mtime=0) + gzip.compress(content[999:], mtime=0))


def write_bgzip(path, content):
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(content)


def read(path):
    with text.opened(path) as file:
        return file.read()


def block_starts(data):
    """Where the blocks of a bgzip file begin, by the sizes that their headers state (SAM specification, 4.1)."""
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += int.from_bytes(data[at + 16 : at + 18], "little") + 1
    return starts


@pytest.mark.parametrize("write", [write_plain, write_gzip, write_two_gzips, write_bgzip])
@pytest.mark.parametrize("content", [CONTENT, b"", b"A"], ids=["long", "empty", "one"])
def test_every_kind_of_file_reads_the_same(tmp_path, write, content):
    path = tmp_path / "file"
    write(path, content)
    assert read(path) == content


def test_block_gzip_is_told_from_gzip(tmp_path):
    found = []
    for write in (write_plain, write_gzip, write_bgzip):
        write(tmp_path / "file", CONTENT)
        found.append(text.is_block_gzip(tmp_path / "file"))
    assert found == [False, False, True]


def test_reading_in_small_pieces(tmp_path):
    write_bgzip(tmp_path / "file", CONTENT)
    with text.opened(tmp_path / "file") as file:
        pieces = list(iter(lambda: file.read(1000), b""))
    assert b"".join(pieces) == CONTENT


@pytest.mark.parametrize("write", [write_gzip, write_bgzip])
def test_a_file_cut_anywhere_gives_one_message(tmp_path, write):
    path = tmp_path / "file.gz"
    write(path, CONTENT[:300])
    whole = path.read_bytes()
    for length in range(2, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {DAMAGED}"


def test_a_bgzip_file_cut_between_or_inside_blocks_gives_one_message(tmp_path):
    path = tmp_path / "file.gz"
    write_bgzip(path, CONTENT)
    whole = path.read_bytes()
    starts = block_starts(whole)
    assert len(starts) > 3
    for start in starts[1:]:
        for length in (start - 1, start, start + 1, start + 17, start + 18):
            if length < len(whole):
                path.write_bytes(whole[:length])
                with pytest.raises(InputError) as caught:
                    read(path)
                assert str(caught.value) == f"{path}: {DAMAGED}"


@pytest.mark.parametrize("write", [write_gzip, write_bgzip])
@pytest.mark.parametrize("where", ["data", "checksum", "behind"])
def test_a_damaged_file_gives_the_same_message(tmp_path, write, where):
    path = tmp_path / "file.gz"
    write(path, CONTENT[:300])
    data = bytearray(path.read_bytes())
    end = block_starts(data)[1] if write is write_bgzip else len(data)
    if where == "behind":
        data += b"this is not gzip"
    else:
        data[end - 20 if where == "data" else end - 6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {DAMAGED}"


def test_lines_of_a_cut_file_give_the_message(tmp_path):
    path = tmp_path / "file.gz"
    write_bgzip(path, CONTENT)
    path.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="end early"):
        list(text.lines(path))


@pytest.mark.parametrize("call", [lambda path: list(text.lines(path)), text.is_block_gzip, read])
def test_a_missing_file_and_a_folder(tmp_path, call):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=re.escape(f"{path}: cannot be read")):
            call(path)


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(CONTENT)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(InputError, match="cannot be read"):
        read(path)


def test_a_pipe(tmp_path):
    path = tmp_path / "whole.gz"
    write_bgzip(path, CONTENT[:2000])
    reading, writing = os.pipe()
    os.write(writing, path.read_bytes())
    os.close(writing)
    assert read(f"/dev/fd/{reading}") == CONTENT[:2000]
    os.close(reading)


def test_a_pipe_is_read_only_once(tmp_path):
    reading, writing = os.pipe()
    with pytest.raises(InputError, match="a pipe; expected a file"):
        text.require_rereadable(f"/dev/fd/{reading}")
    os.close(reading)
    os.close(writing)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "missing", tmp_path):
        text.require_rereadable(path)


@settings(max_examples=60, deadline=None)
@given(st.text("ab \t\r\n\x0b\x0c\x85\u2028é", max_size=30), st.booleans())
def test_lines_are_those_of_a_regular_expression(tmp_path_factory, content, mark):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + content.encode())
    expected = re.split(r"\r\n|\n|\r", content)
    if content.endswith(("\n", "\r")) or not content:
        expected.pop()
    found = list(text.lines(path))
    assert [line for _, line in found] == expected or (mark and not content and found == [(1, "")])
    assert [number for number, _ in found] == list(range(1, len(found) + 1))


def test_no_text(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"fine\nalso \xc3\xa9\nbad \xff\xfe\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: line 3: no UTF-8 text")):
        list(text.lines(path))


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_rows(tmp_path, delimiter):
    path = tmp_path / "table"
    content = '\nname|sequence\r\n"a"| ACGT \r\n   \r\n"b ""c""|d"|\r\n\r\n'.replace("|", delimiter)
    path.write_bytes(content.encode())
    assert list(text.rows(path)) == [(2, ["name", "sequence"]), (3, ["a", "ACGT"]), (5, [f'b "c"{delimiter}d', ""])]


def test_a_tab_in_the_first_line_makes_commas_plain(tmp_path):
    path = tmp_path / "table"
    path.write_text("a\tb\n1,2\t3\n")
    assert list(text.rows(path)) == [(1, ["a", "b"]), (2, ["1,2", "3"])]


def test_a_quote_that_is_not_closed(tmp_path):
    path = tmp_path / "table"
    path.write_text('a,b\n"1,2\n3,4\n')
    with pytest.raises(InputError, match=re.escape(f"{path}: line 2: quotes that do not match")):
        list(text.rows(path))
