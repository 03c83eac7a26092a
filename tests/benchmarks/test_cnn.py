import cnn
import jax
import numpy as np
import pytest

from dnabert_jax import kmers
from tests import tiny


def _params(network, length: int):
    init = jax.jit(network.init, static_argnums=2)
    return init(jax.random.key(0), np.zeros((1, length), np.uint8), True)["params"]


def _shapes(network, length: int):
    return jax.tree.map(np.shape, jax.eval_shape(lambda: _params(network, length)))


def test_the_networks_have_the_papers_shapes():
    shapes = _shapes(cnn.SpliceFinder(3), 400)
    assert shapes["conv"]["kernel"] == (9, 4, 50)
    assert shapes["hidden"]["kernel"] == (400 * 50, 100)
    assert shapes["out"]["kernel"] == (100, 3)
    shapes = _shapes(cnn.DeepBind(2), 101)
    assert shapes["conv"]["kernel"] == (24, 4, 16)
    assert shapes["hidden"]["kernel"] == (16, 32)
    assert shapes["out"]["kernel"] == (32, 2)


def test_bases_are_one_hot_and_unknown_ones_nothing():
    # With a kernel of ones a filter counts the known bases of its window.
    network = cnn.SpliceFinder(2)
    bases = np.stack(tiny.dna(30))
    with_unknown = bases.copy()
    with_unknown[0, 10:20] = kmers.N
    params = jax.tree.map(np.ones_like, _params(network, 30))
    flat = {**params, "conv": {"kernel": np.ones((9, 4, 50)), "bias": np.zeros(50)}}
    flat["hidden"] = {"kernel": np.ones((1500, 100)), "bias": np.zeros(100)}
    flat["out"] = {"kernel": np.full((100, 2), 1 / (100 * 50)), "bias": np.zeros(2)}
    for each in (bases, with_unknown):
        known = each[0] != kmers.N
        expected = sum(known[max(at - 4, 0) : at + 5].sum() for at in range(30))
        np.testing.assert_allclose(network.apply({"params": flat}, each, True), expected, rtol=1e-5)


def test_with_two_strands_deepbind_reads_a_sequence_and_its_reverse_complement_alike():
    bases = np.stack(tiny.dna(60, 60, 60))
    other = kmers.reverse_complement(bases)
    for strands, alike in ((1, False), (2, True)):
        network = cnn.DeepBind(2, strands=strands)
        params = _params(network, 60)
        found = [np.asarray(network.apply({"params": params}, each, True)) for each in (bases, other)]
        assert np.allclose(*found, atol=1e-5) == alike


def test_the_strand_that_training_turns_to_is_the_reverse_complement():
    bases = np.stack(tiny.dna(20, 20))
    bases[0, 3] = kmers.N
    np.testing.assert_array_equal(cnn._reverse_complement(bases), kmers.reverse_complement(bases))


def test_shorter_sequences_are_filled_up():
    bases = cnn.padded(tuple(tiny.dna(4, 6)), 6)
    assert bases.shape == (2, 6)
    assert kmers.decode(bases[0])[4:] == "NN"
    np.testing.assert_array_equal(bases[1], tiny.dna(4, 6)[1])


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["SpliceFinder", "DeepBind"])
def test_a_network_learns_what_can_be_learnt_and_does_so_again_with_the_same_seed(shape):
    generator = np.random.default_rng(0)
    bases = generator.integers(0, 4, (700, 40), dtype=np.uint8)
    labels = generator.integers(0, 2, 700).astype(np.int32)
    bases[labels == 1, 15:23] = kmers.encode("GATTACAG")
    data, validation = cnn.Data(bases[:500], labels[:500]), cnn.Data(bases[500:600], labels[500:600])
    settings = cnn.Settings(shape, learning_rate=3e-3, dropout=0.0, epochs=6, patience=2)
    found = cnn.train(settings, data, validation, 2, seed=1)
    probabilities = found.probabilities(bases[600:])
    assert (probabilities.argmax(axis=1) == labels[600:]).mean() > 0.9
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert found.mcc > 0.8
    assert 1 <= found.best_epoch <= found.epochs <= 6
    again = cnn.train(settings, data, validation, 2, seed=1)
    np.testing.assert_array_equal(again.probabilities(bases[600:]), probabilities)


def test_tuning_takes_what_does_best_field_by_field(monkeypatch):
    scores = {3e-3: 0.5, 1e-2: 0.4, 3e-2: 0.3}

    def train(settings, data, validation, classes, seed):
        mcc = scores[settings.learning_rate] + 0.1 * settings.both_strands - 0.1 * (settings.dropout == 0)
        return cnn.Trained(None, None, mcc, 1, 1)

    monkeypatch.setattr(cnn, "train", train)
    said = []
    found = cnn.tuned("DeepBind", None, None, 2, said.append)
    assert (found.learning_rate, found.both_strands, found.dropout) == (3e-3, True, 0.5)
    assert len(said) == 3 + 1 + 1
