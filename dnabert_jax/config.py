"""Every knob of a run: frozen dataclasses, typed, documented, and validated once, when they are built.

A recipe in `configs/` is one `PretrainConfig` or `FinetuneConfig` with values filled in; the command line changes
single fields of it; `config.json` in a workdir is the complete result, and reading it back gives an equal config. The
default values are the paper's (Ji et al. 2021) and those of its training scripts.
"""

import dataclasses
import difflib
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from dnabert_jax import kmers
from dnabert_jax.errors import InputError


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise InputError(f"{name} is {value!r}; expected {expected}")


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0, name, value, "more than 0")
        _require_finite(name, value)


def _require_not_negative(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= 0, name, value, "0 or more")
        _require_finite(name, value)


def _require_finite(name: str, value: float) -> None:
    _require(math.isfinite(value), name, value, "a finite number")


def _require_seed(config: Any) -> None:
    _require(0 <= config.seed < 2**32, "seed", config.seed, "a whole number from 0 to below 2**32, as JAX's keys take")


def _require_share(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(0 <= value <= 1, name, value, "a share from 0 to 1")


def _steps_of(profile: str) -> range | None:
    """The steps that `FIRST:END` names; None for an empty text."""
    if not profile:
        return None
    first, _, end = profile.partition(":")
    is_range = all(each.isdecimal() for each in (first, end)) and int(first) < int(end)
    _require(
        is_range, "profile", profile, "FIRST:END with FIRST below END, as 10:15 for five steps after the first ten"
    )
    return range(int(first), int(end))


def require_profiled(profile: range | None, steps: int) -> None:
    """Raises InputError unless the steps whose trace is asked for are steps of a run of so many."""
    if profile is not None:
        asked = f"{profile.start}:{profile.stop}"
        _require(profile.stop <= steps, "profile", asked, f"an END of at most {steps}, the steps of this run")


def _require_rate(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(0 <= value < 1, name, value, "a rate from 0 to below 1")


AttentionKernel = Literal["auto", "xla", "cudnn", "cudnn_offsets", "tokamax", "tokamax_triton", "pallas"]
"""What computes attention; `dnabert_jax.model.attention.attention` says which runs where."""


@dataclass(frozen=True)
class EncoderConfig:
    """BERT's encoder as DNABERT uses it; the defaults are BERT-base on 6-mers."""

    k: int = 6
    """Length of a k-mer; the vocabulary has 4**k + 5 tokens."""
    layers: int = 12
    hidden: int = 768
    """Width of the hidden states; a multiple of `heads`."""
    heads: int = 12
    intermediate: int = 3072
    """Width inside the feed-forward block."""
    max_length: int = 512
    """Longest segment in tokens, [CLS] and [SEP] included: the size of the position table, where there is one."""
    positions: Literal["learned", "rotary"] = "learned"
    """How tokens know their place: BERT's learned table, or rotation of queries and keys (RoPE, Su et al. 2021)."""
    rotary_base: float = 10_000.0
    """Rotary only: the slowest pair of dimensions turns by one radian in nearly this many tokens."""
    type_vocabulary: int = 2
    """Rows of the token-type table; DNABERT only ever uses row 0."""
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    """Dropout on attention probabilities. Fused attention kernels need 0 (docs/training.md says what that gains)."""
    tied_decoder: bool = True
    """Whether the masked-LM head scores tokens by their embeddings, as BERT does, or by a table of its own."""
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type of activations and of matrix products; the params are float32 always."""
    attention: AttentionKernel = "auto"
    """Attention kernel; `auto` takes the accelerator's fused one where it can run, and XLA elsewhere."""
    remat: Literal["none", "full", "dots_saveable"] = "none"
    """What the backward pass computes again instead of keeping."""
    scan_layers: bool = True
    """Whether the layers are one scanned loop (fast to compile) or unrolled (sometimes faster to run)."""

    def __post_init__(self) -> None:
        _require(1 <= self.k <= kmers.MAX_K, "k", self.k, f"a whole number from 1 to {kmers.MAX_K}")
        _require_positive(self, "layers", "hidden", "heads", "intermediate", "type_vocabulary", "layer_norm_epsilon")
        _require_not_negative(self, "initializer_range")
        _require_positive(self, "rotary_base")
        _require(self.hidden % self.heads == 0, "hidden", self.hidden, f"a multiple of heads ({self.heads})")
        _require(
            self.positions == "learned" or self.hidden // self.heads % 2 == 0,
            "hidden",
            self.hidden,
            f"an even number of dimensions for each of the {self.heads} heads, as rotary positions take",
        )
        _require(self.max_length >= 3, "max_length", self.max_length, "at least 3: [CLS], one k-mer, [SEP]")
        _require_rate(self, "hidden_dropout", "attention_dropout")

    @property
    def vocabulary_size(self) -> int:
        return kmers.vocabulary_size(self.k)

    @property
    def max_kmers(self) -> int:
        """k-mers in the longest segment."""
        return self.max_length - 2


@dataclass(frozen=True)
class FinetunedEncoderConfig:
    """The encoder of a fine-tuning run.

    The fields that are None by default make the model what it is, so they come from the model that is fine-tuned:
    None takes what is found there, and another value than that is an error, but for `max_length`. Without `init` None
    takes the default of `EncoderConfig`. In the `config.json` of a run all of them are filled in. The fields behind
    them say how it is computed; pretraining may have had others.
    """

    k: int | None = None
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    intermediate: int | None = None
    max_length: int | None = None
    """The one field that may differ from the model's: its position table is cut, or repeated to be longer."""
    positions: Literal["learned", "rotary"] | None = None
    rotary_base: float | None = None
    type_vocabulary: int | None = None
    initializer_range: float | None = None
    layer_norm_epsilon: float | None = None
    compute_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    attention: AttentionKernel = "auto"
    remat: Literal["none", "full", "dots_saveable"] = "none"
    scan_layers: bool = True

    @property
    def missing(self) -> list[str]:
        """Names of the fields that are not known yet."""
        return [each.name for each in dataclasses.fields(self) if getattr(self, each.name) is None]

    def filled(self, found: "EncoderConfig | FinetunedEncoderConfig") -> "FinetunedEncoderConfig":
        """This config with the values found in place of what is missing."""
        return dataclasses.replace(self, **{name: getattr(found, name) for name in self.missing})


Target = Literal["single_label", "multi_label", "regression", "per_base"]
"""What a fine-tuned model says: one class of several, any number of classes, numbers, or a class for each base."""


@dataclass(frozen=True)
class ModelConfig:
    """What computing with a model takes besides its params: the encoder, and what stands on it."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: Literal["none", "masked_lm", "single_label", "multi_label", "regression", "per_base"] = "none"
    classes: tuple[str, ...] = ()
    """Names of the outputs in order: of classes or, for regression, of numbers. Empty without a fine-tuned head."""
    join: Literal["mean", "concatenate"] = "mean"
    """How the pooled outputs of a sequence's pieces become one vector."""
    pieces: int = 1
    """Pieces, each as long as the encoder reads, that a sequence may have. `concatenate` has a place for each."""
    pool: Literal["cls", "mean"] = "cls"
    """What of a piece is pooled: the state of [CLS], or the mean over the states of its k-mers."""

    def __post_init__(self) -> None:
        _require_pieces(self.pieces, self.join, self.head)
        _require_pool(self.pool, self.head)
        fine_tuned = self.head not in ("none", "masked_lm")
        _require(bool(self.classes) == fine_tuned, "classes", self.classes, f"names of what {self.head!r} puts out")


def _require_pieces(pieces: int, join: str, target: str) -> None:
    _require(pieces >= 1, "pieces", pieces, "1 or more")
    _require(
        join == "mean" or target != "per_base",
        "join",
        join,
        "'mean' with per_base, where nothing is pooled: every base is read from the k-mers that cover it",
    )


def _require_pool(pool: str, target: str) -> None:
    _require(pool == "cls" or target != "per_base", "pool", pool, "'cls' with per_base, where nothing is pooled")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021) of the encoder's attention and feed-forward kernels."""

    rank: int = 0
    """Rank of each kernel's change; 0 trains the kernels themselves."""
    alpha: float = 16.0
    """The change is scaled by alpha / rank."""
    attention: bool = True
    """Adapt the kernels of queries, keys, values and attention output."""
    mlp: bool = True
    """Adapt the two kernels of the feed-forward block."""

    def __post_init__(self) -> None:
        _require(self.rank >= 0, "rank", self.rank, "0 (no adapters) or more")
        _require(self.alpha > 0, "alpha", self.alpha, "more than 0")
        _require_finite("alpha", self.alpha)
        _require(self.attention or self.mlp or not self.rank, "mlp", self.mlp, "True where attention is False")


@dataclass(frozen=True)
class MaskingConfig:
    """Which tokens are hidden, and what stands in their place."""

    rate: float = 0.15
    """Share of the tokens that is masked."""
    late_rate: float = 0.20
    """The share from step `late_step` on."""
    late_step: int = 100_000
    span: int = 0
    """Tokens per span; 0 takes k, the paper's, which hides one base. A span of s tokens hides s - k + 1 bases."""
    corruption: Literal["token", "span"] = "token"
    """Whether [MASK], random or kept is drawn for each masked token, as DNABERT did, or once for a whole span."""
    mask_share: float = 0.8
    """Share of masked tokens that become [MASK]."""
    random_share: float = 0.1
    """Share that becomes a random token; the rest stays as it is."""

    def __post_init__(self) -> None:
        for name in ("rate", "late_rate"):
            value = getattr(self, name)
            _require(0 < value < 0.9, name, value, "a share above 0 and below 0.9")
        _require(self.late_step >= 0, "late_step", self.late_step, "0 or more")
        _require(self.span >= 0, "span", self.span, "0 (meaning k) or more")
        _require_share(self, "mask_share", "random_share")
        total = self.mask_share + self.random_share
        _require(total <= 1 + 1e-9, "mask_share + random_share", total, "at most 1")


@dataclass(frozen=True)
class DataConfig:
    """Which bases are read and how they become rows."""

    path: str = ""
    """Folder that `dnabert build` wrote."""
    method: Literal["cut", "sample"] = "cut"
    """`cut`: an epoch covers every base once, without overlap. `sample`: random starts, overlapping."""
    full_share: float = 0.5
    """Share of segments of full length; the lengths of the others are uniform from `min_kmers` to full."""
    min_kmers: int = 5
    max_unknown: float = 0.0
    """Largest share of N in a segment that is still produced."""
    reverse_complement: bool = False
    """Read each segment from either strand with probability one half."""
    pack: bool = True
    """Several segments a row, kept apart by `segment_ids`; otherwise one segment a row, as DNABERT did."""
    epochs: int = 0
    """Passes over the data before the input ends; 0 never ends."""

    def __post_init__(self) -> None:
        _require_share(self, "full_share", "max_unknown")
        _require(self.min_kmers >= 1, "min_kmers", self.min_kmers, "at least 1")
        _require(self.epochs >= 0, "epochs", self.epochs, "0 (without end) or more")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and linear decay to zero."""

    learning_rate: float = 4e-4
    """Peak, reached at the end of the warm-up."""
    warmup_steps: int = 10_000
    decay_steps: int = 200_000
    """Step at which the learning rate reaches 0."""
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    """Not applied to biases and LayerNorm parameters."""
    clip_norm: float = 1.0
    """Largest global gradient norm."""

    def __post_init__(self) -> None:
        _require_positive(self, "learning_rate", "epsilon", "clip_norm", "decay_steps")
        _require_rate(self, "beta1", "beta2")
        _require_not_negative(self, "weight_decay")
        _require(
            0 <= self.warmup_steps <= self.decay_steps,
            "warmup_steps",
            self.warmup_steps,
            f"0 to decay_steps ({self.decay_steps})",
        )


@dataclass(frozen=True)
class MeshConfig:
    """How the devices are laid out; the product must be their number. `data` 0 takes what the others leave."""

    data: int = 0
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        _require(self.data >= 0, "data", self.data, "0 (what the others leave) or more")
        _require_positive(self, "fsdp", "tensor")


def _require_divisors(mesh: MeshConfig, encoder: EncoderConfig) -> None:
    """The params' axes that `sharding.RULES` spreads over the mesh."""
    for axis, name in (("fsdp", "hidden"), ("tensor", "heads"), ("tensor", "intermediate")):
        parts, size = getattr(mesh, axis), getattr(encoder, name)
        _require(size % parts == 0, f"mesh.{axis}", parts, f"a divisor of encoder.{name} ({size})")
    both, hidden = mesh.fsdp * mesh.tensor, encoder.hidden
    _require(hidden % both == 0, "mesh.fsdp × mesh.tensor", both, f"a divisor of encoder.hidden ({hidden})")


@dataclass(frozen=True)
class HostsConfig:
    """The processes of one run: on a cluster that JAX knows (Slurm, TPU pods, Kubernetes) nothing needs to be said.

    Elsewhere every process is told where process 0 listens, how many there are, and which one it is.
    """

    coordinator: str = ""
    """HOST:PORT at which process 0 is reached by the others; empty: found from the cluster, or there is no other."""
    processes: int = 0
    """How many processes there are; with `coordinator`."""
    process: int = -1
    """Number of this process, from 0; with `coordinator`."""
    detect: bool = True
    """Join the processes of the Slurm step, the TPU pod or the Kubernetes job that this process was started in."""
    wait_s: int = 300
    """Seconds to wait for the other processes at the start."""
    lost_after_s: int = 60
    """Seconds without a sign of life after which a process counts as lost, and the others end."""

    def __post_init__(self) -> None:
        _require_positive(self, "wait_s", "lost_after_s")
        if not self.coordinator:
            _require(self.processes == 0, "hosts.processes", self.processes, "hosts.coordinator HOST:PORT beside it")
            _require(self.process == -1, "hosts.process", self.process, "hosts.coordinator HOST:PORT beside it")
            return
        host, colon, port = self.coordinator.rpartition(":")
        well_formed = host and colon and port.isdecimal() and 0 < int(port) < 2**16
        _require(bool(well_formed), "hosts.coordinator", self.coordinator, "HOST:PORT of process 0")
        _require(self.processes >= 1, "hosts.processes", self.processes, "how many processes there are, 1 or more")
        _require(
            0 <= self.process < self.processes,
            "hosts.process",
            self.process,
            f"the number of this process, from 0 to {self.processes - 1}",
        )


@dataclass(frozen=True)
class LoopConfig:
    """How long a run is and how often it reports, validates and saves."""

    steps: int = 120_000
    """Optimiser steps, counted from the beginning of the run."""
    report_every: int = 100
    validate_every: int = 2_000
    """Steps between validations; 0 validates only at the end."""
    validation_rows: int = 4_000
    """Held-out rows in one validation; fewer where there are fewer."""
    save_every: int = 2_000
    keep: int = 3
    """Checkpoints that stay on disk."""

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "report_every", "validation_rows", "save_every", "keep")
        _require(self.validate_every >= 0, "validate_every", self.validate_every, "0 (only at the end) or more")


