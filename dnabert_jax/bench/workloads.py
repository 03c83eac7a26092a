"""The fixed work of the benchmark, by suite and name. A suite never changes: other work gets another suite's name.

What is here decides what is computed. What a user may choose without changing that is in `choices`. The sequences are
those of the embedded genome, of the lengths that the paper has: half of the segments full, the others uniform.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from dnabert_jax.config import EncoderConfig, MaskingConfig, OptimizerConfig

SUITE = "bench/v1"
QUICK = "bench/v1-quick"
"""The same six at a size that a laptop's CPU does in two minutes. Its figures compare with each other only."""

Kind = Literal["pretrain", "finetune", "predict", "input", "compile"]

_OF_THE_ENCODER = (
    "k",
    "layers",
    "hidden",
    "heads",
    "intermediate",
    "max_length",
    "positions",
    "type_vocabulary",
    "hidden_dropout",
    "attention_dropout",
    "tied_decoder",
    "compute_dtype",
)
"""The fields of EncoderConfig that make the work what it is; the others say how it is computed, or cost nothing."""


@dataclass(frozen=True)
class Workload:
    """A piece of work. `values` is all of it, as JSON has it, and `digest` a hash of that."""

    name: str
    kind: Kind
    """`pretrain` and `finetune` time training steps, `predict` batches of predictions, `input` the batches of the
    pretraining pipeline on the host alone, and `compile` lowering and compiling the pretraining step."""
    encoder: EncoderConfig
    row_length: int
    """Tokens of a row, [CLS] and [SEP] included."""
    pack: bool = True
    """Whether rows of pretraining hold several segments, or one and padding."""
    masking: MaskingConfig = field(default_factory=lambda: MaskingConfig(rate=0.15, late_rate=0.15))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Of pretraining: the paper's values. Fine-tuning has those of FinetuneConfig."""
    full_share: float = 0.5
    """Share of the segments of pretraining that are of full length."""
    min_kmers: int = 5
    """In the shortest segment; the lengths of those that are not full are uniform from there."""
    classes: int = 0
    """Outputs of the classifier, where there is one."""

    @property
    def values(self) -> dict[str, Any]:
        """Everything that decides what is computed."""
        found = dataclasses.asdict(self)
        found["encoder"] = {name: found["encoder"][name] for name in _OF_THE_ENCODER}
        return found

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any of the values."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:16]


def workloads(suite: str) -> dict[str, Workload]:
    """The workloads of `bench/v1` or `bench/v1-quick` by name, in the order in which they are run."""
    if suite == SUITE:
        shape = {"k": 6, "layers": 12, "hidden": 768, "heads": 12, "intermediate": 3072, "max_length": 512}
        short = 128
    else:
        shape = {"k": 6, "layers": 2, "hidden": 128, "heads": 2, "intermediate": 512, "max_length": 128}
        short = 64
    # Fine-tuning drops attention probabilities too, for its program has one rate for all of its dropout.
    pretrained = EncoderConfig(**shape, hidden_dropout=0.1, attention_dropout=0.0, compute_dtype="bfloat16")
    finetuned = dataclasses.replace(pretrained, attention_dropout=0.1)
    predicting = dataclasses.replace(pretrained, hidden_dropout=0.0)
    length = pretrained.max_length
    found = (
        Workload("pretrain-base-512", "pretrain", pretrained, length),
        Workload("pretrain-base-512-padded", "pretrain", pretrained, length, pack=False),
        Workload("finetune-base-128", "finetune", finetuned, short, classes=2),
        Workload("predict-base-512", "predict", predicting, length, classes=2),
        Workload("input-pipeline", "input", pretrained, length),
        Workload("compile", "compile", pretrained, length),
    )
    return {each.name: each for each in found}
