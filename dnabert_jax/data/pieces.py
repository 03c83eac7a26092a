"""Sequences longer than a model reads, in pieces that it does read.

DNABERT-XL's way (Ji et al. 2021): the k-mers of a sequence are cut into runs of the model's length, each k-mer in one
run, so all pieces but the last are full. In bases, neighbouring pieces share k - 1.
"""

import numpy as np

from dnabert_jax import kmers


def count(bases: int, k: int, max_kmers: int) -> int:
    """Pieces of a sequence of so many bases; 0 where it has no k-mer.

    Args:
      bases: length of the sequence.
      k: k-mer length.
      max_kmers: k-mers in the longest segment that the model reads.

    Raises:
      InputError: k is out of range.
    """
    kmers.check_k(k)
    return -(-max(bases - k + 1, 0) // max_kmers)


def split(bases: np.ndarray, k: int, max_kmers: int) -> list[np.ndarray]:
    """The pieces of a sequence, from its beginning to its end.

    Args:
      bases: uint8[n] of base codes.
      k: k-mer length.
      max_kmers: k-mers in the longest segment that the model reads.

    Returns:
      `count(n, k, max_kmers)` views of `bases`, uint8[max_kmers + k - 1] each but the last, which may be shorter. Their
      k-mers one after another are those of the sequence.

    Raises:
      InputError: k is out of range.
    """
    starts = range(0, count(len(bases), k, max_kmers) * max_kmers, max_kmers)
    return [bases[start : start + max_kmers + k - 1] for start in starts]