@dataclass(frozen=True)
class PretrainConfig:
    """One masked-LM pretraining run."""

    workdir: str = ""
    """Folder of the run: config.json, metrics.jsonl, checkpoints/, result.json."""
    init: str = ""
    """Model whose params pretraining goes on from: a workdir, a converted model, a Hugging Face folder or hub id."""
    seed: int = 0
    """Initial params, data order, masks and dropout all follow from it."""
    batch_size: int = 2_000
    """Rows per optimiser step, over all devices and accumulations."""
    accumulation: int = 1
    """Parts in which a step reads its batch, one after another, to save memory."""
    row_length: int = 512
    """Tokens per row (L)."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    hosts: HostsConfig = field(default_factory=HostsConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    profile: str = ""
    """Steps whose trace is written, as `10:15` for the five that follow the first ten; empty writes none."""

    def __post_init__(self) -> None:
        _require_seed(self)
        require_profiled(self.profiled, self.loop.steps)
        _require_positive(self, "batch_size", "accumulation")
        _require_divisors(self.mesh, self.encoder)
        _require(
            self.batch_size % self.accumulation == 0,
            "batch_size",
            self.batch_size,
            f"a multiple of accumulation ({self.accumulation})",
        )
        _require(
            self.row_length >= self.encoder.max_length,
            "row_length",
            self.row_length,
            f"at least encoder.max_length ({self.encoder.max_length})",
        )
        _require(
            self.data.min_kmers <= self.encoder.max_kmers,
            "data.min_kmers",
            self.data.min_kmers,
            f"at most encoder.max_length - 2 ({self.encoder.max_kmers})",
        )
        _require(
            self.masking.span <= self.encoder.max_kmers,
            "masking.span",
            self.masking.span,
            f"at most encoder.max_length - 2 ({self.encoder.max_kmers}), the tokens of the longest segment",
        )

    @property
    def profiled(self) -> range | None:
        """The steps whose trace is written, counted from 0."""
        return _steps_of(self.profile)


@dataclass(frozen=True)
class LabelledConfig:
    """Labelled sequences: a TSV or CSV with `sequence` and `label`, DNABERT's k-mer TSV, or a BED with its FASTA.

    A label is a class name or an integer; for multi_label names parted by `;`, or nothing; for regression a number or
    several parted by `;`; for per_base a character for each base of the sequence, `.` for one that is not labelled.
    """

    train: str = ""
    validation: str = ""
    """Chooses the best epoch."""
    test: str = ""
    """Looked at once, at the end; empty reports the validation set."""
    fasta: str = ""
    """FASTA that the BED files point into."""
    label_column: int = 4
    """1-based column of the label in BED files."""

    def __post_init__(self) -> None:
        _require(self.label_column >= 4, "label_column", self.label_column, "a column of 4 or more")


@dataclass(frozen=True)
class FinetuneConfig:
    """One fine-tuning run: pretrained encoder params, labelled sequences, a head."""

    workdir: str = ""
    init: str = ""
    """Model whose encoder is taken: a workdir, a converted model, a Hugging Face folder or hub id; empty starts from
    random params."""
    random_params: bool = False
    """Take only the encoder's shape from `init` and start from random params, to see what pretraining gives."""
    encoder: FinetunedEncoderConfig = field(default_factory=FinetunedEncoderConfig)
    target: Target = "single_label"
    """What is predicted: one class, any number of classes, numbers, or the class of each base."""
    pieces: int = 1
    """Pieces, each as long as the encoder reads, that a sequence may be split into (DNABERT-XL's way)."""
    join: Literal["mean", "concatenate"] = "mean"
    """Whether the classifier reads the mean of the pieces' pooled outputs, or all of them side by side."""
    pool: Literal["cls", "mean"] = "cls"
    """What is pooled: the state of [CLS], as in BERT, or the mean over the states of the k-mers."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    seed: int = 0
    batch_size: int = 32
    epochs: int = 5
    learning_rate: float = 2e-4
    """Peak, reached after `warmup_share` of the steps, then linear to 0."""
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    dropout: float = 0.1
    """Dropout on hidden states, attention probabilities and the pooled output."""
    freeze_encoder: bool = False
    """Train the head only, on the frozen encoder (a linear probe)."""
    reverse_complement: bool = False
    """Read each training sequence from either strand with probability one half. Only right for unstranded labels."""
    report_every: int = 20
    """Steps between training reports."""
    data: LabelledConfig = field(default_factory=LabelledConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    hosts: HostsConfig = field(default_factory=HostsConfig)
    profile: str = ""
    """Steps whose trace is written, as `10:15` for the five that follow the first ten; empty writes none."""

    def __post_init__(self) -> None:
        _require_seed(self)
        _steps_of(self.profile)
        _require_positive(self, "batch_size", "epochs", "learning_rate", "epsilon", "clip_norm", "report_every")
        _require_not_negative(self, "weight_decay")
        _require_share(self, "warmup_share")
        _require_rate(self, "dropout", "beta2")
        _require_pieces(self.pieces, self.join, self.target)
        _require_pool(self.pool, self.target)
        _require(
            not (self.freeze_encoder and self.lora.rank), "lora.rank", self.lora.rank, "0 where freeze_encoder is True"
        )
        if not self.encoder.missing:
            _require_divisors(self.mesh, self.model)
        _require(
            self.encoder.attention in ("auto", "xla") or self.freeze_encoder or self.dropout == 0,
            "dropout",
            self.dropout,
            f"0 with encoder.attention {self.encoder.attention!r}, a fused kernel, which cannot drop probabilities",
        )

    @property
    def profiled(self) -> range | None:
        """The steps whose trace is written, counted from 0."""
        return _steps_of(self.profile)

    @property
    def model(self) -> EncoderConfig:
        """The encoder with nothing missing, and with this run's dropout (none where it is frozen).

        Raises:
          InputError: a field of `encoder` is missing, or its value is out of range.
        """
        for name in self.encoder.missing:
            raise InputError(f"encoder.{name} is None; expected the value of the model that is fine-tuned")
        rate = 0.0 if self.freeze_encoder else self.dropout
        return EncoderConfig(**dataclasses.asdict(self.encoder), hidden_dropout=rate, attention_dropout=rate)

    def fine_tuned(self, classes: tuple[str, ...]) -> ModelConfig:
        """The model that this run trains on data of these classes (or, for regression, of these numbers' names)."""
        return ModelConfig(self.model, self.target, classes, self.join, self.pieces, self.pool)


def to_json(config: Any) -> str:
    """A config as indented JSON with every field; `from_json` reads it back to an equal config."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(kind: type, text: str, source: str) -> Any:
    """Reads a config of dataclass `kind` from JSON.

    Args:
      kind: PretrainConfig, FinetuneConfig, ModelConfig or EncoderConfig.
      text: what `to_json` wrote.
      source: file name for error messages.

    Raises:
      InputError: not JSON, an unknown field (with the nearest known one), or a value of the wrong type or range.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source}: no JSON ({error}); expected the object that was written there") from None
    return _from_values(kind, values, source, "")


