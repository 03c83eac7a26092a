"""Core promoters, -34..+35 around the start of transcription, with the values of DNABERT's own example.

Set `init` to a pretraining workdir and `data` to labelled files, DNABERT's k-mer TSV among them.
"""

from dnabert_jax.config import FinetuneConfig

config = FinetuneConfig(
    batch_size=32,
    epochs=5,
    learning_rate=2e-4,
    warmup_share=0.1,
    weight_decay=0.01,
    dropout=0.1,
)
