"""DNABERT's text of k-mers, `ATGCAT TGCATG GCATGC ...`, turned back into the bases that it was made from.

The original repository stores sequences this way, once per k. Any k is recognised from the words themselves, and the
bases then serve a model of any other k.
"""

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.errors import InputError


def parse(text: str) -> np.ndarray | None:
    """Reads overlapping k-mers at stride 1, parted by blanks.

    Args:
      text: two or more k-mers of one length.

    Returns:
      uint8[words + k - 1] of base codes, or None where the text is a single word and so no text of k-mers.

    Raises:
      InputError: words of different lengths, a letter that is no nucleotide, or a k-mer that does not continue the one
        before it.
    """
    words = text.split()
    if len(words) < 2:
        return None
    k = len(words[0])
    for number, word in enumerate(words, 1):
        if len(word) != k:
            raise InputError(f"k-mer {number} ({word}) has {len(word)} letters; expected {k} as in the first")
    bases = kmers.encode("".join(words)).reshape(len(words), k)
    breaks = (bases[1:, :-1] != bases[:-1, 1:]).any(axis=1)
    if breaks.any():
        at = int(np.argmax(breaks)) + 1
        before, word = words[at - 1], words[at]
        raise InputError(f"k-mer {at + 1} ({word}) does not continue {before}; expected k-mers that overlap by {k - 1}")
    return np.concatenate([bases[0], bases[1:, -1]])
