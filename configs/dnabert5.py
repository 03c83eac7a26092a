"""DNABERT-5 as the paper pretrains it: BERT-base on 5-mers, 2,000 rows a step, stopped at step 120,000.

The paper reads one segment a row (`data.pack False` does that); packed rows carry the same segments without padding, so
a step holds about a third more of them. Set `data.path`, and `accumulation` to what the devices hold.
"""

from dnabert_jax.config import (
    DataConfig,
    EncoderConfig,
    LoopConfig,
    MaskingConfig,
    OptimizerConfig,
    PretrainConfig,
)

config = PretrainConfig(
    batch_size=2_000,
    accumulation=25,
    encoder=EncoderConfig(
        k=5,
        layers=12,
        hidden=768,
        heads=12,
        intermediate=3072,
        max_length=512,
        hidden_dropout=0.1,
        attention_dropout=0.1,
    ),
    masking=MaskingConfig(rate=0.15, late_rate=0.20, late_step=100_000),
    data=DataConfig(method="cut", full_share=0.5, min_kmers=5),
    optimizer=OptimizerConfig(
        learning_rate=4e-4,
        warmup_steps=10_000,
        decay_steps=200_000,
        beta1=0.9,
        beta2=0.98,
        epsilon=1e-6,
        weight_decay=0.01,
        clip_norm=1.0,
    ),
    loop=LoopConfig(steps=120_000, report_every=100, validate_every=2_000, save_every=2_000),
)
