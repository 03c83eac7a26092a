"""Windows on either strand against string slices."""

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.data.fasta import IndexedFasta
from dnabert_jax.tasks import splits
from dnabert_jax.tasks import windows as windows_of
from dnabert_jax.tasks.dataset import Place
from dnabert_jax.tasks.windows import Locus, Windows

HALF = 4
PAIRS = str.maketrans("ACGTN", "TGCAN")
SEQUENCE = "".join(np.random.default_rng(5).choice(list("ACGT"), 120))
SEQUENCE = SEQUENCE[:60] + "N" + SEQUENCE[61:]


@pytest.fixture
def windows(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(f">r\n{SEQUENCE}\n")
    lengths = {"r": len(SEQUENCE)}
    with IndexedFasta(path) as genome:
        yield Windows(genome, lengths, splits.by_region(["r:31-50"], [], lengths), HALF)


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize(("start", "end"), [(0, 120), (20, 100), (2, 117)])
def test_windows_are_slices(windows, strand, start, end):
    reading = windows.around(Locus("r", strand, start, end))
    borders = np.arange(start, end + 1)
    inside = (borders >= HALF) & (borders <= len(SEQUENCE) - HALF)
    assert reading.inside(borders).tolist() == inside.tolist()
    borders = borders[inside]
    slices = [SEQUENCE[border - HALF : border + HALF] for border in borders]
    assert reading.known(borders).tolist() == ["N" not in each for each in slices]
    found = [kmers.decode(reading.bases(border)) for border in borders]
    assert found == [each if strand == "+" else each.translate(PAIRS)[::-1] for each in slices]
    expected = []
    for border in borders:
        where = {30 <= base < 50 for base in range(border - HALF, border + HALF)}
        expected.append(splits.NOWHERE if len(where) == 2 else splits.VALIDATION if where.pop() else splits.TRAIN)
    assert reading.split(borders).tolist() == expected


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize(("letters", "shift"), [("GT", 0), ("AG", 2)])
def test_borders_beside_two_bases(windows, strand, letters, shift):
    reading = windows.around(Locus("r", strand, 20, 100))
    found = reading.borders_at(tuple(kmers.encode(letters)), shift)
    expected = []
    for border in range(20, 101):
        # What is read from `shift` bases before the border on.
        if strand == "+":
            read = SEQUENCE[border - shift : border - shift + 2]
        else:
            read = SEQUENCE[border + shift - 2 : border + shift].translate(PAIRS)[::-1]
        if read == letters:
            expected.append(border)
    assert sorted(found.tolist()) == expected
    assert expected
    borders = np.arange(20, 101)
    assert borders[reading.reads(borders, tuple(kmers.encode(letters)), shift)].tolist() == expected


def test_any_window_of_the_genome(windows):
    assert windows_of.at("r", 30, "-", 5) == Place("r", 25, 35, "-")
    for strand in "+-.":
        found = kmers.decode(windows_of.read(windows.genome, Place("r", 25, 35, strand)))
        assert found == (SEQUENCE[25:35].translate(PAIRS)[::-1] if strand == "-" else SEQUENCE[25:35])
