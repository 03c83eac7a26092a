"""The vocabulary: DNABERT's passes, a permutation is offered and undone, and any other is refused by its first line."""

import json

import numpy as np
import pytest

from dnabert_jax import kmers
from dnabert_jax.errors import InputError
from dnabert_jax.hub import vocabulary

TOKENS = kmers.vocabulary(2)


def write(folder, tokens, end="\n"):
    (folder / "vocab.txt").write_text(end.join([*tokens, ""]), newline="")


def order(folder, **options):
    return vocabulary.order(folder, 2, options.pop("say", pytest.fail), **{"permute": False, **options})


@pytest.mark.parametrize("k", [1, 3, 6])
def test_sizes(k):
    assert vocabulary.k_of(4**k + 5, "here") == k


@pytest.mark.parametrize("size", [0, 5, 4096, 4102, 4**13 + 5])
def test_sizes_of_no_k(size):
    with pytest.raises(InputError, match=r"here: the vocabulary has .* tokens; expected 4\^k \+ 5"):
        vocabulary.k_of(size, "here")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dnaberts_vocabulary_passes(tmp_path, end):
    write(tmp_path, TOKENS, end)
    assert order(tmp_path) is None


def test_a_missing_vocabulary_is_said(tmp_path):
    said = []
    assert order(tmp_path, say=said.append) is None
    assert "no vocab.txt" in said[0]


def shuffled():
    places = np.random.default_rng(0).permutation(len(TOKENS))
    return [TOKENS[place] for place in places]


def test_a_permutation_is_offered_and_then_undone(tmp_path):
    theirs = shuffled()
    write(tmp_path, theirs)
    with pytest.raises(InputError, match=r"vocab.txt: token 0 is .*'\[PAD\]'.*--permute-vocabulary"):
        order(tmp_path)
    said = []
    found = order(tmp_path, permute=True, say=said.append)
    assert [theirs[i] for i in found] == TOKENS
    assert "DNABERT's order" in said[0]


@pytest.mark.parametrize("permute", [False, True])
def test_the_first_wrong_token_is_named(tmp_path, permute):
    wrong = list(TOKENS)
    wrong[7], wrong[9] = "AX", "AA"
    write(tmp_path, wrong)
    with pytest.raises(InputError, match=r"vocab.txt: token 7 is 'AX'; expected 'AC', as in DNABERT's vocabulary$"):
        order(tmp_path, permute=permute)


def test_another_number_of_tokens(tmp_path):
    write(tmp_path, TOKENS[:-1])
    with pytest.raises(InputError, match=r"vocab.txt: the vocabulary has 20 tokens"):
        order(tmp_path)
    write(tmp_path, kmers.vocabulary(3))
    with pytest.raises(InputError, match=r"vocab.txt: has 69 tokens; expected 21, as the config says"):
        order(tmp_path)


def test_what_is_no_text(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"vocab.txt: cannot be read"):
        order(tmp_path)


def test_the_vocabulary_of_a_tokenizer_json(tmp_path):
    def put(ids):
        (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": ids}}))

    put({token: i for i, token in enumerate(TOKENS)})
    assert order(tmp_path) is None
    put({token: i for i, token in enumerate(shuffled())})
    assert [shuffled()[i] for i in order(tmp_path, permute=True, say=lambda _: None)] == TOKENS
    put({token: 0 for token in TOKENS})
    with pytest.raises(InputError, match=r"tokenizer.json: has no vocabulary with the ids 0 to n - 1"):
        order(tmp_path)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_what_is_written_is_read(tmp_path, k):
    vocabulary.write(tmp_path, k, 64)
    assert vocabulary.order(tmp_path, k, pytest.fail, permute=False) is None
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 64
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["mask_token"] == "[MASK]"
