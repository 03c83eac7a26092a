"""FASTA of every kind against a slow reader of lines, and one clear line for each way in which it can be wrong."""

import gzip
import os
import time

import numpy as np
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.data import fasta
from dnabert_jax.errors import InputError

CONTENT = b">one first record\nACGT\nacgtn\n\n>two\nRYKMNNUu\nA\n"
EVEN = b">one\nACGTA\nCGTA\n>two\nACGTAC\n"
"""An index needs lines of equal length in a record."""
BASES = {"one": "ACGTACGTN", "two": "NNNNNNTTA"}

LETTERS = "ACGTacgtuNnRYSWKMBDHVX"


def write(path, content):
    path.write_bytes(content)
    return path


def block_gzip(path, content):
    with pysam.BGZFile(str(path), "w") as file:
        file.write(content)
    return path


def read(path):
    return {record.name: kmers.decode(record.bases) for record in fasta.records(path)}


def slow(content):
    """Name to letters, line by line."""
    found, name = {}, None
    for line in content.decode().splitlines():
        if line.startswith(">"):
            name = line[1:].split()[0]
            found[name] = ""
        elif name:
            found[name] += kmers.decode(kmers.encode(line.replace(" ", "").replace("\t", "")))
    return found


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: c, id="plain"),
        pytest.param(lambda c: c.replace(b"\n", b"\r\n"), id="windows"),
        pytest.param(lambda c: c.replace(b"\n", b"\r"), id="old-mac"),
        pytest.param(lambda c: c[:-1], id="no-last-line-end"),
        pytest.param(lambda c: c.replace(b"\n", b"\r")[:-1], id="old-mac-no-last-line-end"),
        pytest.param(lambda c: b"\xef\xbb\xbf" + c, id="byte-order-mark"),
        pytest.param(lambda c: b"\n \n" + c, id="blank-lines-first"),
        pytest.param(lambda c: c + b"\n\n", id="blank-lines-last"),
        pytest.param(lambda c: c.replace(b"ACGT", b" AC\tG T "), id="blanks-between-bases"),
        pytest.param(lambda c: c.replace(b">two", b"> two"), id="blank-before-name"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(lambda c: gzip.compress(c[:9]) + gzip.compress(c[9:]), id="gzip-of-two-members"),
    ],
)
def test_the_same_records_from_every_form(tmp_path, change):
    assert read(write(tmp_path / "input", change(CONTENT))) == BASES


def test_bgzip_reads_as_plain_text(tmp_path):
    assert read(block_gzip(tmp_path / "a.fa.gz", CONTENT)) == BASES


def test_bases_are_codes(tmp_path):
    (record,) = fasta.records(write(tmp_path / "a.fa", b">a\nATCGN\n"))
    assert record.bases.dtype == np.uint8
    assert record.bases.tolist() == [0, 1, 2, 3, 4]


def test_a_record_may_be_empty_even_the_last(tmp_path):
    assert read(write(tmp_path / "a.fa", b">a\n>b\nAC\n>c")) == {"a": "", "b": "AC", "c": ""}


def test_names_that_are_no_utf8_stay_apart(tmp_path):
    found = read(write(tmp_path / "a.fa", b">a\xff\nA\n>a\xfe\nC\n>\xc3\xa9\nG\n"))
    assert list(found.values()) == ["A", "C", "G"]
    assert list(found)[2] == "é"
    for name in found:
        name.encode("utf-8")


def test_one_long_line_and_many_short_ones_give_the_same(tmp_path):
    letters = kmers.decode(np.random.default_rng(0).integers(0, 5, 300_000, dtype=np.uint8)).encode()
    one = write(tmp_path / "one.fa", b">a\n" + letters + b"\n>b\n" + letters[:5])
    rows = b"\n".join(letters[at : at + 7] for at in range(0, len(letters), 7))
    many = write(tmp_path / "many.fa", b">a\n" + rows + b"\n>b\n" + letters[:5])
    assert read(one) == read(many) == {"a": letters.decode(), "b": letters[:5].decode()}


