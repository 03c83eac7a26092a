"""DeePromoter's negatives: promoters of which three parts in five are replaced.

Oubounyt et al. (2019) Front Genet 10:286 cut each promoter into 20 pieces, put random bases in the place of 12 of them,
drawn at random, and leave the other 8 as and where they are. What is left keeps elements of the promoter in their
places, so that one element alone does not tell the classes apart.
"""

from collections.abc import Sequence

import numpy as np

PIECES = 20
REPLACED = 12


def replaced(sequences: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Copies of sequences with random bases in 12 of their 20 pieces.

    The pieces are of one length, or differ by one base where the length is no multiple of 20. A random base may happen
    to be the one that was there.

    Args:
      sequences: uint8[n] of base codes each, n at least 20.
      rng: decides everything.

    Returns:
      As many arrays, each of its source's length.
    """
    out = []
    for sequence in sequences:
        borders = np.arange(PIECES + 1) * len(sequence) // PIECES
        drawn = np.zeros(PIECES, bool)
        drawn[rng.permutation(PIECES)[:REPLACED]] = True
        places = np.repeat(drawn, np.diff(borders))
        out.append(np.where(places, rng.integers(0, 4, len(sequence), np.uint8), sequence).astype(np.uint8))
    return out
