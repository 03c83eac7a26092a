import gzip
import itertools

import numpy as np

from dnabert_jax import embedded, kmers
from dnabert_jax.data import annotation, fasta, text
from dnabert_jax.embedded import make


def _exons(path):
    return [line.split("\t") for _, line in text.lines(path)]


def test_the_slice_is_one_record_of_known_bases():
    assert text.is_block_gzip(embedded.FASTA)
    (record,) = fasta.records(embedded.FASTA)
    assert record.name == "20"
    assert record.bases.shape == (4_194_304,)
    assert kmers.decode(record.bases[:20]) == "AAATAAGGCTTGGAAATTTT"
    assert set(np.unique(record.bases)) == {0, 1, 2, 3}


def test_an_index_comes_with_it_and_agrees_with_the_stream():
    assert all(embedded.FASTA.with_name(embedded.FASTA.name + end).is_file() for end in (".fai", ".gzi"))
    (record,) = fasta.records(embedded.FASTA)
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        assert genome.length("20") == record.bases.size
        np.testing.assert_array_equal(genome.fetch("20", 4_190_000, 4_194_304), record.bases[4_190_000:])


def test_exons_lie_inside_and_most_introns_read_gt_to_ag():
    (record,) = fasta.records(embedded.FASTA)
    genes = {}
    exons = _exons(embedded.GTF)
    assert len(exons) == 865
    for row in exons:
        assert row[0] == "chr20"
        assert 1 <= int(row[3]) <= int(row[4]) <= record.bases.size
        genes.setdefault((row[8], row[6]), []).append((int(row[3]) - 1, int(row[4])))
    signals = []
    for (_, strand), spans in genes.items():
        spans.sort()
        for (_, end), (start, _) in itertools.pairwise(spans):
            if start - end >= 4:
                intron = record.bases[end:start]
                intron = kmers.reverse_complement(intron) if strand == "-" else intron
                signals.append(kmers.decode(intron[:2]) + kmers.decode(intron[-2:]))
    assert len(signals) > 700
    assert signals.count("GTAG") / len(signals) > 0.95


def test_the_annotation_reader_takes_it():
    assert len(annotation.exons(embedded.GTF)) == 865


def test_it_is_what_the_sources_say(shared_data, tmp_path):
    make.make(shared_data / "human_chr20_grch37.fa.gz", shared_data / "human_chr20_grch37.refseq.gtf.gz", tmp_path)
    for path in (embedded.FASTA, embedded.GTF):
        # Compared decompressed: releases of zlib compress differently.
        assert gzip.decompress((tmp_path / path.name).read_bytes()) == gzip.decompress(path.read_bytes())
    assert (tmp_path / embedded.GTF.name).read_bytes()[4:8] == bytes(4), "a gzip header without a time"
