"""Whether a promoter has a TATA box, and where a genome reads like one.

The box is scored with the position weight matrix of TBP that JASPAR has as MA0108.2, of 389 sites and 15 positions
after Bucher (1990). A position adds log2 of the letter's share among the sites, with one more counted of every letter,
over 1/4. The second to seventh positions are TATAAA at best; a promoter has a box where these six bases lie within
-35..-20 and the matrix, all 15 of its positions, scores `SCORE` or more.

Bucher P (1990) J Mol Biol 212:563-578. JASPAR: Sandelin et al. (2004) Nucleic Acids Res 32:D91-D94.
"""

from types import MappingProxyType

import numpy as np
from Bio import motifs

from dnabert_jax import kmers

COUNTS = MappingProxyType(
    {
        "A": (61, 16, 352, 3, 354, 268, 360, 222, 155, 56, 83, 82, 82, 68, 77),
        "C": (145, 46, 0, 10, 0, 0, 3, 2, 44, 135, 147, 127, 118, 107, 101),
        "G": (152, 18, 2, 2, 5, 0, 20, 44, 157, 150, 128, 128, 128, 139, 140),
        "T": (31, 309, 35, 374, 30, 121, 6, 121, 33, 48, 31, 52, 61, 75, 71),
    }
)
"""JASPAR MA0108.2: how many of the 389 sites have each letter at each position."""
LENGTH = 15

SCORE = 3.37
"""Bits; the most is 16.15. One place in 200 of DNA whose four letters are equally likely scores as much. Of EPDnew's
2,929 human promoters with a TATA box 99.6 % do at -35..-20, and 6.6 % of random windows of human chromosome 20."""

FIRST, LAST = -36, -26
"""Where the matrix may begin, as distances from the site: its second to seventh positions are then within -35..-20."""
STRETCH = LAST - FIRST + LENGTH
"""Bases, from FIRST on, that decide whether there is a box."""

_MATRIX = motifs.Motif(alphabet="ACGT", counts={letter: list(row) for letter, row in COUNTS.items()})
_WEIGHTS = _MATRIX.counts.normalize(pseudocounts=1).log_odds()

# A score is looked up as the sum of two: of the 8-mer at a place, and of the one 7 further on without its first base.
# On a whole chromosome that takes a tenth of the time of a sum over 15 positions.
_K = 8


def _tables(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each 8-mer adds to a score, by token id, as the first and as the second of a place: float32 each."""
    letters = kmers.kmer_bases(_K)
    unknown = np.full(kmers.FIRST_KMER, -np.inf)
    first = weights[np.arange(_K), letters].sum(axis=1)
    second = weights[np.arange(_K, LENGTH), letters[:, 1:]].sum(axis=1)
    return tuple(np.concatenate([unknown, part]).astype(np.float32) for part in (first, second))


_TABLES = {
    strand: _tables(np.array([weights[letter] for letter in kmers.LETTERS[:4]]).T)
    for strand, weights in (("+", _WEIGHTS), ("-", _WEIGHTS.reverse_complement()))
}


def scores(bases: np.ndarray, strand: str = "+") -> np.ndarray:
    """The score of the matrix wherever it fits.

    Args:
      bases: uint8[n] of base codes, on the forward strand.
      strand: which strand the box is read on.

    Returns:
      float32[n - 14], bits, by the first of the 15 bases on the forward strand; -inf where they hold an N.
    """
    tokens = kmers.tokenize(bases, _K)
    first, second = _TABLES[strand]
    apart = LENGTH - _K
    return first[tokens[:-apart]] + second[tokens[apart:]]


def best(stretches: np.ndarray) -> np.ndarray:
    """The best score of a box at -35..-20 of each site.

    Args:
      stretches: uint8[n, STRETCH], the bases from FIRST on, read on the site's strand.

    Returns:
      float32[n], bits.
    """
    flat = scores(np.ascontiguousarray(stretches).reshape(-1))
    places = np.arange(len(stretches))[:, None] * STRETCH + np.arange(STRETCH - LENGTH + 1)
    return flat[places].max(axis=1) if len(stretches) else np.zeros(0, np.float32)


def sites_of(places: np.ndarray, offsets: np.ndarray, strand: str) -> np.ndarray:
    """The sites that would have a box at given places.

    Args:
      places: int[n], where 15 bases begin on the forward strand, as `scores` has them.
      offsets: int[n], where the matrix begins as seen from the site, FIRST..LAST.
      strand: the strand that the box is read on.

    Returns:
      int64[n], 0-based; some may lie outside the record.
    """
    places, offsets = np.asarray(places, np.int64), np.asarray(offsets, np.int64)
    return places - offsets if strand == "+" else places + LENGTH - 1 + offsets
