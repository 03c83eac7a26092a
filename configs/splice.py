"""Splice sites as the paper fine-tunes: BERT-base, three classes, the windows of `dnabert task splice`.

Set `init` to a pretraining workdir and `data` to the files of the task.
"""

from dnabert_jax.config import FinetuneConfig

config = FinetuneConfig(
    batch_size=32,
    epochs=5,
    learning_rate=4e-5,
    warmup_share=0.1,
    weight_decay=0.01,
    dropout=0.1,
)
