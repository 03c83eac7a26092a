"""A small model that two CPU cores pretrain in two minutes; what `make demo` runs."""

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
        k=3,
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
    data=DataConfig(method="cut"),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=50, decay_steps=300),
    loop=LoopConfig(steps=300, report_every=20, validate_every=150, validation_rows=128, save_every=150),
)
