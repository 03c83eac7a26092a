"""Binding-site examples against a slow reading of a small genome, and the figures of real peaks."""

import csv
import gzip
import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import scipy.stats
import tensorflow_datasets as tfds

from dnabert_jax.data import labelled
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import tfbs

LENGTHS = {"chr1": 30_000, "chr2": 12_000, "chrX": 9_000}
PAIRS = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """The letters of each record, and the FASTA of them, its second half in lower case."""
    rng = np.random.default_rng(0)
    letters = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in LENGTHS.items()}
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text("".join(f">{name}\n{s[: len(s) // 2]}{s[len(s) // 2 :].lower()}\n" for name, s in letters.items()))
    return letters, path


def intervals(seed=1, length=40):
    """(record, start, end) every 300 bases or so, none of them overlapping."""
    rng = np.random.default_rng(seed)
    return [
        (name, start, start + length)
        for name, bases in LENGTHS.items()
        for start in (np.arange(200, bases - 300, 300) + rng.integers(0, 200)).tolist()
    ]


def bed(path, rows, strand=None):
    more = f"\tp\t0\t{strand}" if strand else ""
    path.write_text("".join(f"{name}\t{start}\t{end}{more}\n" for name, start, end in rows))
    return path


def read_rows(folder):
    found = []
    for split in ("train", "validation", "test"):
        if (folder / f"{split}.tsv").exists():
            with open(folder / f"{split}.tsv", newline="") as file:
                found += list(csv.DictReader(file, delimiter="\t"))
            assert {row["split"] for row in found} >= {split}
    return found


@pytest.fixture
def make(genome, tmp_path):
    """A function that makes examples of a file or intervals, and gives their rows, the summary and what was said."""

    def made(peaks=None, *, fasta=genome[1], exclude=(), overwrite=False, **options):
        if peaks is None or isinstance(peaks, list):
            peaks = bed(tmp_path / "peaks.bed", peaks or intervals())
        said = []
        options = tfbs.Options(**{"window": 21, **options})
        summary = tfbs.make(
            peaks, tmp_path / "out", options, fasta=fasta, exclude=exclude, overwrite=overwrite, say=said.append
        )
        return read_rows(tmp_path / "out"), summary, said

    return made


def of(rows, label):
    return [row for row in rows if row["label"] == label]


def dinucleotides(sequence):
    return Counter(itertools.pairwise(sequence))


