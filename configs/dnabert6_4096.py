"""DNABERT-6 on 4,096 tokens, trained from scratch with rotary positions instead of the table of 512.

For tasks where thousands of bases must be seen at once. Where they need not be, the weights that exist read longer
sequences in pieces of 512 (`pieces` of a fine-tuning run) and no pretraining is needed; they do not fit this recipe,
because theirs is a model with a position table.

A step has about as many tokens as one of `dnabert6`, in 256 rows. Attention dropout is 0 so that fused kernels run:
without them most of a step's time and memory goes to attention. The rest is the paper's. Set `data.path`, and
`accumulation` to what the devices hold.
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
    batch_size=256,
    accumulation=32,
    row_length=4_096,
    encoder=EncoderConfig(
        k=6,
        layers=12,
        hidden=768,
        heads=12,
        intermediate=3072,
        max_length=4_096,
        positions="rotary",
        rotary_base=10_000.0,
        hidden_dropout=0.1,
        attention_dropout=0.0,
        remat="dots_saveable",
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
    loop=LoopConfig(steps=120_000, report_every=100, validate_every=2_000, validation_rows=512, save_every=2_000),
)
