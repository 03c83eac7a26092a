"""What `dnabert build` writes: every base once, in the right split, with metadata that say so, or nothing at all."""

import contextlib
import dataclasses
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnabert_jax import embedded, kmers
from dnabert_jax.data import array_records, build, fasta, genome, shards
from dnabert_jax.errors import InputError, RunStopped

GENOME = {
    "20": "NNNN" + "ACGTTGCAAGGCTTNACCGGATTACA" * 4,
    "X": "TTTTGGGGCCCCAAAA",
    "short": "ACG",
    "M": "GATTACAGATTACA",
}


def write(path, records=GENOME):
    path.write_text("".join(f">{name} note\n{bases}\n" for name, bases in records.items()))
    return path


def built(out):
    """Every split as {(record, start): letters} of its contigs."""
    found = {}
    for name in ("train", "validation"):
        if shards.has_split(out, name):
            split = shards.open_split(out, name)
            found[name] = {
                (contig.name, contig.start): kmers.decode(split.read(index, 0, contig.length))
                for index, contig in enumerate(split.contigs)
            }
    return found


def silent(*_):
    pass


def test_every_base_is_stored_once_in_order(tmp_path):
    summary = build.build([write(tmp_path / "a.fa")], tmp_path / "out", chunk=7)
    assert built(tmp_path / "out") == {"train": {(name, 0): bases for name, bases in GENOME.items() if name != "short"}}
    assert summary.records == 3
    assert summary.bases == summary.train_bases == 108 + 16 + 14
    assert summary.unknown == 8
    assert (summary.skipped_records, summary.skipped_bases) == (1, 3)
    assert summary.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*array_record*"))
    assert "3 records, 138 bases (5.8% N)" in str(summary)


def test_the_folder_is_a_tfds_dataset_of_chunks(tmp_path):
    build.build([write(tmp_path / "a.fa")], tmp_path / "out", chunk=50)
    builder = tfds.builder_from_directory(str(tmp_path / "out"))
    assert builder.name == "genome"
    assert builder.info.splits["train"].num_examples == 5
    examples = list(builder.as_data_source("train"))
    assert [(each["record"].decode(), int(each["start"]), each["bases"].size) for each in examples] == [
        ("20", 0, 50),
        ("20", 50, 50),
        ("20", 100, 8),
        ("X", 0, 16),
        ("M", 0, 14),
    ]
    assert examples[0]["bases"].dtype == np.uint8
    assert kmers.decode(examples[2]["bases"]) == GENOME["20"][100:]


