"""The steps of a workload, made of the programs that a user's run consists of.

Training steps go as `training.loop` lets them go: while the devices compute one, the host fetches the batch of the
next. Predictions go through `inference`, as those of `dnabert predict` do.
"""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dnabert_jax import kmers, optim, sharding
from dnabert_jax.bench import flops
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.timing import Counts
from dnabert_jax.bench.workloads import Workload
from dnabert_jax.config import (
    DataConfig,
    EncoderConfig,
    FinetuneConfig,
    FinetunedEncoderConfig,
    LoopConfig,
    ModelConfig,
    PretrainConfig,
)
from dnabert_jax.data import loader
from dnabert_jax.data.labelled import Examples
from dnabert_jax.data.rows import Batch
from dnabert_jax.data.shards import Split
from dnabert_jax.inference import predictions
from dnabert_jax.model import attention_check
from dnabert_jax.model.apply import apply
from dnabert_jax.model.heads import initializer
from dnabert_jax.training import finetune, pretrain, state

_SYNTHETIC_BATCHES = 8
_EXAMPLES = 4_096
"""Sequences of fine-tuning and of prediction, which come again and again."""
_SEED = 0


@dataclass
class Work:
    """A workload that is ready to run.

    Attributes:
      step: runs one step and waits for the device.
      compile_time_s: seconds to trace, lower and compile the step; None where nothing is compiled.
      memory_bytes: that XLA plans for a step on one device: arguments, temporaries and outputs without what these
        share; None where nothing is compiled.
      bytes_accessed: that a step reads and writes on one device by the compiler's count; None where nothing is
        compiled, and where counting takes longer than measuring: in the quick suite, for layers in a loop, but for
        `pretrain-base-512`.
      batch_size: rows of a step.
      config: of the run that the step is taken from.
      devices: that share a step; 0 where the host does it alone.
      close: ends the threads that read ahead.
    """

    step: Callable[[], Counts]
    compile_time_s: float | None
    memory_bytes: int | None
    bytes_accessed: float | None
    batch_size: int
    config: PretrainConfig | FinetuneConfig | ModelConfig
    devices: int
    close: Callable[[], None]


def start(workload: Workload, choices: Choices, batch_size: int, split: Split) -> Work:
    """Compiles a workload and has it ready.

    Args:
      workload: what is computed.
      choices: how.
      batch_size: rows of a step.
      split: the bases that are read.

    Raises:
      InputError: a batch size that the devices do not share evenly, or an attention kernel that does not run here.
    """
    if workload.kind == "input":
        return _reading(workload, choices, batch_size, split)
    program = _program(workload, choices, batch_size)
    if workload.kind == "compile":
        return _compiling(workload, choices, batch_size, program)
    compiled, seconds = _compiled(program)
    if workload.kind == "predict":
        run, close = _predicting(workload, program, batch_size, split)
    else:
        run, close = _training(workload, choices, program, compiled, split)
    return Work(
        step=run,
        compile_time_s=seconds,
        memory_bytes=_memory_bytes(compiled),
        bytes_accessed=_bytes_accessed(workload, choices, batch_size, compiled),
        batch_size=batch_size,
        config=program.config,
        devices=program.devices,
        close=close,
    )


def planned_bytes(workload: Workload, choices: Choices, batch_size: int) -> int:
    """Bytes that XLA plans for a step of a workload on one device; nothing is put there.

    Raises:
      InputError: as `start`.
    """
    return _memory_bytes(_compiled(_program(workload, choices, batch_size))[0])


def pretraining(workload: Workload, choices: Choices, batch_size: int) -> PretrainConfig:
    """The run of pretraining that a workload is a piece of."""
    return PretrainConfig(
        seed=_SEED,
        batch_size=batch_size,
        row_length=workload.row_length,
        encoder=choices.encoder(workload),
        masking=workload.masking,
        data=DataConfig(full_share=workload.full_share, min_kmers=workload.min_kmers, pack=workload.pack),
        optimizer=workload.optimizer,
        loop=LoopConfig(steps=workload.optimizer.decay_steps),
    )


