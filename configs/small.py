"""A small DNABERT-6 that two CPU cores pretrain on one chromosome within the hour; docs/results.md is made with it."""

from dnabert_jax.config import (
    DataConfig,
    EncoderConfig,
    LoopConfig,
    MaskingConfig,
    OptimizerConfig,
    PretrainConfig,
)

config = PretrainConfig(
    batch_size=16,
    encoder=EncoderConfig(
        k=6,
        layers=2,
        hidden=128,
        heads=2,
        intermediate=512,
        max_length=512,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        compute_dtype="float32",
    ),
    masking=MaskingConfig(rate=0.15, late_rate=0.15, corruption="span"),
    data=DataConfig(method="cut", reverse_complement=True),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=200, decay_steps=4_000),
    loop=LoopConfig(steps=4_000, report_every=50, validate_every=500, validation_rows=128, save_every=500),
)
