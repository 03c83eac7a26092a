"""Reading peaks: the three formats, summits, names that are places, and rows that are none."""

import gzip

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.errors import InputError
from dnabert_jax.tasks import peaks


def read(tmp_path, text, name="peaks"):
    (tmp_path / name).write_text(text)
    said = []
    return peaks.read(tmp_path / name, said.append), said


def narrow(start, end, summit):
    return f"chr1\t{start}\t{end}\tp\t0\t.\t1.5\t-1\t-1\t{summit}\n"


def test_narrow_peaks_are_centred_on_their_summit_or_else_the_middle(tmp_path):
    found, said = read(tmp_path, "track name=x\n" + narrow(100, 201, 7) + narrow(300, 400, -1) + narrow(9, 10, 0))
    assert found.format == "narrowPeak"
    assert found.placed
    assert [(each.at, each.record, each.start, each.end, each.centre) for each in found.peaks] == [
        ("line 2", "chr1", 100, 201, 107),
        ("line 3", "chr1", 300, 400, 350),
        ("line 4", "chr1", 9, 10, 9),
    ]
    assert said == []


@pytest.mark.parametrize("summit", ["101", "1e2", "-2", "x"])
def test_a_summit_outside_its_peak(tmp_path, summit):
    with pytest.raises(InputError, match=r"peaks: line 2: summit .* of a peak of 101 bases; expected .* 0 to 100"):
        read(tmp_path, narrow(1, 9, 0) + narrow(100, 201, summit))


def test_a_row_without_a_summit(tmp_path):
    with pytest.raises(InputError, match="peaks: line 2: no summit in column 10"):
        read(tmp_path, narrow(1, 9, 0) + "chr1\t1\t9\n")


@pytest.mark.parametrize("columns", [3, 6, 9, 12])
def test_other_tables_are_bed(tmp_path, columns):
    row = ["chr1", "100", "201", "p", "0", "-", "100", "201", "0", "1", "101", "0"][:columns]
    found, _ = read(tmp_path, "\t".join(row) + "\n")
    assert found.format == "BED"
    assert found.peaks == [peaks.Peak("line 1", "", "chr1", 100, 201, 150, "-" if columns > 5 else ".", None)]


def test_compressed(tmp_path):
    (tmp_path / "peaks.narrowPeak.gz").write_bytes(gzip.compress(narrow(100, 201, 7).encode()))
    assert peaks.read(tmp_path / "peaks.narrowPeak.gz").peaks[0].centre == 107


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("chr1:100-104", ("chr1", 100, 104, ".")),
        ("chr1:101-104", ("chr1", 100, 104, ".")),
        ("chr1:100-104(-)", ("chr1", 100, 104, "-")),
        ("peak_7::chr1:0-4(+)", ("chr1", 0, 4, "+")),
        ("HLA:A*01:1-4(.)", ("HLA:A*01", 0, 4, ".")),
    ],
)
def test_names_that_are_places(tmp_path, name, place):
    found, _ = read(tmp_path, f">{name} more\nACgt\n")
    assert found.format == "FASTA"
    assert found.placed
    (peak,) = found.peaks
    assert (peak.record, peak.start, peak.end, peak.strand) == place
    assert (peak.at, peak.name) == (f"record {name!r}", name)
    assert kmers.decode(peak.bases) == "ACGT"


@pytest.mark.parametrize("name", ["peak1", "chr1:100-102", "chr1:100-105", "chr1:104-100", "chr1:100-104(x)", ":0-4"])
def test_names_that_are_none(tmp_path, name):
    found, said = read(tmp_path, f">{name}\nACGT\n")
    assert not found.placed
    assert (found.peaks[0].record, found.peaks[0].start, found.peaks[0].end) == ("", 0, 4)
    assert said == []


def test_one_name_that_is_no_place_leaves_none(tmp_path):
    found, said = read(tmp_path, ">chr1:100-104(-)\nACGT\n>other\nACG\n")
    assert not found.placed
    assert [(each.record, each.start, each.end, each.centre, each.strand) for each in found.peaks] == [
        ("", 0, 4, 2, "."),
        ("", 0, 3, 1, "."),
    ]
    assert len(said) == 1
    assert "1 of 2 names are no places of as many bases, 'other' the first" in said[0]


def test_an_empty_file(tmp_path):
    with pytest.raises(InputError, match="no intervals"):
        read(tmp_path, "# nothing\n")


def test_real_peaks(shared_data):
    found = peaks.read(shared_data / "tfbs" / "oct4_peaks_200bp.fa")
    assert found.placed
    assert len(found.peaks) == 3897
    assert {each.end - each.start for each in found.peaks} == {len(each.bases) for each in found.peaks} == {200}
    assert np.concatenate([each.bases for each in found.peaks]).max() < kmers.N
