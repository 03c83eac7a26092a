"""Promoter examples of the embedded genome against its sequence and annotation, and those of real lists."""

import csv
import gzip
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dnabert_jax import cli, embedded, kmers
from dnabert_jax.data import fasta, labelled, regions
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import promoter, tata, tss
from dnabert_jax.tasks.promoter_dataset import CLASSES, Options

SITE = 249


def read_rows(folder):
    """Rows of all files as dictionaries."""
    found = []
    for split in ("train", "validation", "test"):
        if (folder / f"{split}.tsv").exists():
            with open(folder / f"{split}.tsv", newline="") as file:
                rows = list(csv.DictReader(file, delimiter="\t"))
            assert {row["split"] for row in rows} == {split}
            found += rows
    return found


def made(out, said=None, genome=True, **options):
    """Rows and summary of the embedded genome, with files by name and everything else an option."""
    files = {name: options.pop(name) for name in ("gtf", "tss", "sequences", "overwrite") if name in options}
    if genome:
        files = {"fasta": embedded.FASTA} | files
    said = [] if said is None else said
    summary = promoter.make(out, Options(**options), **files, say=said.append)
    return read_rows(out), summary


@pytest.fixture(scope="module")
def sites():
    """Those whose windows lie inside the slice: all but the last."""
    found = tss.of_annotation(embedded.GTF, {"20": 4_194_304}, embedded.FASTA, lambda _: None)
    assert (found.position < 4_194_000).sum() == len(found) - 1
    return found.iloc[:-1]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    folder = tmp_path_factory.mktemp("promoter") / "out"
    rows, summary = made(folder, gtf=embedded.GTF)
    return folder, rows, summary


def boxed(sequence):
    bases = kmers.encode(sequence)
    return bool(tata.best(bases[None, SITE + tata.FIRST :][:, : tata.STRETCH])[0] >= tata.SCORE)


def test_promoters_are_the_windows_around_the_sites(everything, sites):
    _, rows, summary = everything
    expected = {}
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        for site in sites.itertuples():
            up, down = (249, 50) if site.strand == "+" else (50, 249)
            bases = genome.fetch("20", site.position - up, site.position + down + 1)
            read = bases if site.strand == "+" else kmers.reverse_complement(bases)
            assert read[SITE] == (bases[249] if site.strand == "+" else bases[50] ^ 1)
            place = "20", str(site.position - up), str(site.position + down + 1), site.strand
            expected[place] = kmers.decode(read)
    positives = [row for row in rows if row["label"] == "promoter"]
    assert len(positives) == len(sites) > 50
    assert summary.promoters == len(sites) + 1
    assert summary.dropped["too close to an end of the record"] == 1
    for row in positives:
        place = row["record"], row["start"], row["end"], row["strand"]
        assert row["sequence"] == expected.pop(place)
        assert row["id"] == "{}:{}-{}({})".format(*place)
        assert row["kind"] == ("TATA promoter" if boxed(row["sequence"]) else "non-TATA promoter")
    assert not expected


def test_there_are_as_many_of_each_class_in_each_split_and_the_positives_come_last(everything):
    folder, rows, summary = everything
    counts = Counter((row["split"], row["label"]) for row in rows)
    for split in ("train", "validation", "test"):
        assert counts[split, "promoter"] == counts[split, "non-promoter"] == summary.examples[split]["promoter"] > 0
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["TATA promoter"] == kinds["TATA window outside promoters"] > 0
    assert kinds["non-TATA promoter"] == kinds["dinucleotide shuffle"] > 0
    assert set(kinds) == {"TATA promoter", "non-TATA promoter", "TATA window outside promoters", "dinucleotide shuffle"}
    found = labelled.read(folder / "train.tsv", k=6, max_kmers=510)
    assert tuple(found.classes) == CLASSES
    assert CLASSES[-1] == "promoter"