def _finetuning(workload: Workload, choices: Choices, batch_size: int) -> FinetuneConfig:
    encoder = dataclasses.asdict(choices.encoder(workload))
    fields = {each.name for each in dataclasses.fields(FinetunedEncoderConfig)}
    return FinetuneConfig(
        encoder=FinetunedEncoderConfig(**{name: value for name, value in encoder.items() if name in fields}),
        seed=_SEED,
        batch_size=batch_size,
        dropout=workload.encoder.hidden_dropout,
    )


@dataclass(frozen=True)
class _Program:
    """What is compiled, and what it takes.

    Attributes:
      function: jitted.
      arguments: shapes, dtypes and shardings.
      make_state: makes the first argument: the state of a run, or the params.
      config: of the run, or of the model.
      mesh: in use while it is traced; None outside training.
    """

    function: Any
    arguments: tuple[Any, ...]
    make_state: Callable[[], Any]
    config: PretrainConfig | FinetuneConfig | ModelConfig
    mesh: Mesh | None

    @property
    def devices(self) -> int:
        return 1 if self.mesh is None else self.mesh.size


def _program(workload: Workload, choices: Choices, batch_size: int) -> _Program:
    if workload.kind == "predict":
        return _prediction_program(workload, choices, batch_size)
    if workload.kind == "finetune":
        return _finetuning_program(workload, choices, batch_size)
    return _pretraining_program(pretraining(workload, choices, batch_size))


def _pretraining_program(config: PretrainConfig) -> _Program:
    init = initializer(ModelConfig(config.encoder, "masked_lm"))
    optimizer = optim.adamw(config.optimizer)
    mesh = _mesh(config)
    params_key, step_key = jax.random.split(jax.random.key(config.seed))
    with sharding.use(mesh):
        like = state.layout(init, optimizer, params_key, mesh)
        train = pretrain.training_step(config, optimizer, key=step_key, mesh=mesh, shardings=state.shardings(like))
    batch = {name: ((config.batch_size, config.row_length), np.int32) for name in _ROWS}
    make_state = functools.partial(state.create, init, optimizer, params_key, like)
    return _Program(train, (like, _on_mesh(batch, mesh)), make_state, config, mesh)


def _finetuning_program(workload: Workload, choices: Choices, batch_size: int) -> _Program:
    config = _finetuning(workload, choices, batch_size)
    model = config.fine_tuned(_classes(workload))
    values = finetune.optimizer_values(config, workload.optimizer.decay_steps)
    init, optimizer = initializer(model), optim.adamw(values)
    mesh = _mesh(config)
    params_key, step_key = jax.random.split(jax.random.key(config.seed))
    with sharding.use(mesh):
        like = state.layout(init, optimizer, params_key, mesh)
        train = finetune.training_step(
            config, model, values, optimizer, key=step_key, mesh=mesh, shardings=state.shardings(like)
        )
    batch = {name: ((batch_size, workload.row_length), np.int32) for name in _ROWS}
    batch |= {"labels": ((batch_size,), np.int32), "weights": ((batch_size,), np.float32)}
    make_state = functools.partial(state.create, init, optimizer, params_key, like)
    return _Program(train, (like, _on_mesh(batch, mesh)), make_state, config, mesh)


def _prediction_program(workload: Workload, choices: Choices, batch_size: int) -> _Program:
    """What `predictions.predict` computes of a batch on the device."""
    config = ModelConfig(choices.encoder(workload), "single_label", _classes(workload))
    init = initializer(config)
    key = jax.random.key(_SEED)

    def make(key: jax.Array) -> Any:
        return nn.unbox(init(key))

    rows = {name: jax.ShapeDtypeStruct((batch_size, workload.row_length), np.int32) for name in _ROWS}
    pooled = jax.jit(lambda params, batch: apply(config, params, batch).pooled)
    return _Program(pooled, (jax.eval_shape(make, key), rows), lambda: jax.jit(make)(key), config, None)


_ROWS = ("tokens", "segment_ids", "positions")


def _classes(workload: Workload) -> tuple[str, ...]:
    return tuple(map(str, range(workload.classes)))


def _mesh(config: PretrainConfig | FinetuneConfig) -> Mesh:
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.batch_size, "batch_size")
    return mesh


def _on_mesh(batch: dict[str, tuple[tuple[int, ...], Any]], mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    where = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=where) for name, (shape, dtype) in batch.items()}


