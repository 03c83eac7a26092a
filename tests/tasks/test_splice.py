"""Splice-site examples against a slow reading of a small genome, and the figures of real chromosome 20."""

import csv
import itertools
import re
from collections import Counter

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data import fasta, labelled
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import splice, splice_sites
from dnabert_jax.tasks.splits import Choice

HALF = 10
PAIRS = str.maketrans("ACGT", "TGCA")


def flipped(sequence):
    return sequence.translate(PAIRS)[::-1]


def make_genome(seed=0, genes=24, name="20", letters="ACGT"):
    """A random record and genes on either strand with 4 exons of 25, introns of 45 that begin with GT and end with AG.

    Returns:
      (sequence, exon rows), where a row is (name, first base, last base, strand, gene, transcript), 1-based inclusive.
    """
    rng = np.random.default_rng(seed)
    sequence, rows = list("".join(rng.choice(list(letters), genes * 300 + 100))), []
    for gene in range(genes):
        strand, start = "+-"[gene % 2], 50 + gene * 300
        for exon in range(4):
            first = start + exon * 70
            rows.append((name, first + 1, first + 25, strand, f"g{gene}", f"t{gene}"))
            if exon < 3:
                sequence[first + 25 : first + 27] = "GT" if strand == "+" else "CT"
                sequence[first + 68 : first + 70] = "AG" if strand == "+" else "AC"
    return "".join(sequence), rows


def write_fasta(path, records):
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))
    return path


def write_gtf(path, rows):
    line = '{}\tx\texon\t{}\t{}\t.\t{}\t.\tgene_id "{}"; transcript_id "{}";\n'
    path.write_text("".join(line.format(*row) for row in rows))
    return path


@pytest.fixture
def small(tmp_path):
    """A function that makes examples of the small genome, and gives the folder, the summary and what was said."""

    def make(records=None, rows=None, overwrite=False, **options):
        sequence, own_rows = make_genome()
        fasta = write_fasta(tmp_path / "genome.fa", records or {"20": sequence})
        gtf = write_gtf(tmp_path / "exons.gtf", rows or own_rows)
        said = []
        summary = splice.make(fasta, gtf, tmp_path / "out", chosen(**options), overwrite=overwrite, say=said.append)
        return tmp_path / "out", summary, said

    return make


def chosen(validation=(), test=(), random=False, seed=0, **options):
    """Options for windows of the small genome, all negatives decoys."""
    choice = Choice(tuple(validation), tuple(test), random, seed)
    return splice.Options(**{"window": 2 * HALF, "negatives": ("decoy",), "choice": choice} | options)


def read_rows(folder):
    """Rows of all three files as dictionaries, each with its split."""
    found = []
    for split in ("train", "validation", "test"):
        if (folder / f"{split}.tsv").exists():
            with open(folder / f"{split}.tsv", newline="") as file:
                found += [row | {"split": split} for row in csv.DictReader(file, delimiter="\t")]
    return found


def slow_sites(sequence, rows):
    """{(border, strand): label} straight from the exons: where one ends and the next one of the transcript begins."""
    found = {}
    for transcript in {row[5] for row in rows}:
        exons = sorted(row[1:4] for row in rows if row[5] == transcript)
        for (_, left, strand), (right, _, _) in itertools.pairwise(exons):
            found[left, strand] = "donor" if strand == "+" else "acceptor"
            found[right - 1, strand] = "acceptor" if strand == "+" else "donor"
    return found


def test_sites_and_windows_are_those_of_the_exons(small):
    folder, summary, said = small()
    sequence, rows = make_genome()
    sites = slow_sites(sequence, rows)
    found = {}
    for row in read_rows(folder):
        start, end = int(row["start"]), int(row["end"])
        assert end - start == 2 * HALF
        window = sequence[start:end]
        assert row["sequence"] == (window if row["strand"] == "+" else flipped(window))
        assert row["id"] == f"20:{start}-{end}({row['strand']})"
        assert row["record"] == "20"
        if row["label"] == "donor":
            assert row["sequence"][HALF : HALF + 2] == "GT"
        elif row["label"] == "acceptor":
            assert row["sequence"][HALF - 2 : HALF] == "AG"
        if row["label"] != "neither":
            found[start + HALF, row["strand"]] = row["label"]
    assert found == sites
    assert summary.sites == {"donor": 72, "acceptor": 72}
    assert summary.introns == 72
    assert sum(summary.dropped.values()) == 0
    assert said == []