def test_shuffles_keep_every_dinucleotide_and_the_split_of_their_promoter(everything):
    _, rows, _ = everything
    by_id = {row["id"]: row for row in rows}
    shuffled = [row for row in rows if row["kind"] == "dinucleotide shuffle"]
    for row in shuffled:
        source = by_id[row["id"].removeprefix("shuffle of ")]
        assert source["split"] == row["split"]
        assert source["sequence"] != row["sequence"]
        assert Counter(pairwise(source["sequence"])) == Counter(pairwise(row["sequence"]))
        assert row["record"] == row["start"] == row["end"] == row["strand"] == ""


def test_windows_outside_promoters_have_a_box_and_are_far_from_every_site(everything, sites):
    _, rows, _ = everything
    windows = [row for row in rows if row["kind"] == "TATA window outside promoters"]
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        for row in windows:
            start, end = int(row["start"]), int(row["end"])
            bases = genome.fetch("20", start, end)
            read = bases if row["strand"] == "+" else kmers.reverse_complement(bases)
            assert row["sequence"] == kmers.decode(read)
            assert boxed(row["sequence"])
            away = np.maximum(start - sites.position, sites.position - (end - 1))
            assert away.min() > 1000


def test_the_readme_counts_what_is_there(everything):
    folder, rows, summary = everything
    text = (folder / "README.md").read_text()
    assert "JASPAR MA0108.2" in text
    assert "scores 3.37 bits or more" in text
    assert f"| with a TATA box | {summary.with_box} |" in text
    kinds = Counter((row["split"], row["kind"]) for row in rows)
    numbers = [f"{kinds[split, 'TATA promoter']}" for split in ("train", "validation", "test")]
    assert f"| promoter | TATA promoter | {' | '.join(numbers)} |" in text
    assert "checked on what is written: identical sequences in two splits | 0" in text
    assert str(summary).startswith(f"train: {summary.examples['train']['promoter']} promoters, ")


def test_one_kind_only(tmp_path, everything):
    _, everyone, _ = everything
    for kind, name in (("tata", "TATA promoter"), ("non-tata", "non-TATA promoter")):
        rows, summary = made(tmp_path / kind, gtf=embedded.GTF, kind=kind, validation=("20:1-500000",))
        expected = {row["sequence"] for row in everyone if row["kind"] == name}
        # Regions may leave one that lies across their border without a split.
        found = {row["sequence"] for row in rows if row["label"] == "promoter"}
        assert found <= expected
        assert len(expected) - len(found) == summary.dropped["between splits"] <= 1
        assert summary.dropped["of the other kind"] == (summary.without_box if kind == "tata" else summary.with_box)


def test_the_core_promoter_is_cut_from_the_same_places_and_of_the_same_kind(tmp_path, everything):
    _, everyone, _ = everything
    rows, _ = made(tmp_path / "core", gtf=embedded.GTF, core=True, negatives="genome")
    wide = {row["sequence"][SITE - 34 : SITE + 36]: row for row in everyone if row["label"] == "promoter"}
    positives = [row for row in rows if row["label"] == "promoter"]
    assert len(positives) == len(wide) + 1  # the last gene of the slice has room for the smaller window
    for row in positives[:-1]:
        whole = wide[row["sequence"]]
        assert row["kind"] == whole["kind"]
        assert int(row["start"]) - int(whole["start"]) == (215 if row["strand"] == "+" else 15)
    assert {len(row["sequence"]) for row in rows} == {70}
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["TATA promoter"] == kinds["TATA window outside promoters"]
    assert kinds["non-TATA promoter"] == kinds["non-TATA window outside promoters"]


def test_regions_say_which_promoter_is_in_which_split(tmp_path):
    rows, _ = made(
        tmp_path / "out",
        gtf=embedded.GTF,
        validation=("chr20:1-600000",),
        test=("20:3000001-4194304",),
        kind="non-tata",
    )
    territory = {"validation": (0, 600_000), "train": (600_000, 3_000_000), "test": (3_000_000, 4_194_304)}
    for row in rows:
        if row["start"]:
            first, last = territory[row["split"]]
            assert first <= int(row["start"]) < int(row["end"]) <= last
    assert {row["split"] for row in rows} == set(territory)


