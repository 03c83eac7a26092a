"""The benchmark of predicting: its sequences, its check and its ratio; and all of it, tiny, where the peer is there."""

import importlib.util
import re

import inference
import numpy as np
import pytest

from dnabert_jax import kmers


def test_sequences_of_mixed_lengths():
    found = inference.mixed(50, 6)
    lengths = [len(letters) - 5 for letters in found]
    assert min(lengths) >= 20
    assert max(lengths) <= 510
    assert np.ptp(lengths) > 300
    assert all(kmers.encode(letters).max() < kmers.N for letters in found)
    assert inference.mixed(50, 6) == found


def test_probabilities_have_to_agree():
    ours = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    assert inference.require_same({"a": ours, "b": ours + 0.01, "c": ours}, 0.02) == pytest.approx(0.01, abs=1e-6)
    with pytest.raises(SystemExit, match=r"b: probabilities differ from those of a by 0\.01"):
        inference.require_same({"a": ours, "b": ours + 0.01}, 0.005)
    with pytest.raises(SystemExit, match="b: probabilities differ"):
        inference.require_same({"a": ours, "b": ours * np.nan}, 0.005)
    with pytest.raises(SystemExit, match="a: sequences differ too little"):
        inference.require_same({"a": ours[:1], "b": ours[:1]}, 0.005)


def test_turns_alternate_and_the_best_peer_counts():
    turns: list[str] = []
    seconds = inference.in_turn({name: lambda name=name: turns.append(name) for name in "abc"}, 2)
    assert turns == list("abccba")
    assert [len(each) for each in seconds.values()] == [2, 2, 2]
    taken = {"ours": [1.0, 2.0, 1.0], "slow": [9.0, 9.0, 9.0], "fast": [2.0, 2.0, 3.0]}
    assert inference.ratios(taken, "ours") == ("fast", [2.0, 1.0, 3.0])


@pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="the extra `interop` is not installed")
def test_the_program(monkeypatch, capsys):
    flags = "--layers 1 --hidden 64 --k 3 --sequences 3 --rounds 1 --peer-batch-sizes 1 2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as it is set there, so that it ends with this test
    inference.main(flags.split())
    said = capsys.readouterr().out
    assert len(re.findall(r"^ours +sequences_per_second +[0-9.]+ ", said, re.MULTILINE)) == 1
    assert len(re.findall(r"^ours / Hugging Face, batches of [12]: [0-9.]+ \(", said, re.MULTILINE)) == 1
