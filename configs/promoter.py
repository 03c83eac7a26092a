"""Promoters, Prom-300 or core, with the values of DNABERT's own example.

Set `init` to a pretraining workdir and `data` to the files of `dnabert task promoter`, or to DNABERT's k-mer TSV.
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