def test_windows_are_centred_on_the_middle(make, genome):
    rows, summary, said = make()
    found = {(row["record"], int(row["start"]), int(row["end"])): row for row in of(rows, "bound")}
    assert len(found) == len(intervals()) == summary.peaks
    for record, start, end in intervals():
        row = found[record, (start + end) // 2 - 10, (start + end) // 2 + 11]
        assert row["sequence"] == genome[0][record][int(row["start"]) : int(row["end"])]
        assert row["id"] == f"{record}:{row['start']}-{row['end']}(.)"
    assert said == []


@pytest.mark.parametrize("window", [20, 21])
def test_windows_are_centred_on_the_summit(make, genome, tmp_path, window):
    path = tmp_path / "x.narrowPeak.gz"
    line = "{}\t{}\t{}\tp\t0\t.\t1\t-1\t-1\t{}\n"
    summits = [(name, start, end, i % 40) for i, (name, start, end) in enumerate(intervals())]
    path.write_bytes(gzip.compress("".join(line.format(*each) for each in summits).encode()))
    rows, summary, _ = make(path, window=window)
    assert summary.format == "narrowPeak"
    found = {(row["record"], int(row["start"])): row["sequence"] for row in of(rows, "bound")}
    for record, start, _, summit in summits:
        sequence = found[record, start + summit - window // 2]
        assert sequence[window // 2] == genome[0][record][start + summit]
        assert len(sequence) == window


def test_peaks_on_the_other_strand_are_read_there(make, genome, tmp_path):
    rows, *_ = make(bed(tmp_path / "minus.bed", intervals(), "-"))
    for row in of(rows, "bound"):
        forward = genome[0][row["record"]][int(row["start"]) : int(row["end"])]
        assert row["sequence"] == forward.translate(PAIRS)[::-1]
        assert row["strand"] == "-"


def test_names_of_records_are_matched(make):
    rows, summary, said = make([*((name.removeprefix("chr"), *rest) for name, *rest in intervals()), ("7", 1, 90)])
    assert {row["record"] for row in of(rows, "bound")} == set(LENGTHS)
    assert summary.peaks == len(intervals())
    assert sum("is taken to be record" in line for line in said) == 3
    assert sum("1 records are not in" in line for line in said) == 1


@pytest.mark.parametrize("times", [1, 3])
def test_shuffles_keep_dinucleotides_and_the_split_of_their_source(make, times):
    rows, summary, _ = make(window=41, negatives_per_peak=times)
    bound = {row["id"]: row for row in of(rows, "bound")}
    shuffles = of(rows, "background")
    assert len(shuffles) == times * len(bound)
    assert len({row["id"] for row in shuffles}) == len(shuffles)
    for row in shuffles:
        source = bound[row["id"].rpartition("of ")[2]]
        assert row["split"] == source["split"]
        assert row["sequence"] != source["sequence"]
        assert dinucleotides(row["sequence"]) == dinucleotides(source["sequence"])
        assert (row["kind"], row["record"], row["start"]) == ("dinucleotide shuffle", "", "")
    for split, counts in summary.examples.items():
        assert counts == Counter(row["label"] for row in rows if row["split"] == split)


@pytest.mark.parametrize("times", [1, 2])
def test_matched_windows_are_outside_every_peak(make, genome, tmp_path, times):
    wide = [(name, start - 30, end + 30) for name, start, end in intervals(length=20)]
    others = bed(tmp_path / "others.bed", [("1", 9_000, 15_000)])
    rows, summary, _ = make(wide, negatives="gc-matched", negatives_per_peak=times, exclude=[others])
    near = [(name, start - 21, end + 21) for name, start, end in [*wide, ("chr1", 9_000, 15_000)]]
    gc = defaultdict(list)
    for row in rows:
        gc[row["split"], row["label"]] += [sum(letter in "GC" for letter in row["sequence"])] * (
            times if row["label"] == "bound" else 1
        )
    assert summary.missing_negatives == 0
    for split in ("train", "validation", "test"):
        assert Counter(gc[split, "bound"]) == Counter(gc[split, "background"])
        assert summary.gc[split]["bound"] == pytest.approx(summary.gc[split]["background"])
    seen = []
    for row in of(rows, "background"):
        place = row["record"], int(row["start"]), int(row["end"])
        assert row["sequence"] == genome[0][place[0]][place[1] : place[2]]
        assert not any(place[0] == name and place[1] < end and place[2] > start for name, start, end in near + seen)
        seen.append(place)


def test_the_default_split_is_in_genome_order(make):
    rows, summary, _ = make()
    order = [row["split"] for row in of(sorted(rows, key=lambda r: (r["record"], int(r["start"] or 0))), "bound")]
    assert order == sorted(order, key=["train", "validation", "test"].index)
    assert Counter(order) == {split: counts["bound"] for split, counts in summary.examples.items()}
    shares = [round(10 * order.count(split) / len(order)) for split in ("train", "validation", "test")]
    assert shares == [8, 1, 1]


def test_regions_and_windows_across_their_borders(make):
    start = intervals()[10][1] + 20
    rows, summary, _ = make(validation=(f"1:1-{start}",), test=("chr2",))
    assert summary.dropped["between splits"] == 1
    for row in of(rows, "bound"):
        inside = row["record"] == "chr1" and int(row["end"]) <= start
        assert row["split"] == ("test" if row["record"] == "chr2" else "validation" if inside else "train")


def test_overlapping_windows_stay_together_in_a_random_split(make):
    rows, *_ = make(
        [(name, start + by, end + by) for name, start, end in intervals() for by in (0, 9)], random_split=True
    )
    groups = defaultdict(set)
    for number, row in enumerate(sorted(of(rows, "bound"), key=lambda row: (row["record"], int(row["start"])))):
        groups[number // 2].add(row["split"])
    assert len(groups) == len(intervals())
    assert all(len(each) == 1 for each in groups.values())
    owners = Counter(name for names in groups.values() for name in names)
    assert min(owners[split] for split in ("train", "validation", "test")) > 5


def test_what_gives_no_example_is_counted(make, genome, tmp_path):
    letters = dict(genome[0])
    name, start, end = intervals()[3]
    letters[name] = letters[name][: start + 20] + "N" + letters[name][start + 21 :]
    fasta = tmp_path / "unknown.fa"
    fasta.write_text("".join(f">{name}\n{s}\n" for name, s in letters.items()))
    peaks = [*intervals(), ("chr1", 0, 5), ("chr2", 11_990, 12_000), intervals()[0], (name, start - 1, end + 1)]
    rows, summary, _ = make(peaks, fasta=fasta)
    assert {reason: count for reason, count in summary.dropped.items() if count} == {
        "window past the end of the record": 2,
        "unknown bases in the window": 1,
        "same window as an earlier peak": 2,
    }
    assert len(of(rows, "bound")) == len(intervals()) - 1
    assert "dropped peaks: 2 window past the end" in str(summary)


def test_repeated_sequences_are_left_out(make, genome, tmp_path):
    letters = dict(genome[0])
    letters["chr2"] = letters["chr1"][:6000].translate(PAIRS)[::-1] + letters["chr2"][6000:]
    fasta = tmp_path / "repeats.fa"
    fasta.write_text("".join(f">{name}\n{s}\n" for name, s in letters.items()))
    mirrored = [("chr2", 6000 - end, 6000 - start) for name, start, end in intervals() if name == "chr1" and end < 6000]
    rows, summary, _ = make(intervals() + mirrored, fasta=fasta, window=20, validation=("chr2",), test=("chrX",))
    assert summary.separation.across_splits == len(mirrored) > 15
    found = [min(row["sequence"], row["sequence"].translate(PAIRS)[::-1]) for row in of(rows, "bound")]
    assert len(found) == len(set(found)) == len(intervals())


def fasta_of_peaks(path, letters, places, name="{}:{}-{}"):
    text = "".join(f">{name.format(*place)}\n{letters[place[0]][place[1] : place[2]]}\n" for place in places)
    path.write_text(text)
    return path


def test_a_fasta_of_peaks_is_as_its_bed(make, genome, tmp_path):
    expected, *_ = make()
    path = fasta_of_peaks(tmp_path / "peaks.fa", genome[0], intervals())
    for fasta in (None, genome[1]):
        assert make(path, fasta=fasta, overwrite=True)[0] == expected


def test_regions_may_reach_past_the_last_peak_of_a_fasta(make, genome, tmp_path):
    regions = {"validation": ("2:1-11990",), "test": ("chrX:1-8990",)}
    expected, *_ = make(**regions)
    path = fasta_of_peaks(tmp_path / "peaks.fa", genome[0], intervals())
    assert make(path, fasta=None, overwrite=True, **regions)[0] == expected


def test_a_fasta_on_the_other_strand(make, genome, tmp_path):
    places = intervals(length=41)
    text = "".join(f">{n}:{s}-{e}(-)\n{genome[0][n][s:e].translate(PAIRS)[::-1]}\n" for n, s, e in places)
    (tmp_path / "minus.fa").write_text(text)
    expected, *_ = make(bed(tmp_path / "minus.bed", places, "-"), window=20)
    for fasta in (None, genome[1]):
        assert make(tmp_path / "minus.fa", window=20, fasta=fasta, overwrite=True)[0] == expected


def test_peaks_shorter_than_the_window_are_read_on_in_the_genome(make, genome, tmp_path):
    path = fasta_of_peaks(tmp_path / "peaks.fa", genome[0], intervals()[:60] + intervals(3, length=15)[60:])
    rows, summary, _ = make(path, fasta=None)
    assert summary.dropped["shorter than the window, and no genome to read on in"] == len(intervals()) - 60
    assert len(of(rows, "bound")) == 60
    rows, summary, _ = make(path, overwrite=True)
    assert len(of(rows, "bound")) == len(intervals())


def test_sequences_without_places_are_divided_at_random(make, genome, tmp_path):
    path = fasta_of_peaks(tmp_path / "peaks.fa", genome[0], intervals()[:100] * 2, "{0}-{1}")
    text = path.read_text().split(">")[1:]
    path.write_text("".join(f">p{number}-{record}" for number, record in enumerate(text)))
    rows, summary, _ = make(path, fasta=None, random_split=True)
    assert Counter(row["split"] for row in of(rows, "bound")) == {"train": 80, "validation": 10, "test": 10}
    assert summary.separation.repeated == 100
    assert {row["record"] for row in rows} == {""}
    assert of(rows, "bound")[0]["id"].startswith("p")


def test_the_seed_decides(make):
    for options in ({"negatives": "gc-matched"}, {"random_split": True}):
        first, *_ = make(seed=3, overwrite=True, **options)
        assert make(seed=3, overwrite=True, **options)[0] == first
        assert make(seed=4, overwrite=True, **options)[0] != first


def test_fine_tuning_and_tfds_read_the_folder(make, tmp_path):
    _, summary, _ = make()
    data = tfds.builder_from_directory(tmp_path / "out" / "tfds").as_data_source()
    for split, counts in summary.examples.items():
        found = labelled.read(tmp_path / "out" / f"{split}.tsv", k=6, max_kmers=510)
        assert found.classes == tfbs.CLASSES == ("background", "bound")
        assert Counter(found.classes[label] for label in found.labels) == counts
        assert len(data[split]) == len(found.labels)


def test_the_readme_tells_how_and_how_many(make, tmp_path):
    others = bed(tmp_path / "others.bed", [("1", 9_000, 9_100)])
    _, summary, _ = make(negatives="gc-matched", exclude=[others])
    text = (tmp_path / "out" / "README.md").read_text()
    for part in ("`peaks.bed` (BED) and `genome.fa`", "windows of 21 bases", "every peak of the file and `others.bed`"):
        assert part in text
    assert f"| train | {summary.gc['train']['background']:.3f} | {summary.gc['train']['bound']:.3f} |" in text


@pytest.mark.parametrize("window", [20, 21])
def test_the_readme_tells_which_base_is_the_summit(make, tmp_path, window):
    make(bed(tmp_path / "reverse.bed", intervals(length=41), "-"), window=window)
    text = " ".join((tmp_path / "out" / "README.md").read_text().split())
    told = {20: "Base 11 of a bound window (base 10 where it is read on -) is", 21: "Base 11 of a bound window is"}
    assert told[window] in text
    for row in of(read_rows(tmp_path / "out"), "bound"):
        middles = [start + 20 for name, start, _ in intervals(length=41) if name == row["record"]]
        assert int(row["end"]) - {20: 10, 21: 11}[window] in middles


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 7}, "window is 7; expected 8 or more"),
        ({"negatives_per_peak": 0}, "negatives per peak are 0"),
        ({"seed": -1}, "seed is -1"),
        ({"random_split": True, "test": ("chr2",)}, "a random split, and regions"),
        ({"fasta": None}, "no genome; expected one with --fasta, from which the windows of a BED file"),
        ({"exclude": ["x.bed"]}, "files to exclude, and negatives that are shuffles"),
        ({"validation": ("chr7",)}, "no record 'chr7'"),
        ({"peaks": [("chr1", 5, 30_001)]}, "line 1: a peak that ends at 30001; expected at most 30000"),
        ({"peaks": [("chr9", 5, 10)]}, "none of its records"),
        ({"peaks": [("chr1", 0, 10)]}, r"no peak gives a window \(1 window past the end of the record\); expected"),
        ({"peaks": [("chr1", 100, 140)]}, "no example of class (bound|background) for"),
    ],
)
def test_bad_input_leaves_nothing(make, tmp_path, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make(**options)
    assert "\n" not in str(caught.value)
    assert not [each for each in tmp_path.iterdir() if "out" in each.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "names no place of as many bases, and a split by region takes places; expected .* or --random-split"),
        ({"test": ("chr2",)}, "names no place .* expected names such as chr1:100-200 for a split by region"),
        ({"negatives": "gc-matched"}, "names no place .* for windows outside of them"),
    ],
)
def test_sequences_without_places_need_a_random_split(make, genome, tmp_path, options, message):
    path = fasta_of_peaks(tmp_path / "peaks.fa", genome[0], intervals(), "{0}-{1}")
    with pytest.raises(InputError, match=message):
        make(path, **options)


