"""A model small enough for a test, and rows for it."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dnabert_jax import kmers
from dnabert_jax.config import EncoderConfig, FinetunedEncoderConfig, ModelConfig
from dnabert_jax.model.heads import initializer

ENCODER = EncoderConfig(
    k=3,
    layers=2,
    hidden=32,
    heads=4,
    intermediate=64,
    max_length=64,
    hidden_dropout=0.1,
    attention_dropout=0.1,
    initializer_range=0.2,  # large, so that attention is far from uniform and mistakes show
    compute_dtype="float32",
)

FINETUNED = FinetunedEncoderConfig(compute_dtype="float32").filled(ENCODER)


def without_dropout(config: EncoderConfig = ENCODER) -> EncoderConfig:
    return dataclasses.replace(config, hidden_dropout=0.0, attention_dropout=0.0)


def rows(segments: list[list[int]], length: int, k: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of random segments: `segments[r]` has the number of k-mers of each segment of row r."""
    generator = np.random.default_rng(seed)
    batch = {name: np.zeros((len(segments), length), np.int32) for name in ("tokens", "segment_ids", "positions")}
    for row, counts in enumerate(segments):
        at = 0
        for number, count in enumerate(counts, start=1):
            bases = generator.integers(0, 4, count + k - 1).astype(np.uint8)
            tokens = [kmers.CLS, *kmers.tokenize(bases, k), kmers.SEP]
            place = slice(at, at + len(tokens))
            batch["tokens"][row, place] = tokens
            batch["segment_ids"][row, place] = number
            batch["positions"][row, place] = range(len(tokens))
            at += len(tokens)
        assert at <= length
    return batch


def model(head: str, classes: tuple[str, ...] = (), seed: int = 3, **others: Any) -> tuple[ModelConfig, Any]:
    """The config and random params of a model with this head, without dropout."""
    config = ModelConfig(without_dropout(), head, classes, **others)
    params = nn.unbox(jax.jit(initializer(config))(jax.random.key(seed)))
    return config, jax.tree.map(np.asarray, params)


def dna(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    """Random bases, uint8[n] each."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 4, length, dtype=np.uint8) for length in lengths]
