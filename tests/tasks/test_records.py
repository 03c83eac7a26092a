"""Which record of a FASTA an annotation means, and what is said of the others."""

import pytest

from dnabert_jax.errors import InputError
from dnabert_jax.tasks import records

LENGTHS = {"20": 100, "chrX": 50, "MT": 5}


def test_names_spelt_otherwise_are_matched_and_said_once():
    said = []
    found = records.match(["chr20", "chrX", "chr20", "chrM"], LENGTHS, "a.gtf", "g.fa", said.append)
    assert found == {"chr20": "20", "chrX": "chrX", "chrM": "MT"}
    assert said == [
        "chr20 of a.gtf is taken to be record 20 of g.fa",
        "chrM of a.gtf is taken to be record MT of g.fa",
    ]


def test_names_that_the_fasta_lacks_are_absent_and_said_in_one_line():
    said = []
    found = records.match(["20", *(f"scaffold{i}" for i in range(7))], LENGTHS, "a.gtf", "g.fa", said.append)
    assert found == {"20": "20"}
    assert said == [
        "a.gtf: 7 records are not in g.fa and were left out: scaffold0, scaffold1, scaffold2, scaffold3, scaffold4 and "
        "2 more"
    ]


def test_an_annotation_of_another_genome():
    with pytest.raises(InputError, match=r"^a.gtf: none of its records \(2L\) is in g.fa \(20, chrX, MT\); expected"):
        records.match(["2L"], LENGTHS, "a.gtf", "g.fa", pytest.fail)


def test_a_name_that_could_be_two_records():
    with pytest.raises(InputError, match=r"^a.gtf: record '20' could be 'Chr20' or 'chr20'"):
        records.match(["20"], {"Chr20": 1, "chr20": 2}, "a.gtf", "g.fa", pytest.fail)
