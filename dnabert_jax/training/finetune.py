"""Fine-tuning: a pretrained encoder under a new head, trained on labelled sequences and judged on held-out ones.

The workdir gets `classes.json`, `checkpoints/` to resume from, `best/` with the params of the epoch that did best on
the validation set by the target's criterion, and at the end `predictions.tsv`, the pictures and `result.json`.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import math
import os
import platform
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dnabert_jax import compiler, evaluation, hosts, lora, optim, places, sharding, stored
from dnabert_jax.config import (
    EncoderConfig,
    FinetuneConfig,
    FinetunedEncoderConfig,
    ModelConfig,
    OptimizerConfig,
    require_profiled,
)
from dnabert_jax.data import labelled, loader, pieces
from dnabert_jax.data.labelled import Examples
from dnabert_jax.errors import InputError
from dnabert_jax.evaluation import judged as judged_
from dnabert_jax.model import attention_check
from dnabert_jax.model.heads import fine_tuned, initializer, predictor
from dnabert_jax.objectives import Sums, targets
from dnabert_jax.stored import Stored
from dnabert_jax.training import loop, reports, state, step, transfer, workdir
from dnabert_jax.training.best import Best
from dnabert_jax.training.checkpoints import Checkpoints, restore_params
from dnabert_jax.training.profile import Profile
from dnabert_jax.training.progress import display
from dnabert_jax.training.signals import StopSignals
from dnabert_jax.training.units import Units

Say = Callable[[str], None]


def run(config: FinetuneConfig, say: Say) -> dict[str, Any]:
    """Fine-tunes, or goes on where an earlier start in the same workdir stopped.

    Args:
      config: complete; its workdir is made when missing.
      say: hears what was loaded and what is new, or from where the run goes on.

    Returns:
      What `result.json` holds: the figures of the best epoch on the test set (or the validation set without one).

    Raises:
      InputError: bad labelled data, an `init` that is no model, an attention kernel that does not compute what it
        should here, or a workdir of another run.
      RunStopped: a loss that is no number, or a full disk.
      Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    for name in ("train", "validation"):
        if not getattr(config.data, name):
            raise InputError(f"data.{name} is empty; give labelled sequences with --data.{name}")
    with hosts.together(config.hosts), StopSignals() as stop:
        say = hosts.only_first(say)
        workdir.check_same_run_everywhere(config)
        begun, encoder = hosts.on_first(lambda: [workdir.init_as_begun(config, say), _encoder_as_begun(config)])
        with hosts.agreed():
            source = None
            if begun is not None:
                config = dataclasses.replace(config, init=begun)
            elif config.init:
                source = stored.read(config.init, say)
            config = _completed(config, source, encoder)
            mesh = sharding.make_mesh(config.mesh)
            sharding.check_batch(mesh, config.batch_size, "batch_size")
            train, validation, test = _examples(config, say)
            require_profiled(config.profiled, _per_epoch(config, train) * config.epochs)
        tested = {} if test is None else {"data.test": _digest(test)}
        identity = _identity(train, validation)
        hosts.check_same("the labelled data", {**identity, **tested})
        with workdir.lock(config.workdir), sharding.use(mesh):
            attention_check.require(config.model, _row(config, train)[1])
            for held_out in filter(None, (validation, test)):
                attention_check.require(config.model, _row(config, held_out)[1], trains=False)
            workdir.claim(config.workdir, config)
            stop.agree_over(mesh)
            return _run(config, source, (train, validation, test), identity, mesh, stop, say)


def _encoder_as_begun(config: FinetuneConfig) -> dict[str, Any] | None:
    """The encoder of the run in the workdir, as JSON has it; None where there is none."""
    if not config.workdir or not (places.place(config.workdir) / workdir.CONFIG).exists():
        return None
    return dataclasses.asdict(workdir.read_config(config.workdir, FinetuneConfig).encoder)