def test_metadata_tell_assembly_sizes_unknowns_and_sources(tmp_path):
    path = write(tmp_path / "a.fa")
    build.build([path], tmp_path / "out", assembly="toy1", validation=["20:11-20"], chunk=50, say=silent)
    found = shards.metadata(tmp_path / "out")
    assert found["assembly"] == "toy1"
    assert (found["bases"], found["unknown"], found["chunk"]) == (138, 8, 50)
    assert (found["skipped_records"], found["skipped_bases"]) == (1, 3)
    assert found["sources"] == [
        {"file": "a.fa", "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    ]
    assert found["records"] == [
        {"name": "20", "bases": 108, "unknown": 8},
        {"name": "X", "bases": 16, "unknown": 0},
        {"name": "M", "bases": 14, "unknown": 0},
    ]
    assert found["splits"]["train"]["intervals"] == [["20", 0, 10], ["20", 20, 108], ["X", 0, 16], ["M", 0, 14]]
    assert found["splits"]["train"]["unknown"] == 7 + 1 - found["splits"]["validation"]["unknown"]
    assert found["splits"]["validation"]["intervals"] == [["20", 10, 20]]
    assert found["splits"]["validation"]["bases"] == 10
    assert set(found) == {each.name for each in dataclasses.fields(genome.Metadata)}


def test_many_files_in_many_forms(tmp_path):
    plain = write(tmp_path / "a.fa", {"1": "ACGTACGTACGT", "2": "acgtrYacgtacgt"})
    packed = tmp_path / "b.fa.gz"
    packed.write_bytes(gzip.compress(b">3\r\nACGTAC\r\nGGGGGG\r\n"))
    build.build([plain, packed], tmp_path / "out")
    assert built(tmp_path / "out") == {
        "train": {("1", 0): "ACGTACGTACGT", ("2", 0): "ACGTNNACGTACGT", ("3", 0): "ACGTACGGGGGG"}
    }
    assert [each["file"] for each in shards.metadata(tmp_path / "out")["sources"]] == ["a.fa", "b.fa.gz"]


@given(
    spans=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), max_size=5),
    chunk=st.integers(1, 90),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_held_out_regions_and_the_rest_make_the_record(tmp_path, spans, chunk):
    letters = kmers.decode(np.random.default_rng(3).integers(0, 5, 200, dtype=np.uint8))
    path = write(tmp_path / "a.fa", {"chr1": letters, "chr2": "ACGTACGTACGT"})
    regions = [f"1:{start}-{min(start + length, 200)}" for start, length in spans]
    build.build([path], tmp_path / "out", validation=regions, chunk=chunk, overwrite=True, say=silent)
    held_out = np.zeros(200, bool)
    for start, length in spans:
        held_out[start - 1 : min(start + length, 200)] = True
    found = built(tmp_path / "out")
    assert ("validation" in found) == bool(spans)
    seen = np.zeros(200, int)
    for split, contigs in found.items():
        for (name, start), bases in contigs.items():
            if name == "chr1":
                assert bases == letters[start : start + len(bases)]
                assert (held_out[start : start + len(bases)] == (split == "validation")).all()
                seen[start : start + len(bases)] += 1
    assert (seen == 1).all()
    assert found["train"]["chr2", 0] == "ACGTACGTACGT"


def test_touching_and_overlapping_regions_are_one_contig(tmp_path):
    path = write(tmp_path / "a.fa")
    build.build([path], tmp_path / "out", validation=["20:1-10", "20:11-20", "20:15-30"], say=silent)
    assert shards.metadata(tmp_path / "out")["splits"]["validation"]["intervals"] == [["20", 0, 30]]


def test_names_are_matched_across_spellings_and_said_once(tmp_path):
    said = []
    path = write(tmp_path / "a.fa")
    build.build(
        [path], tmp_path / "out", validation=["chr20:1-9", "chr20:50-60", "chrM"], exclude=["chrX"], say=said.append
    )
    assert said == ["chrX is taken to be record X", "chr20 is taken to be record 20", "chrM is taken to be record M"]
    assert set(built(tmp_path / "out")["validation"]) == {("20", 0), ("20", 49), ("M", 0)}


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"include": ["20", "M"]}, {"20", "M"}),
        ({"exclude": ["20"]}, {"X", "M"}),
        ({"include": ["20", "X"], "exclude": ["X"]}, {"20"}),
        ({"min_length": 1}, {"20", "X", "short", "M"}),
        ({"min_length": 15}, {"20", "X"}),
        ({"include": ["short", "X"]}, {"X"}),
    ],
    ids=["include", "exclude", "both", "short-ones-too", "long-ones-only", "short-is-still-skipped"],
)
def test_which_records_are_taken(tmp_path, chosen, names):
    build.build([write(tmp_path / "a.fa")], tmp_path / "out", **chosen)
    assert {name for name, _ in built(tmp_path / "out")["train"]} == names


def test_a_name_that_looks_like_a_region_is_a_name(tmp_path):
    path = write(tmp_path / "a.fa", {"HLA:1-12": "ACGTACGTACGT", "HLA": "GGGGGGGGGGGGGGGG"})
    build.build([path], tmp_path / "out", validation=["HLA:1-12"])
    assert set(built(tmp_path / "out")["validation"]) == {("HLA:1-12", 0)}


