"""Promoters, Prom-300, for the small model of `configs/small.py`; docs/results.md is made with it."""

from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig

config = FinetuneConfig(
    encoder=FinetunedEncoderConfig(compute_dtype="float32"),
    batch_size=32,
    epochs=6,
    learning_rate=1e-3,
    warmup_share=0.1,
    dropout=0.1,
)
