"""The vocabulary of a Hugging Face model: checked against DNABERT's when one is read, written when one is written.

Token ids are arithmetic here (`dnabert_jax.kmers`), so a vocabulary only has to be the right one. One with the same
tokens in another order can be put in order, since a token's id is nothing but its row in the embeddings.
"""

import json
from pathlib import Path

import numpy as np

from dnabert_jax import kmers
from dnabert_jax.errors import InputError
from dnabert_jax.hub.files import TOKENIZER, VOCABULARY, Say, read_json

SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
"""Files that `write` writes beside the vocabulary."""

_SIZES = "4^k + 5 with k from 1 to 12, such as 4101 for k = 6"


def k_of(size: int, source: str) -> int:
    """The k of a vocabulary of `size` tokens.

    Raises:
      InputError: there is none.
    """
    for k in range(1, kmers.MAX_K + 1):
        if size == kmers.vocabulary_size(k):
            return k
    raise InputError(f"{source}: the vocabulary has {size:,} tokens; expected {_SIZES}")


def order(folder: Path, k: int, say: Say, *, permute: bool) -> np.ndarray | None:
    """How the rows of the embeddings come into DNABERT's order.

    Args:
      folder: of the model; the vocabulary is that of `vocab.txt` or, where there is none, of `tokenizer.json`.
      k: of the model.
      say: hears of a missing vocabulary, which is taken to be DNABERT's, and of a permutation.
      permute: allow the tokens to have another order.

    Returns:
      int[4^k + 5], for each of our token ids theirs; None where they are the same.

    Raises:
      InputError: other tokens, or another order and not `permute`.
    """
    file, found = _read(folder)
    expected = kmers.vocabulary(k)
    if found is None:
        say(f"{folder}: holds no {VOCABULARY}; its token ids are taken to be DNABERT's for k = {k}")
        return None
    if len(found) != len(expected):
        k_of(len(found), str(file))
        raise InputError(f"{file}: has {len(found):,} tokens; expected {len(expected):,}, as the config says")
    if found == expected:
        return None
    first = next(i for i, (ours, theirs) in enumerate(zip(expected, found)) if ours != theirs)
    wrong = f"{file}: token {first} is {found[first]!r}; expected {expected[first]!r}, as in DNABERT's vocabulary"
    if sorted(found) != sorted(expected):
        raise InputError(wrong)
    if not permute:
        raise InputError(
            f"{wrong}; the tokens are the right ones in another order, and `dnabert convert` with "
            "--permute-vocabulary (permute=True) puts them in DNABERT's"
        )
    place = {token: i for i, token in enumerate(found)}
    say(f"{file}: the tokens are put in DNABERT's order")
    return np.array([place[token] for token in expected])


def _read(folder: Path) -> tuple[Path, list[str] | None]:
    file = folder / VOCABULARY
    if file.is_file():
        try:
            lines = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}); expected one token a line") from None
        return file, [line.rstrip() for line in lines]
    file = folder / TOKENIZER
    if not file.is_file():
        return file, None
    model = read_json(file).get("model")
    ids = model.get("vocab") if isinstance(model, dict) else None
    if not (isinstance(ids, dict) and sorted(ids.values(), key=str) == sorted(range(len(ids)), key=str)):
        raise InputError(f"{file}: has no vocabulary with the ids 0 to n - 1; expected the tokenizer of a BERT")
    return file, sorted(ids, key=ids.__getitem__)


def write(folder: Path, k: int, max_length: int) -> None:
    """Writes `vocab.txt` and what makes transformers read k-mers, parted by blanks and in capitals, as we do.

    Args:
      folder: of the model.
      k: of the model.
      max_length: tokens in the longest segment, [CLS] and [SEP] included.
    """
    special = {f"{token.strip('[]').lower()}_token": token for token in kmers.SPECIAL_TOKENS}
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": False,
        "strip_accents": False,
        "tokenize_chinese_chars": False,
        "model_max_length": max_length,
        **special,
    }
    (folder / VOCABULARY).write_text("\n".join(kmers.vocabulary(k)) + "\n", encoding="utf-8")
    for name, values in zip(SETTINGS, (settings, special)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
