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


def test_several_classes_a_sequence(tmp_path):
    content = "sequence\tlabel\nACGT\tb;a\nACGT\t\nACGT\t.\nACGT\t10; b\n"
    found = read(write(tmp_path, content), target="multi_label")
    assert found.target == "multi_label"
    assert found.classes == ("10", "a", "b")
    assert found.labels.dtype == np.float32
    assert found.labels.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0], [1, 0, 1]]
    given = read(write(tmp_path, content), target="multi_label", classes=("b", "c", "a", "010"))
    assert given.labels.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]


def test_one_class_is_enough_where_there_may_be_none(tmp_path):
    found = read(write(tmp_path, "label,sequence\n1,ACGT\n,ACGT\n"), target="multi_label")
    assert (found.classes, found.labels.tolist()) == (("1",), [[1], [0]])


def test_numbers(tmp_path):
    found = read(write(tmp_path, "sequence,label\nACGT,1.5\nACGT,-2e-3\nACGT,.5\n"), target="regression")
    assert found.classes == ("value",)
    assert found.labels.dtype == np.float32
    np.testing.assert_array_equal(found.labels, np.array([[1.5], [-2e-3], [0.5]], np.float32))


def test_several_numbers_a_sequence(tmp_path):
    path = write(tmp_path, "sequence,label\nACGT,1;2;3\nACGT,4; 5;+6.\n")
    found = read(path, target="regression")
    assert found.classes == ("value 1", "value 2", "value 3")
    assert found.labels.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read(path, target="regression", classes=("x", "y", "z")).classes == ("x", "y", "z")


def test_numbers_of_a_known_model_may_all_be_the_same(tmp_path):
    found = read(write(tmp_path, "sequence,label\nACGT,1\n"), target="regression", classes=("value",))
    assert found.labels.tolist() == [[1]]


def test_a_class_for_each_base(tmp_path):
    words = "ACG CGT GTN TNA"
    found = read(write(tmp_path, f"sequence\tlabel\nACGTA\tEE.ii\n{words}\ti..EEE\nACG\t...\n"), target="per_base")
    assert found.classes == ("E", "i")
    assert [labels.tolist() for labels in found.labels] == [[0, 0, -1, 1, 1], [1, -1, -1, 0, 0, 0], [-1, -1, -1]]
    assert [len(bases) for bases in found.sequences] == [5, 6, 3]
    given = read(write(tmp_path, "sequence,label\nACGTA,00.11\n"), target="per_base", classes=("1", "0"))
    assert given.labels[0].tolist() == [1, 1, -1, 0, 0]


def test_labels_of_bases_read_in_the_direction_of_the_sequence(tmp_path):
    fasta = write(tmp_path, ">20\nACGTTGCAAGGC\n", "genome.fa")
    found = read(write(tmp_path, "20\t0\t5\ta\t0\t-\taabbc\n"), fasta=fasta, label_column=7, target="per_base")
    assert letters(found) == ["AACGT"]
    assert found.labels[0].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("target", "rows", "message"),
    [
        ("multi_label", ["ACGT\ta", "ACGT\ta;;b"], ": line 3: an empty name in the label 'a;;b'; expected class names"),
        ("multi_label", ["ACGT\ta;"], ": line 2: an empty name in the label 'a;'"),
        ("multi_label", ["ACGT\t", "ACGT\t."], ": no line has a label; expected class names parted by ';'"),
        ("regression", ["ACGT\t1", "ACGT\tlow"], ": line 3: the label 'low' is no number; expected a finite number"),
        ("regression", ["ACGT\t1", "ACGT\tnan"], ": line 3: the label 'nan' is no number"),
        ("regression", ["ACGT\t1", "ACGT\t-inf"], ": line 3: the label '-inf' is no number"),
        ("regression", ["ACGT\t1", "ACGT\t1e39"], ": line 3: the label '1e39' is no number"),
        ("regression", ["ACGT\t1", "ACGT\t1_0"], ": line 3: the label '1_0' is no number"),
        ("regression", ["ACGT\t1", "ACGT\t"], ": line 3: the label '' is no number"),
        ("regression", ["ACGT\t1;2", "ACGT\t1;"], ": line 3: the label '' is no number"),
        (
            "regression",
            ["ACGT\t1;2", "ACGT\t1"],
            ": line 3: 1 numbers; expected 2, parted by ';', as in the first line",
        ),
        ("regression", ["ACGT\t1;2", "ACGT\t1;2"], ": every label is '1;2'; expected numbers that differ"),
        ("per_base", ["ACGT\tabab", "ACGT\taba"], ": line 3: a label of 3 characters; expected 4, one for each base"),
        ("per_base", ["ACGT\tabab", "ACGT\t"], ": line 3: a label of 0 characters; expected 4"),
        ("per_base", ["ACGT\taaaa", "ACGT\taa.."], ": every labelled base is 'a'; expected two classes or more"),
        ("per_base", ["ACGT\t...."], ": no base is labelled; expected a character for its class"),
    ],
)
def test_bad_labels(tmp_path, target, rows, message):
    path = write(tmp_path, "\n".join(["sequence\tlabel", *rows]))
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        read(path, target=target)


@pytest.mark.parametrize(
    ("target", "label", "message"),
    [
        ("multi_label", "a;c", "unknown label 'c'; expected one of a, b"),
        ("regression", "1;2;3", "3 numbers; expected 2, parted by ';', as in the training data or the model"),
        ("per_base", "abca", "unknown label 'c' of base 3; expected one of a, b or '.'"),
        ("per_base", "ab.d", "unknown label 'd' of base 4; expected one of a, b or '.'"),
    ],
)
def test_labels_that_a_known_model_does_not_have(tmp_path, target, label, message):
    path = write(tmp_path, f"sequence\tlabel\nACGT\t{label}\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: line 2: {message}")):
        read(path, target=target, classes=("a", "b"))


def test_only_too_long_a_sequence_is_told_of_pieces(tmp_path):
    with pytest.raises(InputError, match=r"the longest that the model reads; fine-tuning with more --pieces splits"):
        read(write(tmp_path, "sequence,label\nACGTACGTACGTA,0\n"), max_kmers=10)
    with pytest.raises(InputError, match=r"the longest that the model reads$"):
        read(write(tmp_path, "sequence,label\nAC,0\n"), max_kmers=10)
