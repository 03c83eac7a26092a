"""Labelled data from every format, and each wrong line by its number."""

import gzip
import os
import re

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data import labelled
from dnabert_jax.errors import InputError


def write(tmp_path, content, name="labelled"):
    path = tmp_path / name
    path.write_bytes(content.encode())
    return path


def read(path, k=3, max_kmers=510, **options):
    return labelled.read(path, k=k, max_kmers=max_kmers, **options)


def letters(examples):
    return [kmers.decode(each) for each in examples.sequences]


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_columns_in_any_order(tmp_path, delimiter):
    content = "other|label|Sequence\r\nx|yes|acgtn\r\ny|no|GGG\r\nz|yes|ACGTACGT\r\n".replace("|", delimiter)
    found = read(write(tmp_path, content))
    assert letters(found) == ["ACGTN", "GGG", "ACGTACGT"]
    assert found.labels.dtype == np.int32
    assert found.labels.tolist() == [1, 0, 1]
    assert found.classes == ("no", "yes")
    assert found.ids == ("line 2", "line 3", "line 4")


def test_gzip_and_ids(tmp_path):
    path = tmp_path / "labelled.csv.gz"
    path.write_bytes(gzip.compress(b"id,sequence,label\na,ACGT,1\n,CCCC,0\n"))
    assert read(path).ids == ("a", "line 3")


def test_integers_sort_by_number(tmp_path):
    rows = "".join(f"ACGT,{label}\n" for label in ("10", "2", "-1", "02"))
    found = read(write(tmp_path, "sequence,label\n" + rows))
    assert found.classes == ("-1", "2", "10")
    assert found.labels.tolist() == [2, 1, 0, 1]


def test_names_sort_by_letter_even_with_a_number_among_them(tmp_path):
    rows = "".join(f"ACGT,{label}\n" for label in ("10", "2", "none"))
    assert read(write(tmp_path, "sequence,label\n" + rows)).classes == ("10", "2", "none")


def test_given_classes_keep_their_order_and_may_be_absent(tmp_path):
    path = write(tmp_path, "sequence,label\nACGT,b\nACGT,b\n")
    found = read(path, classes=("b", "a"))
    assert found.classes == ("b", "a")
    assert found.labels.tolist() == [0, 0]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_kmer_text_of_another_k(tmp_path, k):
    sequence = "ACGGTNCATTGACC"
    words = " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))
    found = read(write(tmp_path, f"sequence\tlabel\n{words}\t1\n{sequence}\t0\n"))
    assert letters(found) == [sequence, sequence]


def test_bed_with_fasta(tmp_path):
    fasta = write(tmp_path, ">20\nACGTTGCAAGGC\n", "genome.fa")
    path = write(tmp_path, "chr20\t0\t5\tyes\t0\t+\nchr20\t0\t5\tno\t0\t-\nchr20\t2\t8\tyes\n")
    said = []
    found = read(path, fasta=fasta, say=said.append)
    assert letters(found) == ["ACGTT", "AACGT", "GTTGCA"]
    assert found.labels.tolist() == [1, 0, 1]
    assert found.ids == ("chr20:0-5(+)", "chr20:0-5(-)", "chr20:2-8")
    assert said == [f"chr20 is taken to be record 20 of {fasta}"]


def test_bed_with_its_label_in_another_column(tmp_path):
    fasta = write(tmp_path, ">20\nACGTTGCAAGGC\n", "genome.fa")
    path = write(tmp_path, "20\t0\t5\ta\t0\t+\t1\n20\t0\t6\t.\t0\t-\t0\n")
    found = read(path, fasta=fasta, label_column=7)
    assert found.ids == ("a", "20:0-6(-)")
    assert found.classes == ("0", "1")


def test_a_table_beside_a_fasta_is_a_table(tmp_path):
    assert read(write(tmp_path, "sequence,label\nACGT,1\nCCCC,0\n"), fasta="missing.fa").ids == ("line 2", "line 3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": an empty file"),
        ("sequence,label\n", ": nothing below the header"),
        ("sequence,class\nACGT,1\n", ": line 1: no column 'label'"),
        ("seq,label\nACGT,1\n", ": line 1: no column 'sequence'"),
        ("chr1\t0\t10\t1\n", ": line 1: no column 'sequence'"),
        ("sequence,label\nACGT,1\nCCCC,1\n", ": every label is '1'; expected two classes or more"),
        ("sequence,label\nACGT,1\nCCCC,01\n", ": every label is '1'; expected two classes or more"),
        ("sequence,label\nACGT,1\n,0\n", ": line 3: an empty sequence"),
        ("sequence,label\nACGT,1\nACGT,\n", ": line 3: an empty label"),
        ("sequence,label\nACGT,1\nACGEE,0\n", ": line 3: 'E' at position 4 is no nucleotide"),
        ("sequence,label\nACGT,1\nACG CCC,0\n", ": line 3: k-mer 2 (CCC) does not continue ACG"),
        ("sequence,label\nACGT,1\nAC,0\n", ": line 3: a sequence of 2 bases; expected 3 (k) to 12"),
        ("sequence,label\nACGT,1\nACGTACGTACGTA,0\n", ": line 3: a sequence of 13 bases; expected 3 (k) to 12"),
        ("sequence,label\nACGT,1\nACGT\n", ": line 3: 1 fields; expected 2"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        read(path, max_kmers=10)


def test_the_longest_sequence_is_accepted(tmp_path):
    found = read(write(tmp_path, "sequence,label\nACGTACGTACGT,1\nACG,0\n"), max_kmers=10)
    assert [len(each) for each in found.sequences] == [12, 3]


def test_an_unknown_label(tmp_path):
    path = write(tmp_path, "sequence,label\nACGT,1\nCCCC,2\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: line 3: unknown label '2'; expected one of 0, 1")):
        read(path, classes=("0", "1"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("20\t0\t5\tyes\n20\t0\t5\n", "line 2: no label in column 4"),
        ("20\t0\t5\tyes\n20\t8\t13\tno\n", "line 2: ends at 13; expected at most 12"),
        ("20\t0\t2\tyes\n", "line 1: a sequence of 2 bases"),
        ("21\t0\t5\tyes\n", "line 1: record '21' is not in"),
        ("20\t0\t5\tyes\n", "every label is 'yes'"),
    ],
)
def test_bad_bed(tmp_path, content, message):
    fasta = write(tmp_path, ">20\nACGTTGCAAGGC\n", "genome.fa")
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        read(path, fasta=fasta)


def test_dnaberts_own_file(shared_data):
    path = shared_data / "dnabert_sample" / "prom_core_6mer_dev.tsv"
    found = read(path, k=3)
    assert len(found.ids) == 1000
    assert found.classes == ("0", "1")
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    assert found.labels.tolist() == [int(label) for _, label in rows]
    assert [each[:6] for each in letters(found)] == [text.split()[0] for text, _ in rows]
    assert [len(each) for each in found.sequences] == [len(text.split()) + 5 for text, _ in rows]


def test_a_pipe_is_refused():
    reading, writing = os.pipe()
    os.write(writing, b"sequence,label\nACGT,1\nCCCC,0\n")
    os.close(writing)
    with pytest.raises(InputError, match="a pipe; expected a file"):
        read(f"/dev/fd/{reading}")
    os.close(reading)