def _compiled(program: _Program) -> tuple[jax.stages.Compiled, float]:
    """The compiled function, and the seconds that it took to trace, lower and compile."""
    began = time.perf_counter()
    if program.mesh is None:
        compiled = program.function.lower(*program.arguments).compile()
    else:
        with sharding.use(program.mesh):
            compiled = program.function.lower(*program.arguments).compile()
    return compiled, time.perf_counter() - began


def _memory_bytes(compiled: jax.stages.Compiled) -> int:
    plan = compiled.memory_analysis()
    shared = plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes - shared


def _bytes_accessed(
    workload: Workload, choices: Choices, batch_size: int, compiled: jax.stages.Compiled
) -> float | None:
    """Bytes that a step reads and writes, by the compiler's count.

    XLA counts the body of a loop once. So where the layers are scanned, models of one and of two layers are compiled
    without a loop, and the difference between them stands for every further layer.
    """
    if not choices.scan_layers:
        return compiled.cost_analysis()["bytes accessed"]
    if choices.quick and workload.name != "pretrain-base-512":
        return None
    unrolled = dataclasses.replace(choices, scan_layers=False)
    one, two = (
        _compiled(_program(_of_depth(workload, layers), unrolled, batch_size))[0].cost_analysis()["bytes accessed"]
        for layers in (1, 2)
    )
    return one + (workload.encoder.layers - 1) * (two - one)


def _of_depth(workload: Workload, layers: int) -> Workload:
    return dataclasses.replace(workload, encoder=dataclasses.replace(workload.encoder, layers=layers))


class _Held(NamedTuple):
    """A batch on the devices, and the lengths of its segments in tokens, int[segments]."""

    batch: dict[str, jax.Array]
    lengths: np.ndarray


def _training(
    workload: Workload, choices: Choices, program: _Program, compiled: jax.stages.Compiled, split: Split
) -> tuple[Callable[[], Counts], Callable[[], None]]:
    """A training step, and what ends the threads that read ahead."""
    with sharding.use(program.mesh):
        if workload.kind == "pretrain":
            pipeline = loader.Pretraining(split, program.config)
            attention_check.require(program.config.encoder, workload.row_length, segments=pipeline.most_segments)
            real = _pretraining_batches(pipeline, program.mesh)
        else:
            attention_check.require(program.config.model, workload.row_length)
            real = _finetuning_batches(workload, program, split)
    batches: Iterator[_Held] = real
    if choices.synthetic:
        batches = itertools.cycle(_synthetic(list(itertools.islice(real, _SYNTHETIC_BATCHES)), workload.encoder))
    held = next(batches)
    with sharding.use(program.mesh):
        current = program.make_state()
    tokens = program.config.batch_size * workload.row_length
    watcher = ThreadPoolExecutor(1)

    def run() -> Counts:
        nonlocal current, held
        batch, lengths = held
        current, sums = compiled(current, batch)
        done = watcher.submit(_when_done, (current, sums))
        began = time.perf_counter()
        held = next(batches)
        came = time.perf_counter()
        forward = flops.encoder(workload.encoder, lengths)
        wait = max(0.0, came - max(began, done.result()))
        if workload.kind == "pretrain":
            forward += flops.masked_lm_head(workload.encoder, int(sums["masked"]))
        else:
            forward += flops.classifier_head(workload.encoder, len(lengths), workload.classes)
        return Counts(tokens, int(lengths.sum()), flops.training(forward), wait)

    def close() -> None:
        real.close()
        watcher.shutdown()

    return run, close


def _when_done(outputs: Any) -> float:
    """The time at which the devices have made these; what they raise comes up here."""
    jax.block_until_ready(outputs)
    return time.perf_counter()


def _pretraining_batches(pipeline: loader.Pretraining, mesh: Mesh) -> Generator[_Held, None, None]:
    with contextlib.closing(pipeline.batches()) as batches:
        for batch in batches:
            yield _Held(sharding.on_device(batch, mesh), _lengths(batch))