def _completed(config: FinetuneConfig, source: Stored | None, begun: dict[str, Any] | None) -> FinetuneConfig:
    """The config with what is missing of its encoder: that of the run in the workdir, or of `init` for a new run.

    Args:
      config: of the run.
      source: the model `init`; None where it is not read.
      begun: from `_encoder_as_begun`.

    Raises:
      InputError: the model there has another value for a field that was given.
    """
    if begun is not None:
        where, found = config.workdir, FinetunedEncoderConfig(**begun)
        may_differ = set()
    elif source:
        where, found = config.init, source.config.encoder
        may_differ = {"max_length"}
    else:
        return dataclasses.replace(config, encoder=config.encoder.filled(EncoderConfig()))
    for name in FinetunedEncoderConfig().missing:
        asked, there = getattr(config.encoder, name), getattr(found, name)
        if asked not in (None, there) and name not in may_differ:
            raise InputError(f"encoder.{name} is {asked}, but the model in {where} has {there}")
    return dataclasses.replace(config, encoder=config.encoder.filled(found))


def _examples(config: FinetuneConfig, say: Say) -> tuple[Examples, Examples, Examples | None]:
    def read(path: str, classes: tuple[str, ...] | None) -> Examples:
        return labelled.read(
            path,
            k=config.model.k,
            max_kmers=config.pieces * config.model.max_kmers,
            target=config.target,
            fasta=config.data.fasta,
            label_column=config.data.label_column,
            classes=classes,
            say=say,
        )

    train = read(config.data.train, None)
    validation = read(config.data.validation, train.classes)
    return train, validation, read(config.data.test, train.classes) if config.data.test else None


def _run(
    config: FinetuneConfig,
    source: Stored | None,
    examples: tuple[Examples, Examples, Examples | None],
    identity: dict[str, Any],
    mesh: Mesh,
    stop: StopSignals,
    say: Say,
) -> dict[str, Any]:
    train, validation, test = examples
    folder = places.place(config.workdir)
    per_epoch = _per_epoch(config, train)
    steps = per_epoch * config.epochs
    values = optimizer_values(config, steps)
    model = config.fine_tuned(train.classes)
    init = initializer(model)
    plain = state.parameter_layout(init, jax.random.key(0), mesh)
    if config.lora.rank:
        init = lora.with_adapters(init, config.lora)
    params_key, step_key = jax.random.split(jax.random.key(config.seed))
    optimizer = optim.adamw(values, _trained(config))
    like = state.layout(init, optimizer, params_key, mesh)
    units = Units.of(train, config.target)
    predict = predictor(model)

    @jax.jit
    def finished(params: state.Params) -> state.Params:
        """As they are kept for use: adapters merged, and regression in the units of the labels."""
        return units.restored(lora.merge(params, config.lora))

    def judge(params: state.Params, held_out: Examples) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
        judged = _judged(config, predict, params, held_out, mesh)
        # The figures decide which epoch is kept, so no other process computes them, to whom they might differ by a bit.
        return hosts.on_first(lambda: evaluation.figures(config.target, *judged, held_out.classes)), judged

    with (
        Checkpoints(folder / workdir.CHECKPOINTS, keep=2) as checkpoints,  # the older one to fall back on
        Checkpoints(folder / workdir.BEST, keep=2) as best,  # the one before the best for the same
    ):
        restored = checkpoints.restore(like, say)
        if restored:
            current, progress = restored
            say(f"resuming from step {int(current.step)}")
            loop.check_identity(config.workdir, progress["identity"], identity)
        else:
            current, progress = state.create(init, optimizer, params_key, like), None
            if source is not None and not config.random_params:
                if source.config.classes == model.classes:
                    source = source._replace(params=units.standardised(source.params))
                taken = transfer.take_over(source, config.init, model, current.params, say)
                current = current.replace(params=taken)
            else:
                say("encoder: random params")
        start = int(current.step)

        def note() -> None:
            workdir.update(folder, config)
            workdir.write_json(folder / workdir.CLASSES, list(train.classes))

        hosts.on_first(note)
        keeper = Best(best, evaluation.criterion(config.target), finished, progress and progress["kept"])
        program = loop.Program(
            step=training_step(
                config, model, values, optimizer, key=step_key, mesh=mesh, shardings=state.shardings(like)
            ),
            batches=lambda start: batches(config, units.standard(train), per_epoch, start, mesh),
            figures=_figures,
            validate=lambda current: _headline(judge(finished(current.params), validation)[0]),
            validate_first=False,
            after_validation=keeper.consider,
            tokens_per_step=config.batch_size * math.prod(_row(config, train)),
            steps=steps,
            report_every=config.report_every,
            validate_every=per_epoch,
            save_every=per_epoch,
            identity=identity,
        )
        with (
            reports.Reports(folder, start if progress else None) as reported,
            display(steps, start, title=f"fine-tuning {folder.name}") as shown,
            Profile(config.profiled, folder, shown.say) as profile,
        ):
            loop.run(
                program,
                current,
                progress,
                checkpoints=checkpoints,
                reports=reported,
                display=shown,
                stop=stop,
                profile=profile,
            )
    params, at = restore_params(folder / workdir.BEST, plain, say)
    split, held_out = ("test", test) if test is not None else ("validation", validation)
    figures, judged = judge(params, held_out)

    def result() -> dict[str, Any]:
        evaluation.draw(config.target, *judged, held_out.classes, folder)
        judged_.write(folder / judged_.FILE, config.target, judged_.of(held_out, *judged), held_out.classes)
        splits = {"train": train, "validation": validation, **({"test": test} if test is not None else {})}
        found = {
            "split": split,
            "best_epoch": at // per_epoch,
            "epochs": config.epochs,
            "init": config.init,
            "params": state.parameter_count(params),
            **figures,
            "data": {name: _described(each) for name, each in splits.items()},
            "made_with": _made_with(),
        }
        workdir.write_json(folder / "result.json", found)
        return found

    return hosts.on_first(result)


