"""Splice sites on the embedded genome, for the small model of `configs/demo.py`; what `make demo` runs."""

from dnabert_jax.config import FinetuneConfig, FinetunedEncoderConfig

config = FinetuneConfig(
    encoder=FinetunedEncoderConfig(compute_dtype="float32"),
    batch_size=32,
    epochs=5,
    learning_rate=1e-3,
    warmup_share=0.1,
    dropout=0.1,
)
