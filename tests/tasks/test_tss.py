"""Start sites against a slow reading of annotations, and the lines that a list of sites is refused for."""

import gzip
import re

import numpy as np
import pytest

from dnabert_jax import embedded
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import tss

LENGTHS = {"2": 500, "10": 1000}


def quiet(_):
    pass


def found_in(table):
    return list(table[["record", "position", "strand"]].itertuples(index=False, name=None))


def test_a_window_holds_the_site_and_what_lies_on_either_side():
    frame = tss.Frame(249, 50)
    starts, ends = frame.around(np.array([1000, 1000]), np.array(["+", "-"]))
    # In reading order the site is number 250 of 300 on both strands.
    assert list(ends - starts) == [frame.bases, frame.bases] == [300, 300]
    assert 1000 - starts[0] == 249
    assert ends[1] - 1 - 1000 == 249


def test_sites_of_genes_are_those_of_a_slow_reading_of_the_embedded_annotation():
    first, last = {}, {}
    with gzip.open(embedded.GTF, "rt") as file:
        for row in file:
            fields = row.split("\t")
            owner = fields[6], re.search('gene_id "([^"]*)"', fields[8]).group(1)
            first[owner] = min(first.get(owner, 10**9), int(fields[3]) - 1)
            last[owner] = max(last.get(owner, 0), int(fields[4]) - 1)
    expected = {("20", first[owner] if owner[0] == "+" else last[owner], owner[0]) for owner in first}
    said = []
    table = tss.of_annotation(embedded.GTF, {"20": 4_194_304}, embedded.FASTA, said.append)
    assert len(table) == len(expected) > 50
    assert set(found_in(table)) == expected
    assert table.position.is_monotonic_increasing
    assert ["chr20" in each for each in said] == [True]


def test_every_transcript_has_its_site_and_shared_ones_count_once(tmp_path):
    rows = [  # record, first, last, strand, gene, transcript
        ("chr10", 101, 200, "+", "g", "a"),
        ("chr10", 301, 400, "+", "g", "a"),
        ("chr10", 151, 200, "+", "g", "b"),
        ("chr10", 101, 150, "+", "g", "c"),
        ("chr10", 101, 150, "-", "h", "d"),
        ("chr10", 301, 420, "-", "h", "d"),
        ("chr2", 11, 20, "+", "i", "e"),
        ("chr2", 11, 20, ".", "j", "f"),
        ("chr7", 11, 20, "+", "k", "l"),
    ]
    line = '{}\tx\texon\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "{}";\n'
    (tmp_path / "a.gtf").write_text("".join(line.format(*row) for row in rows))
    said = []
    table = tss.of_annotation(tmp_path / "a.gtf", LENGTHS, "a.fa", said.append)
    assert found_in(table) == [("2", 10, "+"), ("10", 100, "+"), ("10", 150, "+"), ("10", 419, "-")]
    assert list(table.line) == [7, 1, 3, 6]
    assert any("1 exons have no strand" in each for each in said)
    assert any("chr7" in each for each in said)


def test_gff3_tells_transcripts_by_their_parents(tmp_path):
    (tmp_path / "a.gff3").write_text(
        "##gff-version 3\n"
        "2\tx\tmRNA\t11\t90\t.\t-\t.\tID=a;Parent=g\n"
        "2\tx\texon\t11\t20\t.\t-\t.\tParent=a\n"
        "2\tx\texon\t81\t90\t.\t-\t.\tParent=a,b\n"
    )
    assert found_in(tss.of_annotation(tmp_path / "a.gff3", LENGTHS, "a.fa", quiet)) == [("2", 89, "-")]


def test_an_exon_past_the_end_of_its_record_is_named(tmp_path):
    line = '2\tx\texon\t{}\t{}\t.\t+\t.\tgene_id "g";\n'
    (tmp_path / "a.gtf").write_text(line.format(1, 500) + line.format(490, 501))
    with pytest.raises(InputError, match=r"a\.gtf: line 2: an exon that ends at 501; expected at most 500"):
        tss.of_annotation(tmp_path / "a.gtf", LENGTHS, "a.fa", quiet)


def test_exons_without_strands_give_no_site(tmp_path):
    (tmp_path / "a.gtf").write_text('2\tx\texon\t1\t9\t.\t.\t.\tgene_id "g";\n')
    with pytest.raises(InputError, match=r"a\.gtf: no exon has a strand"):
        tss.of_annotation(tmp_path / "a.gtf", LENGTHS, "a.fa", quiet)


def test_a_list_of_sites(tmp_path):
    rows = [
        ("chr10", 400, 401, "p", 0, "-"),
        ("2", 499, 500, "q", 0, "+"),
        ("10", 400, 401, "again", 0, "-"),
        ("10", 400, 401, "r", 0, "+"),
        ("10", 0, 1, "s", 0, "+"),
    ]
    (tmp_path / "a.bed").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    table = tss.of_bed(tmp_path / "a.bed", LENGTHS, "a.fa", quiet)
    assert found_in(table) == [("2", 499, "+"), ("10", 0, "+"), ("10", 400, "+"), ("10", 400, "-")]
    assert list(table.line) == [2, 5, 4, 1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2 10 11 a 0 .", "line 2: no strand; expected + or - in column 6"),
        ("2 10 11", "line 2: no strand; expected + or - in column 6"),
        ("2 10 11 a 0 x", "line 2: strand 'x' in column 6"),
        ("2 10 70 a 0 +", "line 2: an interval of 60 bases; expected one base"),
        ("2 500 501 a 0 +", "line 2: a site at 500; expected one before 500, the end of record 2"),
    ],
)
def test_what_is_no_site_is_named(tmp_path, row, message):
    lines = ["2 10 11 a 0 +", row]
    (tmp_path / "a.bed").write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    with pytest.raises(InputError, match=re.escape(f"a.bed: {message}")):
        tss.of_bed(tmp_path / "a.bed", LENGTHS, "a.fa", quiet)