@pytest.mark.parametrize("negatives_per_site", [1, 3])
def test_negatives_carry_the_letters_of_sites_in_the_same_genes(small, negatives_per_site):
    folder, summary, _ = small(negatives_per_site=negatives_per_site)
    sequence, rows = make_genome()
    sites = slow_sites(sequence, rows)
    genes = {}
    for _, first, last, _, gene, _ in rows:
        start, end = genes.get(gene, (first, last))
        genes[gene] = min(start, first), max(end, last)
    strands = {row[4]: row[3] for row in rows}
    counts = Counter()
    for row in read_rows(folder):
        border = int(row["start"]) + HALF
        gene = next(name for name, (first, last) in genes.items() if first - 1 <= border <= last)
        assert row["strand"] == strands[gene]
        if row["label"] == "neither":
            assert (border, row["strand"]) not in sites
            donor_like = row["sequence"][HALF : HALF + 2] == "GT"
            acceptor_like = row["sequence"][HALF - 2 : HALF] == "AG"
            assert donor_like or acceptor_like
            counts[gene] += 1
    if negatives_per_site == 1:
        assert set(counts.values()) == {6}
    assert sum(counts.values()) + sum(summary.missing_negatives.values()) == 144 * negatives_per_site
    assert sum(counts.values()) == sum(each["neither"] for each in summary.examples.values())


def test_as_many_negatives_of_each_kind(small):
    folder, _, _ = small()
    kinds = Counter()
    for row in read_rows(folder):
        if row["label"] == "neither":
            kinds[row["sequence"][HALF : HALF + 2] == "GT", row["sequence"][HALF - 2 : HALF] == "AG"] += 1
    both = kinds[True, True]
    assert abs(kinds[True, False] - 72) <= both
    assert kinds[True, False] + kinds[False, True] + both == 144
    assert kinds[False, False] == 0


def slow_parts(rows):
    """(exonic, intronic): {(base, strand)} that every transcript there has in an exon, or in an intron."""
    exonic, intronic = set(), set()
    for transcript in {row[5] for row in rows}:
        exons = sorted(row[1:4] for row in rows if row[5] == transcript)
        inside = {(base, strand) for first, last, strand in exons for base in range(first - 1, last)}
        span = {(base, exons[0][2]) for base in range(exons[0][0] - 1, exons[-1][1])}
        exonic |= inside
        intronic |= span - inside
    return exonic - intronic, intronic - exonic


def test_interiors_lie_in_exons_and_introns_away_from_sites(small):
    sequence, rows = make_genome()
    # A second transcript of the first gene without its second exon, which is then in neither part.
    rows += [(*row[:5], "skips") for row in rows[:4] if row[1] != 121]
    folder, summary, _ = small({"20": sequence}, rows, negatives=("exon", "intron", "decoy"), window=40)
    parts = dict(zip(("exon interior", "intron interior"), slow_parts(rows)))
    sites = slow_sites(sequence, rows)
    kinds = Counter()
    for row in read_rows(folder):
        kinds[row["kind"]] += 1
        border, strand = int(row["start"]) + 20, row["strand"]
        if row["kind"] in parts:
            assert row["label"] == "neither"
            assert {(border - 1, strand), (border, strand)} <= parts[row["kind"]]
            assert min(abs(border - site) for site, other in sites if other == strand) >= 2
        else:
            expected = {"GT decoy": "neither", "AG decoy": "neither"}.get(row["kind"], row["kind"])
            assert row["label"] == expected
    assert sum(summary.missing_negatives.values()) == summary.separation.repeated == 0
    total = sum(kinds[kind] for kind in kinds if kind not in ("donor", "acceptor"))
    assert total == kinds["donor"] + kinds["acceptor"] == len(sites)
    for kind in ("exon interior", "intron interior"):
        assert abs(3 * kinds[kind] - total) <= 3
    assert abs(3 * (kinds["GT decoy"] + kinds["AG decoy"]) - total) <= 3


