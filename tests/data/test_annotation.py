"""BED, GTF and GFF3 rows against small files worked out by hand, introns against a slow loop, and real RefSeq exons."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnabert_jax import kmers
from dnabert_jax.data import annotation
from dnabert_jax.data.annotation import Interval
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.errors import InputError

GTF_ROW = 'chr1\tx\texon\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "{}"; note "a;b";\n'


def write(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content.encode())
    return path


def test_bed(tmp_path):
    path = write(
        tmp_path,
        '# comment\ntrack name="x y"\nbrowser position chr1:1-2\n'
        "chr1\t0\t10\n\nchr1\t5\t7\ta b\t0\t-\r\nchr2 3 9 c 1 + 7\n",
    )
    assert list(annotation.bed(path)) == [
        Interval(4, "chr1", 0, 10, "", ".", ""),
        Interval(6, "chr1", 5, 7, "a b", "-", ""),
        Interval(7, "chr2", 3, 9, "c", "+", ""),
    ]


def test_bed_with_a_label_column(tmp_path):
    path = write(tmp_path, "chr1\t0\t10\tdonor\t0\t+\t1\nchr1\t0\t10\tother\t0\t.\t0\n")
    assert [(each.label, each.strand) for each in annotation.bed(path, 4)] == [("donor", "+"), ("other", ".")]
    assert [(each.label, each.strand) for each in annotation.bed(path, 7)] == [("1", "+"), ("0", ".")]
    assert [(each.label, each.strand) for each in annotation.bed(path, 6)] == [("+", "."), (".", ".")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": no intervals"),
        ("# only\ntrack x\n", ": no intervals"),
        ("chr1\t0\n", ": line 1: 2 columns; expected BED"),
        ("chrom\tstart\tend\n", ": line 1: start 'start'; expected a whole number"),
        ("chr1\t0\t10\nchr1\t0\t1_0\n", ": line 2: end '1_0'; expected a whole number"),
        ("chr1\t-1\t10\n", ": line 1: an interval from -1 to 10"),
        ("chr1\t10\t10\n", ": line 1: an interval from 10 to 10"),
        ("chr1\t1\t5\ta\t0\tx\n", ": line 1: strand 'x' in column 6"),
        ("\t1\t5\n", ": line 1: 3 columns; expected BED"),
        (">r\nACGT\n", ": line 1: 1 columns; expected BED"),
    ],
)
def test_bad_bed(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        list(annotation.bed(path))


@pytest.mark.parametrize("row", ["chr1\t0\t10\n", "chr1\t0\t10\t\t0\t+\n"])
def test_bed_without_its_label(tmp_path, row):
    path = write(tmp_path, "chr1\t0\t10\tx\n" + row)
    with pytest.raises(InputError, match=re.escape(f"{path}: line 2: no label in column 4")):
        list(annotation.bed(path, 4))


def test_exons_of_gtf(tmp_path):
    path = write(
        tmp_path,
        "#!genome\n"
        'chr1\tx\tgene\t1\t90\t.\t+\t.\tgene_id "g";\n'
        + GTF_ROW.format(1, 10, "+", "g", "t")
        + GTF_ROW.format(5, 5, "?", "h", "")
        + 'chr2\tx\texon\t7\t9\t.\t-\t.\ttranscript_id "only"; ref_gene_id "no";\r\n',
    )
    table = annotation.exons(path)
    assert table.to_dict("list") == {
        "record": ["chr1", "chr1", "chr2"],
        "start": [0, 4, 6],
        "end": [10, 5, 9],
        "strand": ["+", ".", "-"],
        "gene": ["g", "h", "only"],
        "transcript": ["t", "", "only"],
        "line": [3, 4, 5],
    }


def test_exons_of_gff3(tmp_path):
    path = write(
        tmp_path,
        "##gff-version 3\n"
        "1\tx\texon\t1\t10\t.\t+\t.\tID=e1;Parent=t%3B1,t2\n"
        "1\tx\tmRNA\t1\t90\t.\t+\t.\tID=t%3B1;Parent=g\n"
        "1\tx\tmRNA\t1\t90\t.\t+\t.\tID=t2;Parent=g;Name=n\n"
        "1\tx\texon\t50\t90\t.\t.\t.\tParent=lone\n"
        "##FASTA\n>1\nACGT\n",
    )
    table = annotation.exons(path)
    assert list(zip(table.gene, table.transcript, table.start, table.strand)) == [
        ("g", "t;1", 0, "+"),
        ("g", "t2", 0, "+"),
        ("lone", "lone", 49, "."),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": no exons"),
        ('chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "g";\n', ": no exons"),
        (">r\nACGT\n", ": line 1: 1 columns; expected the 9"),
        (GTF_ROW.format(0, 10, "+", "g", "t"), ": line 1: an exon from 0 to 10"),
        (GTF_ROW.format(9, 8, "+", "g", "t"), ": line 1: an exon from 9 to 8"),
        (GTF_ROW.format("a", 8, "+", "g", "t"), ": line 1: start 'a'"),
        (GTF_ROW.format(1, 8, "*", "g", "t"), ": line 1: strand '*' in column 7"),
        ('chr1\tx\texon\t1\t9\t.\t+\t.\tname "g";\n', ": line 1: an exon without gene_id"),
        ("chr1\tx\texon\t1\t9\t.\t+\t.\tID=e;Parent=\n", ": line 1: an exon without gene_id"),
    ],
)
def test_bad_annotation(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=re.escape(f"{path}{message}")):
        annotation.exons(path)


def slow_introns(rows):
    """Runs of bases inside a transcript's span that none of its exons covers."""
    found = set()
    for owner in {row[2:] for row in rows}:
        covered = {base for start, end, *rest in rows if tuple(rest) == owner for base in range(start, end)}
        gaps = [base for base in range(min(covered), max(covered)) if base not in covered]
        for base in gaps:
            if base - 1 in covered:
                end = base
                while end not in covered:
                    end += 1
                found.add((base, end, *owner))
    return found