@given(
    sequences=st.lists(st.text(LETTERS + " ", max_size=40), min_size=1, max_size=6),
    width=st.integers(1, 12),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    block=st.integers(1, 50),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_into_blocks_reads_alike(tmp_path, monkeypatch, sequences, width, end, block):
    rows = []
    for index, sequence in enumerate(sequences):
        rows += [f">r{index} text", *(sequence[at : at + width] for at in range(0, len(sequence), width))]
    path = write(tmp_path / "a.fa", end.join(rows).encode())
    monkeypatch.setattr(fasta, "_BLOCK", block)
    assert read(path) == slow("\n".join(rows).encode())


def test_real_peaks_against_pysam(shared_data):
    path = shared_data / "tfbs" / "oct4_peaks_200bp.fa"
    with pysam.FastxFile(str(path)) as file:
        expected = [(each.name, kmers.decode(kmers.encode(each.sequence))) for each in file]
    found = [(record.name, kmers.decode(record.bases)) for record in fasta.records(path)]
    assert len(found) == 3897
    assert found == expected


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        pytest.param(b"", ["empty file", "expected FASTA"], id="empty"),
        pytest.param(b"\n\n", ["empty file", "expected FASTA"], id="blank"),
        pytest.param(b"\xef\xbb\xbf", ["empty file", "expected FASTA"], id="only-a-mark"),
        pytest.param(b"chr1\t1\t2\n", ["begins with 'chr1", "expected FASTA"], id="bed"),
        pytest.param(b"@read\nACGT\n+\nIIII\n", ["begins with '@read'", "expected FASTA"], id="fastq"),
        pytest.param(b"\x00\x01\xff>a\nAC\n", ["begins with", "expected FASTA"], id="binary"),
        pytest.param(b"ACGT\n>a\nAC\n", ["begins with 'ACGT'"], id="bases-before-a-header"),
        pytest.param(b">a\nACGT\n>prot x\nACGT\nMKVLE\n", ["line 5", "'prot'", "'L'", "protein"], id="protein"),
        pytest.param(b">a\r\nAC\r\nAC*\r\n", ["line 3", "'a'", "'*'"], id="stop-codon-windows"),
        pytest.param(b">a\nAC-GT\n", ["line 2", "'-'"], id="alignment-gap"),
        pytest.param(b">a\nAC>GT\n", ["line 2", "'>'"], id="header-inside-a-line"),
        pytest.param("> a\nACé\n".encode(), ["line 2", "'é'"], id="accent"),
        pytest.param(b">a\nAC\n>\nGT\n", ["line 3", "without a name"], id="no-name"),
        pytest.param(b">a\nAC\n>  \nGT\n", ["line 3", "without a name"], id="blank-name"),
        pytest.param(b">a x\nAC\n>b\nA\n>a y\nGT\n", ["line 5", "'a'", "line 1"], id="twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, parts):
    path = write(tmp_path / "input.fa", content)
    with pytest.raises(InputError) as caught:
        list(fasta.records(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
def test_the_line_of_a_stray_letter_does_not_depend_on_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(fasta, "_BLOCK", block)
    path = write(tmp_path / "a.fa", b">a\r\nACGT\r\n\r\nACGT\r\nACQT\r\n")
    with pytest.raises(InputError, match="line 5: record 'a' has 'Q'"):
        list(fasta.records(path))


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.fa", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            list(fasta.records(path))


def _long_content():
    letters = kmers.decode(np.random.default_rng(1).integers(0, 4, 200_000, dtype=np.uint8)).encode()
    return b">a\n" + b"\n".join(letters[at : at + 60] for at in range(0, len(letters), 60)) + b"\n"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["gzip", "bgzip"])
def test_truncated_compression_is_noticed(tmp_path, kind, share):
    whole = tmp_path / "whole.fa.gz"
    if kind == "gzip":
        write(whole, gzip.compress(_long_content()))
    else:
        block_gzip(whole, _long_content())
    content = whole.read_bytes()
    path = write(tmp_path / "cut.fa.gz", content[: int(len(content) * share)])
    for open_it in (lambda: list(fasta.records(path)), lambda: fasta.IndexedFasta(path)):
        with pytest.raises(InputError) as caught:
            open_it()
        assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="end early or are damaged"):
        list(fasta.records(path))
    assert not list(tmp_path.glob("cut.fa.gz.*"))


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "bgzip"])
def test_any_interval_through_the_index(tmp_path, compressed):
    content = _long_content() + b">b x\r\nacgtRN\r\n"
    path = block_gzip(tmp_path / "a.fa.gz", content) if compressed else write(tmp_path / "a.fa", content)
    whole = {record.name: record.bases for record in fasta.records(path)}
    rng = np.random.default_rng(2)
    with fasta.IndexedFasta(path) as genome:
        assert genome.names == ("a", "b")
        assert [genome.length(name) for name in genome.names] == [200_000, 6]
        for _ in range(50):
            start, end = sorted(rng.integers(0, 200_001, 2).tolist())
            found = genome.fetch("a", start, end)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, whole["a"][start:end])
        assert kmers.decode(genome.fetch("b", 0, 6)) == "ACGTNN"
        assert genome.fetch("b", 6, 6).size == 0
    assert (tmp_path / (path.name + ".fai")).is_file()
    assert (tmp_path / (path.name + ".gzi")).is_file() == compressed
    assert not list(tmp_path.glob(".*"))


def test_intervals_and_names_that_are_not_there(tmp_path):
    path = write(tmp_path / "a.fa", EVEN)
    with fasta.IndexedFasta(path) as genome:
        for start, end in ((0, 10), (-1, 3), (5, 4)):
            with pytest.raises(InputError, match="record 'one' has 9 bases"):
                genome.fetch("one", start, end)
        for look_up in (lambda: genome.fetch("three", 0, 1), lambda: genome.length("three")):
            with pytest.raises(InputError, match="no record 'three'"):
                look_up()