def test_progress_counts_up_to_all_bases(tmp_path):
    path, seen = write(tmp_path / "a.fa"), []
    build.build([path], tmp_path / "out", chunk=20, progress=seen.append)
    counts = [each.bases for each in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 138
    assert {each.total for each in seen} == {None}
    assert [each.record for each in seen][-1] == "M"
    seen.clear()
    build.build([path], tmp_path / "out2", validation=["X"], progress=seen.append)
    assert {each.total for each in seen} == {138}
    assert seen[-1].bases == 138


def test_shards_are_bounded_and_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr(array_records, "_SHARD_BASES", 100)
    letters = kmers.decode(np.random.default_rng(4).integers(0, 4, 950, dtype=np.uint8))
    build.build([write(tmp_path / "a.fa", {"a": letters})], tmp_path / "out", chunk=50)
    assert sorted(path.name for path in (tmp_path / "out").glob("*array_record*")) == [
        f"genome-train.array_record-{index:05d}-of-00010" for index in range(10)
    ]
    assert built(tmp_path / "out") == {"train": {("a", 0): letters}}


def test_one_record_is_in_memory_at_a_time(tmp_path):
    """Also where records are skipped, and while the names are read beforehand."""
    path = write(tmp_path / "a.fa", {str(number): "ACGT" * 1_000_000 for number in range(4)})
    for options in ({}, {"exclude": ["2"]}, {"validation": ["0:1-9"]}, {"min_length": 5_000_000}):
        tracemalloc.start()
        with contextlib.suppress(InputError):
            build.build([path], tmp_path / "out", overwrite=True, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.4 * 4_000_000  # a record, and blocks of what is being read, or else 2.8 times as much


def test_names_that_are_no_utf8(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\xff\nACGTACGTACGT\n>a\xfe\nGGGGGGGGGGGG\n")
    build.build([path], tmp_path / "out")
    assert list(built(tmp_path / "out")["train"].values()) == ["ACGTACGTACGT", "GGGGGGGGGGGG"]


TOO_SHORT = "no record of at least 12 bases"


@pytest.mark.parametrize(
    ("content", "options", "part"),
    [
        pytest.param("", {}, "empty file", id="empty"),
        pytest.param("hello\n", {}, "expected FASTA", id="no-fasta"),
        pytest.param(">a\nACGTACGTACGT\n>b\nMKVLLLLLLLLLL\n", {}, "no nucleotide", id="protein"),
        pytest.param(">a\nACGTACGTACGT\n>a\nACGTACGTACGT\n", {}, "a second record 'a'", id="twice"),
        pytest.param(">a\nACGT\n", {}, TOO_SHORT, id="all-short"),
        pytest.param(">a\nACGT\n", {"exclude": ["a"]}, TOO_SHORT, id="all-short-and-excluded"),
        pytest.param(None, {"include": ["21"]}, "--include: no record '21'; there are '20'", id="include"),
        pytest.param(None, {"exclude": ["21"]}, "--exclude: no record '21'", id="exclude"),
        pytest.param(None, {"validation": ["21"]}, "--validation: ", id="validation"),
        pytest.param(None, {"validation": ["20:100-109"]}, "ends past the 108 bases", id="past-the-end"),
        pytest.param(None, {"validation": ["20:9-3"]}, "no range", id="backwards"),
        pytest.param(None, {"validation": ["20", "X", "M"]}, "all 138 bases", id="nothing-to-train-on"),
        pytest.param(None, {"validation": ["X"], "exclude": ["X"]}, "--validation: ", id="held-out-but-excluded"),
        pytest.param(None, {"exclude": ["20", "X", "M"]}, TOO_SHORT, id="nothing-left"),
        pytest.param(None, {"chunk": 0}, "chunk is 0", id="chunk"),
        pytest.param(None, {"min_length": 0}, "min_length is 0", id="min-length"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, content, options, part):
    path = write(tmp_path / "a.fa")
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as caught:
        build.build([path], tmp_path / "out", say=silent, **options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["a.fa"]


def test_a_truncated_file_leaves_nothing(tmp_path):
    path = tmp_path / "cut.fa.gz"
    path.write_bytes(embedded.FASTA.read_bytes()[:500_000])
    with pytest.raises(InputError, match="end early or are damaged"):
        build.build([path], tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["cut.fa.gz"]


def test_one_name_in_two_files(tmp_path):
    a, b = write(tmp_path / "a.fa"), write(tmp_path / "b.fa", {"X": "ACGTACGTACGTACGT"})
    with pytest.raises(InputError) as caught:
        build.build([a, b], tmp_path / "out")
    assert "'X'" in str(caught.value)
    assert str(a) in str(caught.value)
    assert str(b) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_file_a_missing_one_and_a_pipe(tmp_path):
    with pytest.raises(InputError, match="at least one"):
        build.build([], tmp_path / "out")
    with pytest.raises(InputError, match="expected a list"):
        build.build("a.fa", tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.fa"):
        build.build([tmp_path / "none.fa"], tmp_path / "out")
    with pytest.raises(InputError, match="expected a folder"):
        build.build([write(tmp_path / "a.fa")], "gs://bucket/out")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="only once"):
        build.build([tmp_path / "pipe"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_at_out_stays_unless_told_otherwise(tmp_path):
    path, out = write(tmp_path / "a.fa"), tmp_path / "deep" / "er" / "out"
    build.build([path], out)
    with pytest.raises(InputError, match="exists already"):
        build.build([path], out)
    write(path, {"new": "ACGTACGTACGTACG"})
    build.build([path], out, overwrite=True)
    assert built(out) == {"train": {("new", 0): "ACGTACGTACGTACG"}}
    path.write_text("broken")
    with pytest.raises(InputError):
        build.build([path], out, overwrite=True)
    assert built(out) == {"train": {("new", 0): "ACGTACGTACGTACG"}}
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_filled_and_no_other_one_replaced(tmp_path):
    path = write(tmp_path / "a.fa")
    (tmp_path / "empty").mkdir()
    build.build([path], tmp_path / "empty")
    assert "train" in built(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", path):
        with pytest.raises(InputError):
            build.build([path], out, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert path.read_text().startswith(">20")


def test_a_link_is_followed_and_stays(tmp_path):
    path = write(tmp_path / "a.fa")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    for overwrite in (False, True):
        build.build([path], tmp_path / "link", overwrite=overwrite)
        assert (tmp_path / "link").is_symlink()
        assert "train" in built(tmp_path / "scratch")


def test_a_place_that_cannot_be_written_to(tmp_path):
    path = write(tmp_path / "a.fa")
    with pytest.raises(InputError, match="cannot be made"):
        build.build([path], path / "below-a-file" / "out")


class _FullDisk:
    """An ArrayRecordWriter that meets a full disk as the real one does."""

    def __init__(self, path, options):
        with open(path, "wb") as file:
            file.write(b"part")

    def write(self, example):
        raise RuntimeError("write() failed: No space left on device; writing x; at byte 4194304")

    def close(self):
        raise RuntimeError("write() failed: No space left on device; writing x")


def test_a_full_disk_stops_the_build_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = write(tmp_path / "a.fa")
    build.build([path], tmp_path / "old")
    monkeypatch.setattr(array_records, "ArrayRecordWriter", _FullDisk)
    for out, overwrite in ((tmp_path / "out", False), (tmp_path / "old", True)):
        with pytest.raises(RunStopped) as caught:
            build.build([path], out, overwrite=overwrite)
        assert str(caught.value).startswith(f"{out}: cannot be written (write() failed: No space left on device)")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.fa", "old"]
    assert ("20", 0) in built(tmp_path / "old")["train"]


def test_an_input_that_breaks_off_is_told_apart_from_the_output(tmp_path, monkeypatch):
    def broken(path):
        yield fasta.Record("a", np.zeros(20, np.uint8))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(fasta, "records", broken)
    with pytest.raises(InputError) as caught:
        build.build([write(tmp_path / "a.fa")], tmp_path / "out")
    assert str(caught.value) == f"{tmp_path / 'a.fa'}: cannot be read to its end (Input/output error)"
    assert [each.name for each in tmp_path.iterdir()] == ["a.fa"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_terminated_build_leaves_what_was_there(tmp_path, earlier):
    program = """
import sys, time
from dnabert_jax import cli
from dnabert_jax.data import build
def wait(progress):
    print("begun", flush=True)
    time.sleep(60)
sys.exit(cli._status(lambda: build.build([sys.argv[1]], sys.argv[2], overwrite=True, progress=wait)))
"""
    path, out = write(tmp_path / "a.fa"), tmp_path / "out"
    if earlier:
        build.build([path], out)
    before = {each.name: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    with subprocess.Popen(
        [sys.executable, "-c", program, path, out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", "terminated\n")
        assert process.returncode == 128 + signal.SIGTERM
    assert {each.name: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


def test_nothing_is_printed_by_the_libraries(tmp_path, capfd):
    build.build([write(tmp_path / "a.fa")], tmp_path / "out")
    built(tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_real_dna_reads_back(tmp_path):
    summary = build.build([embedded.FASTA], tmp_path / "out", validation=["chr20:3000001-3500000"], say=silent)
    assert (summary.train_bases, summary.validation_bases) == (4_194_304 - 500_000, 500_000)
    (record,) = fasta.records(embedded.FASTA)
    for name in ("train", "validation"):
        split = shards.open_split(tmp_path / "out", name)
        for index, contig in enumerate(split.contigs):
            np.testing.assert_array_equal(
                split.read(index, 0, contig.length), record.bases[contig.start : contig.start + contig.length]
            )