def test_the_two_letters_alone(small):
    folder, summary, _ = small(negatives=("decoy", "exon", "intron"))
    for split, share in summary.two_letters.items():
        rows = [row for row in read_rows(folder) if row["split"] == split]
        right = 0
        for row in rows:
            before, after = row["sequence"][HALF - 2 : HALF], row["sequence"][HALF : HALF + 2]
            right += row["label"] == ("donor" if after == "GT" else "acceptor" if before == "AG" else "neither")
        assert share == pytest.approx(right / len(rows))
        assert f"{share:.1%} of {split}" in (folder / "README.md").read_text()


def test_a_random_split_deals_out_whole_genes(small):
    folder, summary, _ = small(random=True, seed=2)
    gene_of = {}
    for row in read_rows(folder):
        gene_of.setdefault((int(row["start"]) + HALF - 50) // 300, set()).add(row["split"])
    assert all(len(each) == 1 for each in gene_of.values())
    order = [next(iter(gene_of[gene])) for gene in sorted(gene_of)]
    assert Counter(order) == {"train": 19, "validation": 3, "test": 2}
    assert order != sorted(order, key=["train", "validation", "test"].index)
    assert sum(map(len, summary.where.values())) > 3


def test_the_default_split_cuts_between_genes(small):
    folder, summary, _ = small()
    gene_of = {}
    for row in read_rows(folder):
        gene_of.setdefault((int(row["start"]) + HALF - 50) // 300, set()).add(row["split"])
    assert all(len(each) == 1 for each in gene_of.values())
    order = [next(iter(gene_of[gene])) for gene in sorted(gene_of)]
    assert Counter(order) == {"train": 19, "validation": 3, "test": 2}
    assert order == sorted(order, key=["train", "validation", "test"].index)
    assert [len(each) for each in summary.where.values()] == [1, 1, 1]


def test_regions_part_the_examples_and_windows_across_borders_are_dropped(small):
    folder, summary, said = small(validation=["chr20:1-440"], test=["20:3000-4000"])
    found = read_rows(folder)
    for row in found:
        start, end = int(row["start"]), int(row["end"])
        inside = {"validation": (0, 440), "test": (2999, 4000)}
        where = [name for name, (first, last) in inside.items() if start < last and end > first]
        assert where == ([] if row["split"] == "train" else [row["split"]])
        if where:
            assert inside[where[0]][0] <= start
            assert end <= inside[where[0]][1]
    # The second gene is on the other strand; the donor of its second intron, at 445, lies across the border at 440.
    assert (445, "-") in slow_sites(*make_genome())
    assert (445 - HALF, "-") not in {(int(row["start"]), row["strand"]) for row in found}
    assert summary.dropped["between splits"] >= 1
    assert said == ["chr20 is taken to be record 20"]


def test_only_validation_writes_no_test(small):
    folder, summary, _ = small(validation=["20:3000-4000"])
    assert sorted(each.name for each in folder.iterdir()) == ["README.md", "tfds", "train.tsv", "validation.tsv"]
    assert summary.examples["test"] == {"donor": 0, "acceptor": 0, "neither": 0}


def test_whole_records_as_splits(small, tmp_path):
    records, rows = {}, []
    for seed, name in enumerate(("chr1", "chr2", "chrX")):
        records[name], more = make_genome(seed, genes=4, name=name.removeprefix("chr"))
        rows += more
    folder, _, said = small(records, rows, validation=["2"], test=["chrX"])
    assert {(row["record"], row["split"]) for row in read_rows(folder)} == {
        ("chr1", "train"),
        ("chr2", "validation"),
        ("chrX", "test"),
    }
    assert said[:3] == [
        f"{name} of {tmp_path / 'exons.gtf'} is taken to be record chr{name} of {tmp_path / 'genome.fa'}"
        for name in "12X"
    ]


def test_shared_sites_count_once(small):
    _, rows = make_genome()
    once = small()[1]
    twice = small(rows=rows + [(*row[:5], row[5] + "b") for row in rows], overwrite=True)[1]
    assert twice.introns == 2 * once.introns
    assert twice.sites == once.sites
    assert twice.examples == once.examples


def test_genes_without_transcript_ids(small):
    _, rows = make_genome()
    with_ids = read_rows(small()[0])
    without = read_rows(small(rows=[(*row[:5], "") for row in rows], overwrite=True)[0])
    assert with_ids == without


def test_one_gene_id_in_two_places_is_no_intron_where_transcripts_differ(small):
    _, rows = make_genome()
    folder, summary, _ = small(rows=[(*row[:4], "same", row[5]) for row in rows])
    assert summary.sites == {"donor": 72, "acceptor": 72}
    assert Counter(row["split"] for row in read_rows(folder))["test"] > 0


def test_windows_with_unknown_bases_and_past_the_end(small):
    sequence, rows = make_genome()
    sequence = sequence[:80] + "N" + sequence[81:]
    rows = [("20", 1, 5, "+", "early", "early"), ("20", 25, 30, "+", "early", "early"), *rows]
    folder, summary, _ = small({"20": sequence}, rows)
    assert summary.dropped["past the end"] == 1  # the donor at 5: its window would begin at -5
    assert summary.dropped["unknown bases"] == 1  # the first donor, at 75
    assert not any("N" in row["sequence"] for row in read_rows(folder))
    assert all(int(row["start"]) >= 0 for row in read_rows(folder))


def test_sites_that_are_not_canonical(small):
    sequence, rows = make_genome()
    sequence = sequence[:75] + "GC" + sequence[77:]
    folder, summary, _ = small({"20": sequence}, rows)
    assert summary.non_canonical == {"donor": 1, "acceptor": 0}
    assert summary.canonical_introns == 71
    assert summary.dropped["not canonical"] == 1
    labels = {(int(row["start"]) + HALF, row["strand"]): row["label"] for row in read_rows(folder)}
    assert labels.get((75, "+")) is None
    folder, summary, _ = small({"20": sequence}, rows, keep_non_canonical=True, overwrite=True)
    assert summary.non_canonical == {"donor": 1, "acceptor": 0}
    assert summary.dropped["not canonical"] == 0
    kinds = {(int(row["start"]) + HALF, row["strand"]): (row["label"], row["kind"]) for row in read_rows(folder)}
    assert kinds[75, "+"] == ("donor", "non-canonical donor")
    assert Counter(kinds.values())["donor", "non-canonical donor"] == 1


def test_a_sequence_occurs_once(small):
    sequence, rows = make_genome(genes=12)
    copy = [
        (name, first + 3600, last + 3600, strand, gene + "c", t + "c") for name, first, last, strand, gene, t in rows
    ]
    doubled = sequence[:3650] + sequence[50:3650] + sequence[3650:]
    folder, summary, _ = small({"20": doubled}, rows + copy, validation=["20:300-900"])
    found = Counter(row["sequence"] for row in read_rows(folder))
    assert set(found.values()) == {1}
    assert summary.separation.repeated + summary.separation.across_splits >= 70
    assert summary.separation.across_splits > 0


def test_exons_without_a_strand_are_left_out_and_said(small):
    _, rows = make_genome()
    extra = [("20", 7200, 7220, ".", "u", "u"), ("20", 7230, 7250, "?", "u", "u")]
    _, summary, said = small(rows=rows + extra)
    assert summary.unstranded_exons == 2
    assert summary.sites == {"donor": 72, "acceptor": 72}
    assert any("2 exons have no strand" in line for line in said)


def test_records_that_the_genome_lacks_are_left_out_and_said(small):
    _, rows = make_genome()
    _, summary, said = small(rows=[*rows, ("GL0001", 1, 5, "+", "x", "x")])
    assert summary.unmatched_records == ("GL0001",)
    assert any("1 records are not in" in line and "GL0001" in line for line in said)


def test_the_seed_decides(small):
    first = read_rows(small(seed=3)[0])
    assert read_rows(small(seed=3, overwrite=True)[0]) == first
    other = read_rows(small(seed=4, overwrite=True)[0])
    assert [row for row in other if row["label"] != "neither"] == [row for row in first if row["label"] != "neither"]
    assert other != first


def test_fine_tuning_reads_the_files_as_they_are(small):
    folder, summary, _ = small()
    for split, counts in summary.examples.items():
        found = labelled.read(folder / f"{split}.tsv", k=6, max_kmers=510)
        assert found.classes == ("acceptor", "donor", "neither")
        assert Counter(found.classes[label] for label in found.labels) == counts
        assert all(len(each) == 2 * HALF for each in found.sequences)


def test_the_readme_tells_how_and_how_many(small):
    folder, summary, _ = small()
    text = (folder / "README.md").read_text()
    assert "`genome.fa` and `exons.gtf`:\nwindows of 20 bases, 1 negative(s) per site (decoy 1/1).\nThe seed" in text
    assert "| distinct donors | 72 |" in text
    assert "| distinct introns that read GT..AG | 72 |" in text
    row = re.search(r"\| donor \| donor \| (\d+) \| (\d+) \| (\d+) \|", text)
    assert [int(each) for each in row.groups()] == [counts["donor"] for counts in summary.examples.values()]
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 21}, "window is 21; expected an even number"),
        ({"window": 0}, "window is 0; expected an even number"),
        ({"negatives_per_site": 0}, "negatives per site are 0"),
        ({"seed": -1}, "seed is -1"),
        ({"validation": ["21"]}, "no record '21'"),
        ({"negatives": ()}, "negatives are none; expected some of decoy, exon, intron"),
        ({"negatives": ("decoy", "exons")}, "negatives are decoy, exons; expected some of"),
        ({"random": True, "test": ["20"]}, "a random split, and regions"),
        ({"validation": ["20:1-9"]}, "no example of class donor for validation in 20:1-9"),
        ({"validation": ["20"]}, "no example of class donor for train"),
        ({"validation": ["20:1-900"], "test": ["20:900-1000"]}, "shares bases"),
    ],
)
def test_bad_options_leave_nothing_behind(small, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        small(**options)
    assert not [each for each in tmp_path.iterdir() if "out" in each.name]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("21", 1, 5, "+", "g", "t")], r"none of its records \(21\) is in .*genome.fa \(20\)"),
        ([("20", 1, 5, "+", "g", "t")], "no introns"),
        (
            [("20", 1, 5, "+", "g", "t"), ("20", 9000, 9005, "+", "g", "t")],
            "line 2: an exon that ends at 9005; expected",
        ),
        ([("20", 1, 5, "/", "g", "t")], "line 1: strand '/'"),
    ],
)
def test_bad_annotation(small, tmp_path, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        small(rows=rows)
    assert str(caught.value).startswith(str(tmp_path / "exons.gtf"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_annotation_of_another_assembly(small, tmp_path):
    sequence, rows = make_genome()
    shifted = [(name, first + 7, last + 7, *rest) for name, first, last, *rest in rows]
    message = rf"exons.gtf: {slow_matches(sequence, shifted)} of 72 introns read GT..AG on .*genome.fa; expected nearly"
    with pytest.raises(InputError, match=message + r" all.*\(--allow-mismatch goes on\)"):
        small(rows=shifted)
    assert not (tmp_path / "out").exists()
    _, summary, said = small(rows=shifted, allow_mismatch=True, keep_non_canonical=True)
    assert summary.canonical_introns < 36
    assert sum(summary.examples["train"].values()) > 100
    assert len(said) == 1
    assert "of 72 introns read GT..AG" in said[0]


def slow_matches(sequence, rows):
    """How many introns of the rows begin with GT and end with AG on their strand."""
    count = 0
    for transcript in {row[5] for row in rows}:
        exons = sorted(row[1:4] for row in rows if row[5] == transcript)
        for (_, left, strand), (right, _, _) in itertools.pairwise(exons):
            intron = sequence[left : right - 1]
            intron = intron if strand == "+" else flipped(intron)
            count += intron[:2] == "GT" and intron[-2:] == "AG"
    return count


def test_too_few_genes_to_divide(small):
    _, rows = make_genome()
    with pytest.raises(InputError, match=r"no example of class donor for (validation|test); expected"):
        small(rows=rows[:4])


def test_a_folder_that_holds_other_files_is_left_alone(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for overwrite, message in ((False, "already holds files"), (True, "holds thesis.txt, which is not of this task")):
        with pytest.raises(InputError, match=message):
            small(overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_an_earlier_result_is_replaced_only_when_asked(small, tmp_path):
    small()
    with pytest.raises(InputError, match="already holds files"):
        small()
    folder, _, _ = small(validation=["20:3000-4000"], overwrite=True)
    assert not (folder / "test.tsv").exists()


def test_a_file_in_the_way(small, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="a file; expected a folder to make"):
        small()


def test_a_folder_that_cannot_be_made(tmp_path):
    sequence, rows = make_genome()
    fasta, gtf = write_fasta(tmp_path / "genome.fa", {"20": sequence}), write_gtf(tmp_path / "exons.gtf", rows)
    with pytest.raises(InputError, match=re.escape(f"{gtf}/out: cannot be made")):
        splice.make(fasta, gtf, gtf / "out", chosen(), say=print)


def test_real_chromosome_20(tmp_path, shared_data):
    path = tmp_path / "chr20.fa.gz"
    path.symlink_to(shared_data / "human_chr20_grch37.fa.gz")
    said = []
    gtf = str(shared_data / "human_chr20_grch37.refseq.gtf.gz")
    choice = Choice(("chr20:40000001-50000000",), ("chr20:50000001-63025520",))
    with fasta.IndexedFasta(path) as genome:
        annotated = splice_sites.read(gtf, {"20": genome.length("20")}, path, said.append)
        examples, summary = splice.collect(
            genome, annotated, splice.Options(choice=choice), gtf, str(path), said.append
        )
    assert said == [f"chr20 of {gtf} is taken to be record 20 of {path}", "chr20 is taken to be record 20"]
    assert summary.introns == 4905
    assert (summary.distinct_introns, summary.canonical_introns) == (4889, 4748)
    assert summary.sites == {"donor": 4884, "acceptor": 4885}
    assert summary.non_canonical == {"donor": 67, "acceptor": 84}
    assert summary.dropped["not canonical"] == 151
    assert set(summary.missing_negatives.values()) == {0}
    total = Counter()
    for counts in summary.examples.values():
        assert abs(counts["donor"] + counts["acceptor"] - counts["neither"]) <= 5
        assert counts["neither"] > 500
        total.update(counts)
    apart = summary.separation
    assert apart.repeated + apart.across_splits <= 10
    assert total["donor"] + total["acceptor"] + sum(summary.dropped.values()) >= 4884 + 4885 - 10
    assert len({each.sequence for each in examples}) == len({each.id for each in examples}) == len(examples)
    inside = [(0, 40_000_000), (40_000_000, 50_000_000), (50_000_000, 63_025_520)]
    for each in examples:
        start, end = inside[each.split]
        assert start <= each.place.start < each.place.end <= end
        if "interior" not in each.kind:
            middle = kmers.decode(np.frombuffer(each.sequence[198:202], np.uint8))
            assert middle[2:] == "GT" or middle[:2] == "AG"
    assert set(summary.two_letters) == {"train", "validation", "test"}
    assert all(0.6 < share < 0.75 for share in summary.two_letters.values())
