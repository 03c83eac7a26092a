"""Bases, k-mers and DNABERT's vocabulary, as arithmetic on NumPy arrays.

Bases are uint8 codes A=0, T=1, C=2, G=3, N=4, in the letter order of DNABERT's `vocab.txt`, so the complement of a base
is `base ^ 1` and the token id of the k-mer b1..bk is `5 + Σ b_i·4^(k-i)`. A k-mer that contains N is `[UNK]`. No
vocabulary file is ever read. Pretraining, fine-tuning, prediction and export all tokenise here.
"""

import numpy as np

from dnabert_jax.errors import InputError

LETTERS = "ATCGN"
A, T, C, G, N = range(5)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_KMER = len(SPECIAL_TOKENS)

MAX_K = 12
"""Longest k that is accepted: its vocabulary of 16.8 million tokens is the last to fit an embedding table."""

_IUPAC_AMBIGUOUS = "NRYSWKMBDHVX"
_NOT_A_BASE = 255


def _letter_codes() -> np.ndarray:
    codes = np.full(256, _NOT_A_BASE, np.uint8)
    for letters, code in (("A", A), ("TU", T), ("C", C), ("G", G), (_IUPAC_AMBIGUOUS, N)):
        for letter in letters:
            codes[ord(letter)] = codes[ord(letter.lower())] = code
    return codes


_CODE_OF_LETTER = _letter_codes()
_LETTER_OF_CODE = np.frombuffer(LETTERS.encode(), np.uint8)


def check_k(k: int) -> None:
    """Raises InputError unless `1 <= k <= MAX_K`."""
    if not 1 <= k <= MAX_K:
        raise InputError(f"k is {k}; expected a whole number from 1 to {MAX_K}")


def encode(sequence: str | bytes) -> np.ndarray:
    """Letters to bases.

    Args:
      sequence: IUPAC nucleotide letters in either case. U reads as T; every ambiguity letter reads as N.

    Returns:
      uint8[len(sequence)] of base codes.

    Raises:
      InputError: a character is no IUPAC nucleotide letter; the message gives it and its 1-based position.
    """
    if isinstance(sequence, str):
        sequence = sequence.encode("utf-8", "surrogateescape")
    codes = _CODE_OF_LETTER[np.frombuffer(sequence, np.uint8)]
    if codes.size and codes.max() == _NOT_A_BASE:
        at = int(np.argmax(codes))
        letter = sequence[at:].decode("utf-8", "replace")[0]
        raise InputError(f"{letter!r} at position {at + 1} is no nucleotide; expected A, C, G, T or an IUPAC letter")
    return codes


def decode(bases: np.ndarray) -> str:
    """Bases, uint8[n], to upper-case letters; the inverse of `encode` on A, C, G, T and N."""
    return _LETTER_OF_CODE[np.asarray(bases, np.uint8)].tobytes().decode()


def reverse_complement(bases: np.ndarray) -> np.ndarray:
    """The other strand, read 5' to 3': uint8[..., n] to uint8[..., n]. N stays N."""
    flipped = np.asarray(bases, np.uint8)[..., ::-1]
    return np.where(flipped == N, np.uint8(N), flipped ^ 1)


def vocabulary_size(k: int) -> int:
    """Number of tokens, special ones included: `4**k + 5`."""
    check_k(k)
    return FIRST_KMER + 4**k


def vocabulary(k: int) -> list[str]:
    """DNABERT's `vocab.txt` for this k: one token a line, the line number its id."""
    return [*SPECIAL_TOKENS, *(decode(bases) for bases in kmer_bases(k))]


def kmer_bases(k: int) -> np.ndarray:
    """The bases of every k-mer in vocabulary order: uint8[4**k, k]; row i has token id `FIRST_KMER + i`."""
    check_k(k)
    shifts = 2 * np.arange(k - 1, -1, -1)
    return ((np.arange(4**k)[:, None] >> shifts) & 3).astype(np.uint8)


def tokenize(bases: np.ndarray, k: int) -> np.ndarray:
    """Overlapping k-mers at stride 1, without `[CLS]` and `[SEP]`.

    Args:
      bases: uint8[..., n] of base codes.
      k: k-mer length, 1..MAX_K.

    Returns:
      int32[..., n - k + 1] of token ids; `[UNK]` wherever the k-mer contains N. Empty when n < k.

    Raises:
      InputError: k is out of range.
    """
    check_k(k)
    bases = np.asarray(bases, np.uint8)
    count = max(bases.shape[-1] - k + 1, 0)
    if not count:
        return np.zeros((*bases.shape[:-1], 0), np.int32)
    ids = _window_sums(bases, k, count)
    ids += FIRST_KMER
    unknown = bases == N
    if unknown.any():
        ids[_window_any(unknown, k, count)] = UNK
    return ids


def _window_sums(bases: np.ndarray, k: int, count: int) -> np.ndarray:
    """Σ b_i·4^(k-i) over each window of k, in about log2(k) passes: windows of 2w come from windows of w."""
    dtype = np.uint16 if k <= 8 else np.int32  # an N overflows harmlessly: its windows become [UNK]
    window, width = bases.astype(dtype), 1
    total, covered = None, 0
    for bit in bin(k)[:1:-1]:
        if bit == "1":
            head = window if total is None else window[..., : window.shape[-1] - covered]
            if total is None:
                total, covered = head, width
            else:
                tail = total[..., width:]
                shared = min(head.shape[-1], tail.shape[-1])
                total = (head[..., :shared] << dtype(2 * covered)) + tail[..., :shared]
                covered += width
        if width * 2 <= k:
            window = (window[..., :-width] << dtype(2 * width)) + window[..., width:]
            width *= 2
    return total[..., :count].astype(np.int32)


def _window_any(flags: np.ndarray, k: int, count: int) -> np.ndarray:
    """Whether any of the k flags of each window is set: bool[..., count]."""
    out = flags[..., :count].copy()
    for offset in range(1, k):
        out |= flags[..., offset : offset + count]
    return out


def detokenize(tokens: np.ndarray, k: int) -> np.ndarray:
    """The inverse of `tokenize`: overlapping k-mers back to bases.

    Args:
      tokens: int[n] of k-mer ids and `[UNK]`, without other special tokens.
      k: k-mer length.

    Returns:
      uint8[n + k - 1]; a base is N where no k-mer that covers it is known. Empty when n is 0.

    Raises:
      InputError: an id is out of range, or two neighbouring k-mers disagree about a base that they share.
    """
    check_k(k)
    tokens = np.asarray(tokens, np.int64)
    if not tokens.size:
        return np.zeros(0, np.uint8)
    wrong = (tokens != UNK) & ((tokens < FIRST_KMER) | (tokens >= vocabulary_size(k)))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(f"token {tokens[at]} at position {at + 1} is no {k}-mer")
    bases = np.full(tokens.size + k - 1, N, np.uint8)
    known = np.flatnonzero(tokens != UNK)
    codes = tokens[known] - FIRST_KMER
    for offset in range(k):
        places = known + offset
        values = ((codes >> (2 * (k - 1 - offset))) & 3).astype(np.uint8)
        clash = (bases[places] != N) & (bases[places] != values)
        if clash.any():
            raise InputError(f"the k-mer at position {known[np.argmax(clash)] + 1} disagrees with its neighbours")
        bases[places] = values
    return bases