def _from_values(kind: type, values: Any, source: str, prefix: str) -> Any:
    if not isinstance(values, dict):
        name = prefix.rstrip(".") or "the config"
        raise InputError(f"{source}: {name} is {values!r}; expected an object with fields")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            near = _nearest(prefix + name, [prefix + known for known in hints])
            raise InputError(f"{source}: unknown field {prefix}{name}{near}")
        arguments[name] = _from_value(hints[name], value, source, prefix + name)
    try:
        return kind(**arguments)
    except InputError as error:
        raise InputError(f"{source}: {prefix}{error}") from None


def _from_value(hint: Any, value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _from_values(hint, value, source, name + ".")
    if type(None) in typing.get_args(hint):
        if value is None:
            return value
        hint = next(each for each in typing.get_args(hint) if each is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise InputError(f"{source}: {name} is {value!r}; expected a list")
        return tuple(_from_value(typing.get_args(hint)[0], each, source, name) for each in value)
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise InputError(f"{source}: {name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{source}: {name} is {value!r}; expected {hint.__name__}")
    return value


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def field_names(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of every leaf field, in order: `encoder.k`, `loop.steps`, ..."""
    names = []
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if dataclasses.is_dataclass(value):
            names += field_names(value, f"{prefix}{each.name}.")
        else:
            names.append(prefix + each.name)
    return names


def nearest_field(config: Any, name: str) -> str:
    """`; did you mean X?` for the dotted field nearest to `name`, or an empty string."""
    return _nearest(name, field_names(config))


def differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted name, old value, new value) for each leaf field in which two configs of one kind differ."""
    found = []
    for each in dataclasses.fields(old):
        a, b = getattr(old, each.name), getattr(new, each.name)
        if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
            found += differences(a, b, f"{prefix}{each.name}.")
        elif a != b:
            found.append((prefix + each.name, a, b))
    return found