def test_an_index_that_is_there_is_used(tmp_path):
    path = write(tmp_path / "a.fa", EVEN)
    fasta.IndexedFasta(path).close()
    index = tmp_path / "a.fa.fai"
    before = index.stat().st_mtime_ns
    fasta.IndexedFasta(path).close()
    assert index.stat().st_mtime_ns == before


@pytest.mark.parametrize("broken", [b"", b"nonsense\n", b"one\t9\n"], ids=["empty", "no-index", "cut"])
def test_a_broken_index_is_made_again(tmp_path, broken):
    path = write(tmp_path / "a.fa", EVEN)
    write(tmp_path / "a.fa.fai", broken)
    with fasta.IndexedFasta(path) as genome:
        assert genome.names == ("one", "two")


def test_an_index_older_than_the_file_is_made_again(tmp_path):
    path = write(tmp_path / "a.fa", EVEN)
    fasta.IndexedFasta(path).close()
    write(path, b">new\nACGTAC\n")
    past = time.time() - 1000
    os.utime(tmp_path / "a.fa.fai", (past, past))
    with fasta.IndexedFasta(path) as genome:
        assert genome.names == ("new",)
        assert kmers.decode(genome.fetch("new", 0, 6)) == "ACGTAC"


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "bgzip"])
def test_an_index_that_only_looks_older_serves_where_nothing_can_be_written(tmp_path, monkeypatch, compressed):
    path = block_gzip(tmp_path / "a.fa.gz", EVEN) if compressed else write(tmp_path / "a.fa", EVEN)
    fasta.IndexedFasta(path).close()
    kept = {each.name: each.read_bytes() for each in tmp_path.iterdir()}

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    past, utime = time.time() - 1000, os.utime
    for index in tmp_path.glob("*i"):
        os.utime(index, (past, past))
    with monkeypatch.context() as patch:  # root may write anywhere
        patch.setattr(os, "utime", refuse)
        patch.setattr(os, "replace", refuse)
        with fasta.IndexedFasta(path) as genome:
            assert genome.names == ("one", "two")
        write(tmp_path / f"{path.name}.fai", b"one\t1\t5\t1\t2\n")
        utime(tmp_path / f"{path.name}.fai", (past, past))
        with pytest.raises(InputError, match="out of date and cannot be written"):
            fasta.IndexedFasta(path)
    fasta.IndexedFasta(path).close()
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == kept
    assert fasta._has_fresh_index(path)


def test_an_index_of_another_file_is_noticed_when_bases_lack(tmp_path):
    path = write(tmp_path / "a.fa", b">a\nACGT\n")
    write(tmp_path / "a.fa.fai", b"a\t400\t3\t60\t61\n")
    with fasta.IndexedFasta(path) as genome, pytest.raises(InputError, match=r"delete .*fai and try again"):
        genome.fetch("a", 0, 400)


def test_an_index_that_cannot_be_written(tmp_path):
    path = write(tmp_path / "a.fa", EVEN)
    (tmp_path / "a.fa.fai").mkdir()  # as good as a read-only folder, and root is stopped by it too
    with pytest.raises(InputError) as caught:
        fasta.IndexedFasta(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: its index {path}.fai")
    assert "samtools faidx" in message
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.fa", "a.fa.fai"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder(tmp_path):
    path = write(tmp_path / "a.fa", EVEN)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            fasta.IndexedFasta(path)
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(b"", "empty file", id="empty"),
        pytest.param(b"hello\n", "expected FASTA", id="no-fasta"),
        pytest.param(b">a\nACGT\nAC\nACGT\n", "equal length", id="ragged-lines"),
        pytest.param(b">a\nAC\n>a\nGT\n", "a second record 'a'", id="twice"),
        pytest.param(b">a\nMKVL\n", "no nucleotide", id="protein"),
        pytest.param(b">a\xff\nACGT\n", "no UTF-8", id="name"),
        pytest.param(gzip.compress(b">a\nACGT\n"), "bgzip", id="gzip"),
    ],
)
def test_what_cannot_be_indexed(tmp_path, content, part):
    path = write(tmp_path / "a.fa.gz", content)
    with pytest.raises(InputError) as caught:
        fasta.IndexedFasta(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_nothing_is_written_to_stderr_by_the_library(tmp_path, capfd):
    path = write(tmp_path / "a.fa", b">a\nACGT\nAC\nACGT\n")
    with pytest.raises(InputError):
        fasta.IndexedFasta(path)
    write(tmp_path / "b.fa", EVEN)
    write(tmp_path / "b.fa.fai", b"nonsense\n")
    fasta.IndexedFasta(tmp_path / "b.fa").close()
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""