def test_a_random_split_keeps_overlapping_promoters_together(tmp_path, sites):
    rows, summary = made(tmp_path / "out", gtf=embedded.GTF, random_split=True, seed=3, negatives="genome")
    placed = sorted((int(row["start"]), int(row["end"]), row["split"]) for row in rows)
    assert all(left[2] == right[2] for left, right in pairwise(placed) if right[0] < left[1])
    assert sum(row["label"] == "promoter" for row in rows) == len(sites) - summary.dropped["between splits"]
    assert len({split for _, _, split in placed}) == 3


def test_deepromoters_own_negatives(tmp_path):
    rows, _ = made(tmp_path / "out", gtf=embedded.GTF, negatives="deepromoter")
    by_id = {row["id"]: row for row in rows}
    replaced = [row for row in rows if row["label"] == "non-promoter"]
    assert {row["kind"] for row in replaced} == {"12 of 20 pieces replaced"}
    for row in replaced:
        source = by_id[row["id"].removeprefix("replacement of ")]["sequence"]
        same = [source[at : at + 15] == row["sequence"][at : at + 15] for at in range(0, 300, 15)]
        assert sum(same) == 8


def test_the_same_seed_gives_the_same_files(tmp_path, everything):
    folder, _, _ = everything
    made(tmp_path / "again", gtf=embedded.GTF)
    made(tmp_path / "other", gtf=embedded.GTF, seed=1)
    for name in ("train.tsv", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def write_bed(path, rows):
    path.write_text("".join(f"20\t{at}\t{at + 1}\t.\t0\t{strand}\n" for at, strand in rows))
    return path


def test_sites_of_a_bed_and_what_is_dropped(tmp_path):
    """Too close to an end, on an N, and twice the same."""
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        letters = kmers.decode(genome.fetch("20", 0, 60_000))
    letters = letters[:30_000].replace("N", "A") + "N" + letters[30_001:].replace("N", "A")
    (tmp_path / "a.fa").write_text(f">20\n{letters}\n")
    kept = [(at, "+-"[at % 2]) for at in range(1000, 29_000, 501)]
    # Windows that just reach past an end or over the N, and such that just do not.
    edges = [
        (248, "+"),
        (249, "+"),
        (49, "-"),
        (59_949, "+"),
        (59_950, "+"),
        (30_249, "+"),
        (30_250, "+"),
        (30_050, "-"),
    ]
    bed = write_bed(tmp_path / "a.bed", [*kept, *edges, (1000, "+")])
    said = []
    summary = promoter.make(
        tmp_path / "out",
        Options(negatives="shuffle"),
        fasta=tmp_path / "a.fa",
        tss=bed,
        say=said.append,
    )
    assert summary.promoters == len(kept) + len(edges)
    assert summary.dropped["too close to an end of the record"] == 3
    assert summary.dropped["unknown bases in the window"] == 2
    starts = {int(row["start"]) for row in read_rows(tmp_path / "out") if row["start"]}
    assert {0, 59_700, 30_001} <= starts
    assert "| promoters dropped: unknown bases in the window | 2 |" in (tmp_path / "out/README.md").read_text()


@pytest.fixture
def plain(tmp_path, everything):
    """The promoters of the embedded genome as a list of sequences, one a line."""
    _, rows, _ = everything
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{row['sequence'].lower()}\n" for row in rows if row["label"] == "promoter"))
    return path


def test_a_list_of_sequences_needs_no_genome_for_shuffles(tmp_path, plain, everything):
    _, everyone, _ = everything
    rows, _ = made(tmp_path / "out", genome=False, sequences=plain, random_split=True, negatives="shuffle")
    positives = {row["sequence"]: row for row in rows if row["label"] == "promoter"}
    expected = {row["sequence"]: row["kind"] for row in everyone if row["label"] == "promoter"}
    assert {sequence: row["kind"] for sequence, row in positives.items()} == expected
    assert all(re.fullmatch(r"line \d+", row["id"]) for row in positives.values())
    sizes = Counter(row["split"] for row in positives.values())
    assert sizes["train"] > 4 * sizes["test"] > 0


def test_a_list_may_be_fasta_or_a_table(tmp_path, plain):
    lines = plain.read_text().split()
    (tmp_path / "a.fa").write_text("".join(f">p{number}\n{line}\n" for number, line in enumerate(lines)))
    (tmp_path / "a.tsv").write_text("id\tsequence\n" + "".join(f"p{i}\t{line}\n" for i, line in enumerate(lines)))
    options = {"genome": False, "random_split": True, "negatives": "deepromoter", "core": True}
    first, second = (
        made(tmp_path / f"{name}_out", sequences=tmp_path / name, **options)[0] for name in ("a.fa", "a.tsv")
    )
    assert first == second
    assert first[0]["id"].startswith("p")
    assert {len(row["sequence"]) for row in first} == {70}


def test_windows_of_a_genome_beside_a_list_are_apart_in_every_split(tmp_path, plain, sites):
    said = []
    rows, _ = made(tmp_path / "out", said, sequences=plain, gtf=embedded.GTF, random_split=True, negatives="genome")
    counts = Counter((row["split"], row["label"]) for row in rows)
    assert all(
        counts[split, "promoter"] == counts[split, "non-promoter"] > 0 for split in ("train", "validation", "test")
    )
    windows = sorted((int(row["start"]), int(row["end"])) for row in rows if row["label"] == "non-promoter")
    assert all(left[1] <= right[0] for left, right in pairwise(windows))
    starts, ends = (np.array(each)[:, None] for each in zip(*windows))
    assert (np.maximum(starts - sites.position.to_numpy(), sites.position.to_numpy() - ends + 1) > 1000).all()
    assert not any("may be some" in line for line in said)


def test_it_is_said_when_windows_may_be_promoters(tmp_path, plain):
    said = []
    made(tmp_path / "out", said, sequences=plain, random_split=True)
    assert [line for line in said if "no --gtf and no --tss" in line]


def test_a_genome_with_too_few_windows_is_told_of(tmp_path, everything):
    _, rows, _ = everything
    with fasta.IndexedFasta(embedded.FASTA) as genome:
        letters = kmers.decode(genome.fetch("20", 0, 3000))
    (tmp_path / "short.fa").write_text(f">short\n{letters}\n")
    (tmp_path / "list.txt").write_text("".join(f"{row['sequence']}\n" for row in rows if row["label"] == "promoter"))
    said = []
    options = Options(negatives="genome", kind="non-tata", random_split=True)
    files = {"fasta": tmp_path / "short.fa", "sequences": tmp_path / "list.txt"}
    with pytest.raises(InputError, match="no example of class non-promoter"):
        promoter.make(tmp_path / "out", options, **files, say=said.append)
    assert any("fewer windows outside promoters" in line for line in said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ((), {}, "no promoters; expected --gtf, --tss or --sequences"),
        (("gtf",), {}, "no genome; expected one with --fasta"),
        (("fasta", "sequences"), {}, "list.txt: sequences have no place in a genome.*expected --random-split"),
        (("sequences",), {"validation": ("20",)}, "list.txt: sequences, which have no place"),
        (("sequences",), {"random_split": True}, "list.txt: no genome to draw windows with a TATA box from"),
        (("sequences",), {"random_split": True, "tata_score": 99, "kind": "tata"}, "no promoter is left"),
        (("fasta", "gtf"), {"tata_score": 99, "kind": "tata"}, r"no promoter is left \(.*\d+ of the other kind\)"),
        (("fasta", "gtf"), {"test": ("20:10001-20000",)}, "no example of class .*promoter for test in 20:10001-20000"),
        (("fasta", "gtf"), {"test": ("21",)}, "no record '21'"),
    ],
)
def test_what_cannot_be_made_is_one_line_and_leaves_nothing(tmp_path, plain, files, options, message):
    paths = {"fasta": embedded.FASTA, "gtf": embedded.GTF, "sequences": plain}
    with pytest.raises(InputError, match=message) as caught:
        promoter.make(tmp_path / "out", Options(**options), **{name: paths[name] for name in files}, say=lambda _: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_annotation_of_another_assembly_is_refused_unless_allowed(tmp_path):
    with gzip.open(embedded.GTF, "rt") as file:
        rows = [row.split("\t") for row in file]
    moved = [[*row[:3], str(int(row[3]) + 5), str(int(row[4]) + 5), *row[5:]] for row in rows]
    (tmp_path / "moved.gtf").write_text("".join("\t".join(row) for row in moved))
    options = {"gtf": tmp_path / "moved.gtf", "negatives": "shuffle"}
    with pytest.raises(InputError, match=r"moved\.gtf: \d+ of \d+ introns read GT\.\.AG on .*; expected nearly all"):
        made(tmp_path / "out", **options)
    said = []
    made(tmp_path / "out", said, **options, allow_mismatch=True)
    assert any("do not seem to be of one assembly" in line for line in said)


def test_options_out_of_range():
    with pytest.raises(InputError, match="distance is -1"):
        Options(distance=-1)
    with pytest.raises(InputError, match="TATA box is nan"):
        Options(tata_score=float("nan"))
    with pytest.raises(InputError, match="seed is -1"):
        Options(seed=-1)
    with pytest.raises(InputError, match="random split"):
        Options(random_split=True, test=("20",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("ACGT\n", "line 1: 4 bases; expected 300"),
        ("\n" + "A" * 300 + "\n" + "A" * 301, "line 3: 301 bases; expected 300, number 250 of them"),
        ("A" * 299 + "!\n", "line 1: '!' at position 300"),
        (">p\nACGT\n", "p: 4 bases; expected 300"),
        ("id,sequence\np,ACGT\n", "p: 4 bases; expected 300"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(InputError, match=re.escape("list.txt: " + message)):
        promoter.make(tmp_path / "out", Options(random_split=True), sequences=tmp_path / "list.txt", say=lambda _: None)


def test_an_earlier_result_is_replaced_only_when_asked(tmp_path, plain):
    options = {"genome": False, "sequences": plain, "random_split": True, "negatives": "shuffle"}
    made(tmp_path / "out", **options)
    with pytest.raises(InputError, match="already holds files"):
        made(tmp_path / "out", **options)
    made(tmp_path / "out", overwrite=True, **options)


def test_the_command(tmp_path, capsys):
    arguments = ["task", "promoter", "--fasta", str(embedded.FASTA), "--gtf", str(embedded.GTF)]
    arguments += ["--out", str(tmp_path / "out"), "--kind", "non-tata", "--negatives", "deepromoter", "--core"]
    assert cli._status(lambda: cli._dispatch("dnabert", cli.COMMANDS, arguments)) == 0
    said = capsys.readouterr()
    assert said.out.startswith("train: ")
    assert "chr20" in said.err
    assert {len(row["sequence"]) for row in read_rows(tmp_path / "out")} == {70}


@pytest.mark.slow
def test_real_promoters_of_a_list_and_of_an_annotation(tmp_path, shared_data):
    """2,929 TATA promoters of EPDnew with windows of chromosome 20, and the RefSeq genes of it."""
    genome = shared_data / "human_chr20_grch37.fa.gz"
    gtf = shared_data / "human_chr20_grch37.refseq.gtf.gz"
    epd = shared_data / "promoters/human_tata_epdnew_300bp.txt"
    options = Options(kind="tata", random_split=True)
    summary = promoter.make(tmp_path / "epd", options, fasta=genome, sequences=epd, gtf=gtf, say=regions.note)
    assert summary.promoters == 2929
    assert summary.with_box > 2900
    assert all(counts["promoter"] == counts["non-promoter"] for counts in summary.examples.values())
    summary = promoter.make(tmp_path / "refseq", Options(), fasta=genome, gtf=gtf, say=regions.note)
    assert summary.promoters == 692
    assert summary.missing_negatives == 0