def test_sequences_of_another_assembly(make, genome, tmp_path):
    shifted = {name: letters[7:] + letters[:7] for name, letters in genome[0].items()}
    path = fasta_of_peaks(tmp_path / "peaks.fa", shifted, intervals())
    with pytest.raises(InputError, match=r"only 0 of \d+ sequences are what .* has at their places"):
        make(path)


def test_real_peaks_with_shuffles(tmp_path, shared_data):
    said = []
    summary = tfbs.make(shared_data / "tfbs" / "oct4_peaks_200bp.fa", tmp_path / "out", say=said.append)
    assert said == []
    assert summary.examples["train"]["bound"] == summary.examples["train"]["background"] > 3000
    assert sum(counts["bound"] for counts in summary.examples.values()) == 3897
    for row in read_rows(tmp_path / "out"):
        assert len(row["sequence"]) == 101
        assert set(row["sequence"]) <= set("ACGT")


def test_real_peaks_lie_where_the_genome_says(tmp_path, shared_data):
    """The peaks of chromosome 20 are those of GRCh37, so that the genome can give their background."""
    fasta = tmp_path / "chr20.fa.gz"
    fasta.symlink_to(shared_data / "human_chr20_grch37.fa.gz")
    options = tfbs.Options(negatives="gc-matched", negatives_per_peak=5)
    peaks = shared_data / "tfbs" / "oct4_peaks_200bp.fa"
    summary = tfbs.make(peaks, tmp_path / "out", options, fasta=fasta, say=lambda line: None)
    assert summary.peaks == 85
    assert summary.missing_negatives == 0
    gc = defaultdict(list)
    for row in read_rows(tmp_path / "out"):
        gc[row["label"]].append(sum(letter in "GC" for letter in row["sequence"]))
    assert len(gc["background"]) == 5 * len(gc["bound"])
    assert scipy.stats.ks_2samp(gc["bound"], gc["background"]).pvalue > 0.99
