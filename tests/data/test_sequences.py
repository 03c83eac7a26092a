"""Sequences to predict on: the same bases from every kind of file, in order, and one line for what is wrong."""

import gzip
import os
import re

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data import sequences
from dnabert_jax.errors import InputError

GENOME = {"20": "ACGTTGCAAGGCTTNACCGGATTACA", "X": "TTTTGGGGCCCCAAAA"}


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name} note\n{bases}\n" for name, bases in GENOME.items()))
    return path


def write(tmp_path, content, name="input"):
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


def pairs(found):
    return [(each.id, kmers.decode(each.bases)) for each in found]


def test_fasta(genome):
    assert pairs(sequences.read(genome, k=6)) == list(GENOME.items())


def test_fasta_is_known_by_content(tmp_path):
    path = tmp_path / "input.tsv"
    path.write_bytes(gzip.compress(b"\n>r1\nacgtr\n"))
    assert pairs(sequences.read(path, k=3)) == [("r1", "ACGTN")]


def test_table(tmp_path):
    path = write(tmp_path, "sequence,score,id\nACGT,1,a\nggnuu,2,\nACG CGT GTA,3,c\n")
    assert pairs(sequences.read(path, k=3)) == [("a", "ACGT"), ("line 3", "GGNTT"), ("c", "ACGTA")]


def test_bed(tmp_path, genome):
    path = write(tmp_path, "chr20\t0\t8\nX\t2\t10\tpeak\t0\t-\nchr20\t3\t9\t.\t0\t+\n")
    said = []
    found = pairs(sequences.read(path, k=3, fasta=genome, say=said.append))
    assert found == [("chr20:0-8", "ACGTTGCA"), ("peak", "GGCCCCAA"), ("chr20:3-9(+)", "TTGCAA")]
    assert said == [f"chr20 is taken to be record 20 of {genome}"]


def test_a_table_may_stand_beside_a_fasta(tmp_path, genome):
    path = write(tmp_path, "id\tsequence\nx\tACGT\n")
    assert pairs(sequences.read(path, k=3, fasta=genome)) == [("x", "ACGT")]


def test_records_stream(tmp_path):
    path = write(tmp_path, ">a\nACGTAC\n>b\nACGE\n")
    found = sequences.read(path, k=3)
    assert next(found).id == "a"
    with pytest.raises(InputError, match="'E'"):
        next(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": an empty file"),
        (" \n\n", ": an empty file"),
        ("ACGT\n", ": line 1: 'ACGT'; expected FASTA"),
        ("chr20\t0\t8\n", ": line 1: 'chr20"),
        (">a\nACGTAC\n>b\nACGTA\n", ": record 'b': 5 bases; expected at least 6"),
        (">a\n\n", ": record 'a': 0 bases; expected at least 6"),
        ("sequence\nACGTAC\nACGT\n", ": line 3: 4 bases; expected at least 6"),
        ("sequence,id\n,a\n", ": line 2: an empty sequence"),
        ("sequence\nACGTAC\nACGTXQ\n", ": line 3: 'Q' at position 6 is no nucleotide"),
        ("sequence\nACG CGT GGG\n", ": line 2: k-mer 3 (GGG) does not continue CGT"),
    ],
)
def test_bad_input(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        list(sequences.read(path, k=6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("chr20\t0\t8\n20\t20\t27\n", "line 2: ends at 27; expected at most 26, the end of record 20"),
        ("chr20\t0\t8\nchr21\t0\t8\n", "line 2: record 'chr21' is not in"),
        ("chr20\t0\t5\n", "line 1: 5 bases; expected at least 6"),
        ("chr20\t0\n", "line 1: 2 columns"),
    ],
)
def test_bad_bed(tmp_path, genome, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        list(sequences.read(path, k=6, fasta=genome, say=lambda line: None))


def test_an_ambiguous_record_name(tmp_path):
    genome = write(tmp_path, ">20\nACGT\n>Chr20\nACGT\n", "two.fa")
    path = write(tmp_path, "chr20\t0\t4\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: line 1: record 'chr20' could be '20' or 'Chr20'")):
        list(sequences.read(path, k=3, fasta=genome))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(sequences.read(tmp_path / "none", k=6))


def test_real_peaks_as_fasta_and_as_table(tmp_path, shared_data):
    peaks = shared_data / "tfbs" / "oct4_peaks_200bp.fa"
    found = list(sequences.read(peaks, k=6))
    assert len(found) == 3897
    assert {len(each.bases) for each in found} == {200}
    lines = [f"{each.id}\t{kmers.decode(each.bases).lower()}\n" for each in found]
    again = list(sequences.read(write(tmp_path, "id\tsequence\n" + "".join(lines)), k=6))
    assert [each.id for each in again] == [each.id for each in found]
    assert all(np.array_equal(a.bases, b.bases) for a, b in zip(again, found))


def test_a_pipe_is_refused():
    reading, writing = os.pipe()
    os.write(writing, b"sequence,label\nACGT,1\nCCCC,0\n")
    os.close(writing)
    with pytest.raises(InputError, match="a pipe; expected a file"):
        list(sequences.read(f"/dev/fd/{reading}", k=3))
    os.close(reading)
