"""Binding sites: bound or background, as `dnabert task tfbs` makes them, with the values of DNABERT's promoter example.

Peaks have no strand, so each window is read from either one. Set `init` to a pretraining workdir and `data` to the
files of the task.
"""

from dnabert_jax.config import FinetuneConfig

config = FinetuneConfig(
    batch_size=32,
    epochs=5,
    learning_rate=2e-4,
    warmup_share=0.1,
    weight_decay=0.01,
    dropout=0.1,
    reverse_complement=True,
)
