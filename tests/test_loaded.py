"""The model object: what it says about sequences as people have them, and what it says where it cannot."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dnabert_jax as dnabert
from dnabert_jax import kmers, stored
from dnabert_jax.inference import embeddings, hidden_bases, predictions
from dnabert_jax.loaded import Model
from tests import tiny

K = tiny.ENCODER.k
ARRAYS = tiny.dna(40, 3, 64, 150)
LETTERS = [kmers.decode(bases) for bases in ARRAYS]


def _model(head: str, classes: tuple[str, ...] = (), **others) -> Model:
    config, params = tiny.model(head, classes, **others)
    return Model(config, jax.device_put(params), "random", batch_size=4)


@pytest.fixture(scope="module")
def bare() -> Model:
    return _model("none")


@pytest.fixture(scope="module")
def masked_lm() -> Model:
    return _model("masked_lm")


@pytest.fixture(scope="module")
def classifier() -> Model:
    return _model("single_label", ("a", "b", "c"))


def test_loading(tmp_path: Path):
    config, params = tiny.model("single_label", ("a", "b"))
    stored.write(tmp_path / "model", dataclasses.replace(config, encoder=tiny.ENCODER), params)
    model = dnabert.load(tmp_path / "model", batch_size=2)
    assert isinstance(model, dnabert.Model)
    assert model.origin == "converted model"
    assert model.batch_size == 2
    assert model.config.classes == ("a", "b")
    assert model.config.encoder.attention == "auto"
    kind = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    assert model.config.encoder == dataclasses.replace(tiny.without_dropout(), compute_dtype=kind)
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    assert dnabert.load(tmp_path / "model", compute_dtype="bfloat16").config.encoder.compute_dtype == "bfloat16"
    with pytest.raises(dnabert.InputError, match="batch size is 0; expected 1 or more"):
        dnabert.load(tmp_path / "model", batch_size=0)


def test_it_does_not_change_and_is_itself_only(bare):
    with pytest.raises(dataclasses.FrozenInstanceError):
        bare.batch_size = 3
    twin = dataclasses.replace(bare)
    assert bare == bare
    assert bare != twin
    assert len({bare, twin}) == 2
    assert len(repr(bare)) < 1000


def test_tokens(bare):
    found = bare.tokenize(LETTERS)
    for tokens, bases in zip(found, ARRAYS, strict=True):
        assert tokens.dtype == np.int32
        np.testing.assert_array_equal(tokens, [kmers.CLS, *kmers.tokenize(bases, K), kmers.SEP])


@pytest.mark.parametrize(
    "written",
    [
        [letters.lower() for letters in LETTERS],
        [letters.encode() for letters in LETTERS],
        [letters.replace("T", "U") + "\n" for letters in LETTERS],
        ARRAYS,
        [" ".join(letters[at : at + 2] for at in range(len(letters) - 1)) for letters in LETTERS],
    ],
    ids=["lower case", "bytes", "RNA with line ends", "base codes", "text of 2-mers"],
)
def test_sequences_in_every_writing(bare, written):
    for found, expected in zip(bare.tokenize(written), bare.tokenize(LETTERS), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_unknown_base(bare):
    (tokens,) = bare.tokenize(["ACGTNACGTRACG"])
    unknown = [2, 3, 4, 7, 8, 9]
    np.testing.assert_array_equal(np.flatnonzero(tokens[1:-1] == kmers.UNK), unknown)


@pytest.mark.parametrize(
    ("sequences", "said"),
    [
        ("ACGT", "one sequence by itself; expected a list of them"),
        (b"ACGT", "one sequence by itself"),
        (ARRAYS[0], "one sequence by itself"),
        (["ACGT", "ACQT"], r"sequences\[1\]: 'Q' at position 3 is no nucleotide"),
        (["ACGT", "AC"], r"sequences\[1\]: 2 bases; expected at least 3, the length of the model's k-mers"),
        (["ACGT", ""], r"sequences\[1\]: an empty sequence"),
        (["ACG CGT TTT"], r"sequences\[0\]: k-mer 3 \(TTT\) does not continue CGT"),
        (["ACGT", 7], r"sequences\[1\]: int; expected str, bytes or an array of base codes"),
        ([np.zeros(5)], r"sequences\[0\]: an array of float64 and shape \(5,\); expected str, bytes or"),
        ([np.full(5, 9, np.uint8)], r"sequences\[0\]: base code 9; expected codes from 0 to 4"),
        ([b"AC\xffGT"], r"sequences\[0\]: .* at position 3 is no nucleotide"),
    ],
    ids=[
        "str",
        "bytes",
        "array",
        "stray letter",
        "too short",
        "empty",
        "broken k-mers",
        "number",
        "floats",
        "codes out of range",
        "stray byte",
    ],
)
def test_what_is_no_list_of_sequences(bare, sequences, said):
    with pytest.raises(dnabert.InputError, match=said):
        bare.tokenize(sequences)
    with pytest.raises(dnabert.InputError, match=said):
        bare.embed(sequences)


def test_embeddings(bare):
    stream = (bare.config, bare.params, enumerate(ARRAYS))
    for pool in ("mean", "cls"):
        found = bare.embed(LETTERS, pool)
        assert found.shape == (4, 32)
        assert found.dtype == np.float32
        expected = [vector for _, vector in embeddings.embed(*stream[:2], enumerate(ARRAYS), pool=pool, batch_size=4)]
        np.testing.assert_array_equal(found, expected)
    of_kmers = bare.embed(LETTERS, None)
    assert [len(vectors) for vectors in of_kmers] == [len(bases) - K + 1 for bases in ARRAYS]
    np.testing.assert_allclose([vectors.mean(axis=0) for vectors in of_kmers], bare.embed(LETTERS), atol=1e-5)
    assert bare.embed(LETTERS, join="concatenate", pieces=3).shape == (4, 96)
    with pytest.raises(dnabert.InputError, match=r"sequences\[3\]: 150 bases are 3 pieces"):
        bare.embed(LETTERS, join="concatenate", pieces=2)
    with pytest.raises(dnabert.InputError, match="pool is 'max'; expected one of 'mean', 'cls', None"):
        bare.embed(LETTERS, "max")


def test_no_sequences(bare, classifier, masked_lm):
    assert bare.tokenize([]) == []
    assert bare.embed([]).shape == (0, 32)
    assert bare.embed([], join="concatenate", pieces=2).shape == (0, 64)
    assert bare.embed([], None) == []
    assert classifier.predict([]).shape == (0, 3)
    assert masked_lm.masked_lm([]) == []
    assert masked_lm.base_probabilities([], []) == []


def test_predictions(classifier):
    found = classifier.predict(iter(LETTERS))
    assert found.shape == (4, 3)
    assert found.dtype == np.float32
    direct = predictions.predict(classifier.config, classifier.params, enumerate(ARRAYS), batch_size=4)
    np.testing.assert_array_equal(found, [values for _, values in direct])


def test_predictions_of_bases():
    found = _model("per_base", ("E", "I")).predict(LETTERS)
    assert [values.shape for values in found] == [(len(bases), 2) for bases in ARRAYS]


def test_masked_lm(masked_lm):
    hide = [[0, 7], [], [63], [61, 3]]
    hidden = [np.isin(np.arange(len(bases)), places) for bases, places in zip(ARRAYS, hide, strict=True)]
    stream = list(zip(range(4), ARRAYS, hidden, strict=True))
    expected = hidden_bases.logits(masked_lm.config, masked_lm.params, stream, batch_size=4)
    found = masked_lm.masked_lm(LETTERS, hide)
    for values, (_, direct) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, direct)
    plain = masked_lm.masked_lm(LETTERS)
    assert [values.shape for values in plain] == [(len(bases) - K + 1, 4**K + 5) for bases in ARRAYS]
    np.testing.assert_allclose(plain[1], found[1], atol=1e-5)
    assert np.abs(plain[0] - found[0]).max() > 1e-2


def test_base_probabilities_come_in_the_order_asked_for(masked_lm):
    (dna,) = LETTERS[:1]
    (forwards,) = masked_lm.base_probabilities([dna], [[4, 9, 30]])
    (backwards,) = masked_lm.base_probabilities([dna], [[30, 4, 9, 9]])
    np.testing.assert_array_equal(backwards, forwards[[2, 0, 1, 1]])
    other = dna[:9] + ("A" if dna[9] != "A" else "C") + dna[10:]
    (same,) = masked_lm.base_probabilities([other], [[4, 9, 30]])
    np.testing.assert_array_equal(same, forwards)


@pytest.mark.parametrize(
    ("hide", "said"),
    [
        ([[0]], r"sequences\[1\]: hide has no places for it"),
        ([[0], [1], [2]], "hide is longer than sequences"),
        ([[0], [40]], r"sequences\[1\]: hide has 40; expected places from 0 to 7"),
        ([[-1], [0]], r"sequences\[0\]: hide has -1; expected places from 0 to 3"),
        ([[0.5], [0]], r"sequences\[0\]: hide is \[0.5\]; expected 0-based places"),
    ],
    ids=["too few", "too many", "past the end", "negative", "no number"],
)
def test_places_that_do_not_fit(masked_lm, hide, said):
    with pytest.raises(dnabert.InputError, match=said):
        masked_lm.base_probabilities(["ACGT", "ACGTACGT"], hide)
    with pytest.raises(dnabert.InputError, match=said):
        masked_lm.masked_lm(["ACGT", "ACGTACGT"], hide)


def test_a_model_without_the_head_says_what_it_has(bare, masked_lm, classifier):
    with pytest.raises(
        dnabert.InputError, match="predicts nothing, for it has an encoder only; expected a fine-tuned model"
    ):
        bare.predict(LETTERS)
    with pytest.raises(dnabert.InputError, match="it has a masked-LM head only"):
        masked_lm.predict(LETTERS)
    with pytest.raises(
        dnabert.InputError, match="fills nothing in, for it has a classifier of sequences; expected one with"
    ):
        classifier.masked_lm(LETTERS)
    with pytest.raises(dnabert.InputError, match="it has an encoder only"):
        bare.base_probabilities(LETTERS, [[0]] * 4)


def test_the_pure_function_of_the_model(classifier):
    batch = tiny.rows([[5], [22]], 64)
    outputs = jax.jit(classifier.apply)(classifier.params, batch)
    direct = dnabert.apply(classifier.config, classifier.params, batch)
    np.testing.assert_allclose(outputs.logits, direct.logits, atol=1e-5)
    gradients = jax.jit(jax.grad(lambda params: classifier.apply(params, batch).logits.sum()))(classifier.params)
    assert float(jnp.abs(gradients["classifier"]["kernel"]).max()) > 0