def _per_epoch(config: FinetuneConfig, train: Examples) -> int:
    """Steps of an epoch."""
    return math.ceil(len(train.labels) / config.batch_size)


def _identity(train: Examples, validation: Examples) -> dict[str, Any]:
    """What must be the same for a run to go on with the same data, and on every host."""
    return {
        "classes": list(train.classes),
        "data.train": _digest(train),
        "data.validation": _digest(validation),
    }


def optimizer_values(config: FinetuneConfig, steps: int) -> OptimizerConfig:
    """The optimiser of a run of so many steps."""
    return OptimizerConfig(
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup_share * steps),
        decay_steps=steps,
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )


def training_step(
    config: FinetuneConfig,
    model: ModelConfig,
    values: OptimizerConfig,
    optimizer: optax.GradientTransformation,
    *,
    key: jax.Array,
    mesh: Mesh,
    shardings: state.State,
) -> Callable[[state.State, Any], tuple[state.State, Sums]]:
    """The step that a run takes, from `step.make`, for what `batches` yields.

    Args:
      config: of the run.
      model: that is trained.
      values: of the optimiser, for the learning rate that is reported.
      optimizer: made of these values.
      key, mesh, shardings: as for `step.make`.
    """
    return step.make(
        _loss(config, model),
        lambda batch, key, step: (
            batch,
            jnp.sum(targets.weights_of(config.target, batch["labels"], batch["weights"])),
        ),
        optimizer,
        optim.schedule(values),
        parts=1,
        key=key,
        mesh=mesh,
        shardings=shardings,
        compiler_options=compiler.options(model.encoder.compute_dtype),
    )


def _trained(config: FinetuneConfig) -> tuple[str, ...] | None:
    """Top-level names of the params that are trained; None for all."""
    head = ("classifier",) if config.target == "per_base" else ("pooler", "classifier")
    if config.lora.rank:
        return (*head, "lora")
    return head if config.freeze_encoder else None


def _loss(config: FinetuneConfig, model: ModelConfig) -> step.Loss:
    module = fine_tuned(model, config.dropout)

    def loss(params, batch, key):
        if config.freeze_encoder or config.lora.rank:
            params = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
        params = lora.merge(params, config.lora)
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        logits = module.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": key})
        return targets.objective(config.target)(logits, batch["labels"], batch["weights"])

    return loss


def _figures(sums: dict[str, float], last: dict[str, float], steps: int) -> loop.Figures:
    examples = max(sums["examples"], 1)
    accuracy = {"accuracy": sums["correct"] / examples} if "correct" in sums else {}
    return {
        "loss": sums["loss"] / examples,
        **accuracy,
        "learning_rate": last["learning_rate"],
        "gradient_norm": sums["gradient_norm"] / steps,
    }


