"""Negatives that keep the dinucleotides of a positive: its bases in another order, every pair of neighbours as often.

Dinucleotides say much about a promoter or a bound site (CpG above all), so a model that tells a sequence from such a
shuffle has looked at more than them. The shuffles are exact: Euler walks through the graph whose edges are the
dinucleotides (Altschul and Erickson 1985; Kandel et al. 1996), each walk as likely as any other, by `dinuc_shuf`.
"""

from collections import defaultdict
from collections.abc import Sequence

import dinuc_shuf
import numpy as np

from dnabert_jax import kmers

_LETTERS = len(kmers.LETTERS)
_ONE_HOT = np.eye(_LETTERS - 1, dtype=np.uint8)
_AT_ONCE = 4096
"""Stretches of one length that are shuffled together: 5 MB in one-hot form at 300 bases."""


def dinucleotide(sequences: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffles each sequence so that every dinucleotide occurs as often as before.

    The first and the last base stay, as they do in every such shuffle. An N stays where it is, and the stretches
    between N are shuffled one by one, so that the dinucleotides with N are kept too. A sequence of very few bases may
    have no other order; then it comes back as it was.

    Args:
      sequences: uint8[n] of base codes each, of any lengths.
      rng: decides everything; the same sequences and state give the same shuffles.

    Returns:
      As many arrays, each uint8 of its source's length.

    Raises:
      ArithmeticError: a shuffle that did not keep its dinucleotides, which would be a fault of the program.
    """
    sequences = [np.asarray(sequence, np.uint8) for sequence in sequences]
    shuffled = [sequence.copy() for sequence in sequences]
    by_length: dict[int, list[np.ndarray]] = defaultdict(list)
    for sequence in shuffled:
        for start, end in _known_stretches(sequence):
            if end - start > 3:  # three bases or fewer have one order only
                by_length[end - start].append(sequence[start:end])
    for length in sorted(by_length):
        stretches = by_length[length]
        for first in range(0, len(stretches), _AT_ONCE):
            batch = stretches[first : first + _AT_ONCE]
            found = dinuc_shuf.shuffle(_ONE_HOT[np.stack(batch)], rng, verify=False).argmax(2)
            for stretch, bases in zip(batch, found):
                stretch[:] = bases
    _require_kept(sequences, shuffled)
    return shuffled


def _known_stretches(sequence: np.ndarray) -> np.ndarray:
    """(start, end) of the stretches without N: int64[n, 2]."""
    known = np.concatenate([[False], sequence != kmers.N, [False]])
    return np.flatnonzero(known[1:] != known[:-1]).reshape(-1, 2)


def _require_kept(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> None:
    for first in range(0, len(before), _AT_ONCE):
        counts = [_counts(sequences[first : first + _AT_ONCE]) for sequences in (before, after)]
        if not np.array_equal(*counts):
            raise ArithmeticError("a shuffle did not keep the dinucleotides of its sequence")


def _counts(sequences: Sequence[np.ndarray]) -> np.ndarray:
    """Dinucleotides of each sequence, N a letter like the others: int64[n, 25]."""
    pairs = [sequence[:-1] * np.uint8(_LETTERS) + sequence[1:] for sequence in sequences]
    rows = np.repeat(np.arange(len(pairs)), [len(each) for each in pairs])
    places = rows * _LETTERS**2 + np.concatenate(pairs) if pairs else rows
    return np.bincount(places, minlength=len(pairs) * _LETTERS**2).reshape(len(pairs), _LETTERS**2)