exon_rows = st.tuples(
    st.integers(0, 50),
    st.integers(1, 12),
    st.sampled_from("+-"),
    st.sampled_from("gh"),
    st.sampled_from(["", "s", "t"]),
).map(lambda row: (row[0], row[0] + row[1], *row[2:]))


@settings(max_examples=60, deadline=None)
@given(st.lists(exon_rows, min_size=1, max_size=12))
def test_introns_are_the_bases_between(rows):
    rows = [(start, end, strand, gene if not owner else "k", owner) for start, end, strand, gene, owner in rows]
    table = pd.DataFrame(rows, columns=["start", "end", "strand", "gene", "transcript"]).assign(record="1", line=0)
    found = annotation.introns(table)
    assert len(found) == len(slow_introns(rows))
    assert set(
        found[["start", "end", "strand", "gene", "transcript"]].itertuples(index=False, name=None)
    ) == slow_introns(rows)


def test_introns_need_a_strand(tmp_path):
    path = write(tmp_path, GTF_ROW.format(1, 10, ".", "g", "t") + GTF_ROW.format(20, 30, ".", "g", "t"))
    found = annotation.introns(annotation.exons(path))
    assert list(found.columns) == ["record", "start", "end", "strand", "gene", "transcript"]
    assert len(found) == 0


def test_a_transcript_id_on_two_records_is_two_transcripts(tmp_path):
    row = GTF_ROW.format(1, 10, "+", "g", "t")
    path = write(tmp_path, row + row.replace("chr1", "chr2").replace("\t1\t10\t", "\t50\t60\t"))
    assert len(annotation.introns(annotation.exons(path))) == 0


def test_real_introns_begin_with_gt_and_end_with_ag(tmp_path, shared_data):
    genome_path = tmp_path / "chr20.fa.gz"
    genome_path.symlink_to(shared_data / "human_chr20_grch37.fa.gz")
    exons = annotation.exons(shared_data / "human_chr20_grch37.refseq.gtf.gz")
    assert (len(exons), exons.gene.nunique(), set(exons.record)) == (5598, 693, {"chr20"})
    introns = annotation.introns(exons)
    assert len(introns) == 4905
    starts, ends = [], []
    with IndexedFasta(genome_path) as genome:
        for row in introns.itertuples():
            first, last = genome.fetch("20", row.start, row.start + 2), genome.fetch("20", row.end - 2, row.end)
            if row.strand == "-":
                first, last = kmers.reverse_complement(last), kmers.reverse_complement(first)
            starts.append(kmers.decode(first))
            ends.append(kmers.decode(last))
    assert round(np.mean([each == "GT" for each in starts]), 3) == 0.986
    assert round(np.mean([each == "AG" for each in ends]), 3) == 0.983