def _headline(figures: dict[str, Any]) -> loop.Figures:
    """The figures that are one number each."""
    return {name: value for name, value in figures.items() if isinstance(value, int | float) or value is None}


def _row(config: FinetuneConfig, *examples: Examples) -> tuple[int, int]:
    """Pieces of an example and tokens of a piece: as many as the longest needs, rounded up to a multiple of 8."""
    k, max_kmers = config.model.k, config.model.max_kmers
    longest = max(len(bases) for each in examples for bases in each.sequences)
    count = pieces.count(longest, k, max_kmers)
    if count > 1:
        return count, config.model.max_length
    return 1, min(8 * math.ceil((longest - k + 3) / 8), config.model.max_length)


def batches(
    config: FinetuneConfig, train: Examples, per_epoch: int, start: int, mesh: Mesh
) -> Generator[dict[str, jax.Array], None, None]:
    """The batches of a run without end, laid on the mesh, as `loader.labelled_batches` has them.

    Args:
      config: of the run.
      train: the examples, which are shuffled anew for each epoch.
      per_epoch: batches in an epoch.
      start: number of the first batch, counted through all epochs.
      mesh: from `sharding.make_mesh`.
    """
    count, length = _row(config, train)
    epoch, skip = divmod(start, per_epoch)
    while True:
        of_epoch = loader.labelled_batches(
            train,
            batch_size=config.batch_size,
            k=config.model.k,
            length=length,
            pieces=count,
            seed=config.seed,
            epoch=epoch,
            reverse_complement=config.reverse_complement,
            shuffle=True,
            start_batch=skip,
            rows=sharding.local_rows(mesh, config.batch_size),
        )
        yield from sharding.on_devices(of_epoch, mesh)
        epoch, skip = epoch + 1, 0


def _judged(
    config: FinetuneConfig, predict, params: state.Params, examples: Examples, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions, as `evaluation.figures` takes them."""
    count, length = _row(config, examples)
    rows = loader.labelled_batches(
        examples,
        batch_size=config.batch_size,
        k=config.model.k,
        length=length,
        pieces=count,
        rows=sharding.local_rows(mesh, config.batch_size),
    )
    labels, predicted = [], []
    for batch in sharding.on_devices(rows, mesh):
        found, there = hosts.gather(batch["labels"]), hosts.gather(batch["weights"]) > 0
        if config.target == "per_base":
            there = there[:, None] & (found >= 0)
        labels.append(found[there])
        predicted.append(hosts.gather(predict(params, batch))[there])
    return np.concatenate(labels), np.concatenate(predicted)


def _described(examples: Examples) -> dict[str, Any]:
    """How many sequences there are, and how many (for `per_base` labelled bases) are of each class."""
    found: dict[str, Any] = {"sequences": len(examples.labels), "digest": _digest(examples)}
    if examples.target == "regression":
        return found
    if examples.target == "multi_label":
        counts = examples.labels.sum(axis=0, dtype=np.int64)
    else:
        labels = np.concatenate(examples.labels) if examples.target == "per_base" else examples.labels
        counts = np.bincount(labels[labels >= 0], minlength=len(examples.classes))
    return {**found, "per_class": dict(zip(examples.classes, counts.tolist(), strict=True))}


def _made_with() -> dict[str, str]:
    """Versions of what decides the figures, and the hardware, as far as JAX and Python know it."""
    devices = jax.devices()
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        kind = f"{platform.machine()} CPU with {os.cpu_count()} cores"
    versions = {"python": platform.python_version()}
    for name in ("dnabert-jax", "jax", "flax", "optax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # as of a checkout that is not installed
            versions[name] = importlib.metadata.version(name)
    return {**versions, "devices": f"{len(devices)} × {kind}"}


def _digest(examples: Examples) -> str:
    digest = hashlib.sha256()
    for labels in examples.labels if isinstance(examples.labels, tuple) else (examples.labels,):
        digest.update(labels.tobytes())
    for bases in examples.sequences:
        digest.update(bases.tobytes() + b"\xff")
    return digest.hexdigest()[:16]