def _finetuning_batches(workload: Workload, program: _Program, split: Split) -> Generator[_Held, None, None]:
    config = program.config
    per_epoch = max(_EXAMPLES // config.batch_size, 1)
    sequences = _sequences(split, workload, per_epoch * config.batch_size)
    labels = np.random.default_rng(_SEED).integers(0, workload.classes, len(sequences), np.int32)
    examples = Examples(tuple(map(str, range(len(sequences)))), tuple(sequences), labels, _classes(workload))
    lengths = np.full(config.batch_size, workload.row_length)
    with contextlib.closing(finetune.batches(config, examples, per_epoch, 0, program.mesh)) as batches:
        for batch in batches:
            yield _Held(batch, lengths)


def _synthetic(real: list[_Held], encoder: EncoderConfig) -> list[_Held]:
    """Batches with the segments of these and random k-mers in them, drawn on the devices."""

    @jax.jit
    def redrawn(batch: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        segment_ids, positions = batch["segment_ids"], batch["positions"]
        next_ids = jnp.pad(segment_ids[:, 1:], ((0, 0), (0, 1)))
        tokens = jax.random.randint(key, segment_ids.shape, kmers.FIRST_KMER, encoder.vocabulary_size, jnp.int32)
        tokens = jnp.where(positions == 0, kmers.CLS, tokens)
        tokens = jnp.where(segment_ids != next_ids, kmers.SEP, tokens)
        return {**batch, "tokens": jnp.where(segment_ids > 0, tokens, kmers.PAD)}

    keys = jax.random.split(jax.random.key(_SEED), len(real))
    return [_Held(redrawn(batch, key), lengths) for (batch, lengths), key in zip(real, keys, strict=True)]


def _lengths(batch: Batch) -> np.ndarray:
    """Tokens of each segment of packed or padded rows, int[segments]."""
    segment_ids = batch["segment_ids"]
    is_last = (segment_ids > 0) & (segment_ids != np.pad(segment_ids[:, 1:], ((0, 0), (0, 1))))
    return batch["positions"][is_last] + 1


def _sequences(split: Split, workload: Workload, count: int) -> list[np.ndarray]:
    """Stretches of the genome that fill a row each, uint8[bases], from random places."""
    bases = workload.row_length - 2 + workload.encoder.k - 1
    contigs = [index for index, contig in enumerate(split.contigs) if contig.length >= bases]
    generator = np.random.default_rng(_SEED)
    found = []
    for contig in generator.choice(contigs, count):
        start = int(generator.integers(split.contigs[contig].length - bases + 1))
        found.append(split.read(int(contig), start, bases))
    return found


def _predicting(
    workload: Workload, program: _Program, batch_size: int, split: Split
) -> tuple[Callable[[], Counts], Callable[[], None]]:
    """A batch of a stream of predictions that does not end, and what ends the stream."""
    attention_check.require(program.config.encoder, workload.row_length, trains=False)
    sequences = itertools.cycle(enumerate(_sequences(split, workload, _EXAMPLES)))
    stream = predictions.predict(program.config, program.make_state(), sequences, batch_size=batch_size)
    tokens = batch_size * workload.row_length
    forward = flops.encoder(workload.encoder, np.full(batch_size, workload.row_length))
    forward += flops.classifier_head(workload.encoder, batch_size, workload.classes)

    def run() -> Counts:
        for _ in range(batch_size):
            next(stream)
        return Counts(tokens, tokens, forward, 0.0)

    return run, stream.close


def _reading(workload: Workload, choices: Choices, batch_size: int, split: Split) -> Work:
    config = pretraining(workload, choices, batch_size)
    batches = loader.Pretraining(split, config).batches()

    def run() -> Counts:
        batch = next(batches)
        return Counts(batch["tokens"].size, int(np.count_nonzero(batch["segment_ids"])), 0.0, 0.0)

    return Work(run, None, None, None, batch_size, config, 0, batches.close)


def _compiling(workload: Workload, choices: Choices, batch_size: int, program: _Program) -> Work:
    """A step that compiles the step, without what the process has kept of an earlier time."""

    def run() -> Counts:
        jax.clear_caches()
        _compiled(_program(workload, choices, batch_size))
        return Counts(0, 0, 0.0, 0.0)

    return Work(run, None, None, None, batch_size, program.config, program.devices, lambda: None)
