"""Fine-tuning: a pretrained encoder under a new classifier, trained on labelled sequences and judged on held-out ones.

The workdir gets `classes.json`, `checkpoints/` to resume from, `best/` with the params of the epoch that did best on
the validation set by Matthews correlation, and at the end `result.json` and the pictures.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dnabert_jax import evaluation, optim, sharding
from dnabert_jax.config import EncoderConfig, FinetuneConfig, FinetunedEncoderConfig, OptimizerConfig, PretrainConfig
from dnabert_jax.data import labelled, loader
from dnabert_jax.data.labelled import Examples
from dnabert_jax.errors import InputError
from dnabert_jax.model.heads import fine_tuned, predictor
from dnabert_jax.objectives import targets
from dnabert_jax.training import loop, pretrain, reports, state, step, workdir
from dnabert_jax.training.checkpoints import Checkpoints, restore_params
from dnabert_jax.training.progress import display
from dnabert_jax.training.signals import StopSignals

Say = Callable[[str], None]

CLASSES = "classes.json"
BEST = "best"
CRITERION = "mcc"


def run(config: FinetuneConfig, say: Say) -> dict[str, Any]:
    """Fine-tunes, or goes on where an earlier start in the same workdir stopped.

    Args:
      config: complete; its workdir is made when missing.
      say: hears what was loaded and what is new, or from where the run goes on.

    Returns:
      What `result.json` holds: the figures of the best epoch on the test set (or the validation set without one).

    Raises:
      InputError: bad labelled data, an `init` that is no pretraining workdir, or a workdir of another run.
      RunStopped: a loss that is no number, or a full disk.
      Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    for name in ("train", "validation"):
        if not getattr(config.data, name):
            raise InputError(f"data.{name} is empty; give labelled sequences with --data.{name}")
    with StopSignals() as stop:
        config = _completed(config)
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_batch(mesh, config.batch_size, "batch_size")
        train, validation, test = _examples(config, say)
        with workdir.lock(config.workdir), sharding.use(mesh):
            source = None if _resumes(config) else _pretrained(config, mesh, say)
            workdir.claim(config.workdir, config)
            return _run(config, source, (train, validation, test), mesh, stop, say)


def initializer(config: FinetuneConfig, classes: tuple[str, ...]) -> state.Init:
    """Random key → params of the classifier, boxed with their logical axes."""
    row = jnp.zeros((1, config.model.max_length), jnp.int32)
    model = fine_tuned(config.fine_tuned(classes))
    return lambda key: model.init(key, row, row, row, deterministic=True)["params"]


def _completed(config: FinetuneConfig) -> FinetuneConfig:
    """The config with what is missing of its encoder: that of the run in the workdir, or of `init` for a new run.

    Raises:
      InputError: the model there has another value for a field that was given.
    """
    if config.workdir and (Path(config.workdir) / workdir.CONFIG).exists():
        where, found = config.workdir, workdir.read_config(config.workdir, FinetuneConfig).encoder
    elif config.init:
        where, found = config.init, workdir.read_config(config.init, PretrainConfig).encoder
    else:
        return dataclasses.replace(config, encoder=config.encoder.filled(EncoderConfig()))
    for name in FinetunedEncoderConfig().missing:
        asked, there = getattr(config.encoder, name), getattr(found, name)
        if asked not in (None, there):
            raise InputError(f"encoder.{name} is {asked}, but the model in {where} has {there}")
    return dataclasses.replace(config, encoder=config.encoder.filled(found))


def _resumes(config: FinetuneConfig) -> bool:
    """Whether the workdir has a checkpoint, good or not, so that the params come from there and not from `init`."""
    folder = Path(config.workdir) / "checkpoints"
    return folder.is_dir() and any(each.name.isdigit() for each in folder.iterdir())


def _examples(config: FinetuneConfig, say: Say) -> tuple[Examples, Examples, Examples | None]:
    def read(path: str, classes: tuple[str, ...] | None) -> Examples:
        return labelled.read(
            path,
            k=config.model.k,
            max_kmers=config.model.max_kmers,
            fasta=config.data.fasta,
            label_column=config.data.label_column,
            classes=classes,
            say=say,
        )

    train = read(config.data.train, None)
    validation = read(config.data.validation, train.classes)
    return train, validation, read(config.data.test, train.classes) if config.data.test else None


def _pretrained(config: FinetuneConfig, mesh: Mesh, say: Say) -> state.Params | None:
    """The encoder's params from `init`; None where the run starts from random ones."""
    if not config.init or config.random_params:
        say("encoder: random params")
        return None
    source = workdir.read_config(config.init, PretrainConfig)
    like = state.parameter_layout(pretrain.initializer(source), jax.random.key(0), mesh)
    params, at = restore_params(Path(config.init) / "checkpoints", like, say)
    say(f"loaded from {config.init} (step {at}): {_inventory({'encoder': params['encoder']})}")
    return params["encoder"]


def _inventory(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} ({len(jax.tree.leaves(tree))} arrays, {state.parameter_count(tree):,} params)"
        for name, tree in sorted(params.items())
    )


def _run(config: FinetuneConfig, source: state.Params | None, examples, mesh: Mesh, stop: StopSignals, say: Say):
    train, validation, test = examples
    folder = Path(config.workdir)
    per_epoch = math.ceil(len(train.labels) / config.batch_size)
    steps = per_epoch * config.epochs
    values = OptimizerConfig(
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup_share * steps),
        decay_steps=steps,
        beta2=config.beta2,
        epsilon=config.epsilon,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    init = initializer(config, train.classes)
    params_key, step_key = jax.random.split(jax.random.key(config.seed))
    optimizer = optim.adamw(values, ("pooler", "classifier") if config.freeze_encoder else None)
    like = state.layout(init, optimizer, params_key, mesh)
    identity = {
        "classes": list(train.classes),
        "data.train": _digest(train),
        "data.validation": _digest(validation),
    }
    probabilities = predictor(config.fine_tuned(train.classes))

    def judge(params: state.Params, held_out: Examples) -> tuple[dict[str, Any], np.ndarray]:
        scores = _scores(config, probabilities, params, held_out, mesh)
        return evaluation.classification_figures(held_out.labels, scores, held_out.classes), scores

    with (
        Checkpoints(folder / "checkpoints", keep=2) as checkpoints,  # the older one to fall back on
        Checkpoints(folder / BEST, keep=2) as best,  # the one before the best for the same
    ):
        restored = checkpoints.restore(like, say)
        if restored:
            current, progress = restored
            say(f"resuming from step {int(current.step)}")
            loop.check_identity(config.workdir, progress["identity"], identity)
        else:
            current, progress = state.create(init, optimizer, params_key, like), None
            if source is not None:
                new = {name: tree for name, tree in current.params.items() if name != "encoder"}
                say(f"new: {_inventory(new)}")
                current = current.replace(params={**current.params, "encoder": source})
        start = int(current.step)
        workdir.update(folder, config)
        workdir.write_json(folder / CLASSES, list(train.classes))
        keeper = _Best(best, progress and progress["kept"])
        program = loop.Program(
            step=step.make(
                _loss(config, train.classes),
                lambda batch, key, step: (batch, jnp.sum(batch["weights"])),
                optimizer,
                optim.schedule(values),
                parts=1,
                key=step_key,
                mesh=mesh,
                shardings=state.shardings(like),
            ),
            batches=lambda start: _batches(config, train, per_epoch, start, mesh),
            figures=_figures,
            validate=lambda current: _headline(judge(current.params, validation)[0]),
            validate_first=False,
            after_validation=keeper.consider,
            tokens_per_step=config.batch_size * _length(config, train),
            steps=steps,
            report_every=config.report_every,
            validate_every=per_epoch,
            save_every=per_epoch,
            identity=identity,
        )
        with (
            reports.Reports(folder, start if progress else None) as reported,
            display(steps, start, title=f"fine-tuning {folder.name}") as shown,
        ):
            loop.run(program, current, progress, checkpoints=checkpoints, reports=reported, display=shown, stop=stop)
    params, at = restore_params(folder / BEST, like.params, say)
    split, held_out = ("test", test) if test is not None else ("validation", validation)
    figures, scores = judge(params, held_out)
    evaluation.draw_classification(held_out.labels, scores, held_out.classes, folder)
    result = {"split": split, "best_epoch": at // per_epoch, "epochs": config.epochs, "init": config.init, **figures}
    workdir.write_json(folder / "result.json", result)
    return result


class _Best:
    """Keeps the params of the validation with the highest Matthews correlation; of equals, the first.

    Args:
      checkpoints: where they are kept.
      kept: what `consider` returned last, where the run goes on from a checkpoint.
    """

    def __init__(self, checkpoints: Checkpoints, kept: loop.Figures | None) -> None:
        self._checkpoints = checkpoints
        self._highest = kept[CRITERION] if kept else -math.inf

    def consider(self, at: int, current: state.State, figures: loop.Figures) -> loop.Figures:
        """Saves the params if they are the best so far. Returns the figure of the best, for the run's checkpoint."""
        if figures[CRITERION] > self._highest:
            self._highest = figures[CRITERION]
            self._checkpoints.save(at, current.replace(optimizer=None), {})
            self._checkpoints.wait()  # whole before the run saves itself as one that has it
        return {CRITERION: self._highest}


def _loss(config: FinetuneConfig, classes: tuple[str, ...]) -> step.Loss:
    model = fine_tuned(config.fine_tuned(classes), config.dropout)

    def loss(params, batch, key):
        if config.freeze_encoder:
            params = {**params, "encoder": jax.lax.stop_gradient(params["encoder"])}
        inputs = (batch["tokens"], batch["segment_ids"], batch["positions"])
        logits = model.apply({"params": params}, *inputs, deterministic=False, rngs={"dropout": key})
        return targets.single_label(logits, batch["labels"], batch["weights"])

    return loss


def _figures(sums: dict[str, float], last: dict[str, float], steps: int) -> loop.Figures:
    return {
        "loss": sums["loss"] / sums["examples"],
        "accuracy": sums["correct"] / sums["examples"],
        "learning_rate": last["learning_rate"],
        "gradient_norm": sums["gradient_norm"] / steps,
    }


def _headline(figures: dict[str, Any]) -> loop.Figures:
    """The figures that are one number each."""
    return {name: value for name, value in figures.items() if isinstance(value, int | float) or value is None}


def _length(config: FinetuneConfig, *examples: Examples) -> int:
    """Tokens per row: the longest example, [CLS] and [SEP] included, rounded up to a multiple of 8."""
    longest = max(len(bases) for each in examples for bases in each.sequences) - config.model.k + 3
    return min(8 * math.ceil(longest / 8), config.model.max_length)


def _batches(
    config: FinetuneConfig, train: Examples, per_epoch: int, start: int, mesh: Mesh
) -> Generator[dict[str, jax.Array], None, None]:
    epoch, skip = divmod(start, per_epoch)
    while True:
        batches = loader.labelled_batches(
            train,
            batch_size=config.batch_size,
            k=config.model.k,
            length=_length(config, train),
            seed=config.seed,
            epoch=epoch,
            reverse_complement=config.reverse_complement,
            shuffle=True,
            start_batch=skip,
        )
        yield from sharding.on_devices(batches, mesh)
        epoch, skip = epoch + 1, 0


def _scores(config: FinetuneConfig, probabilities, params: state.Params, examples: Examples, mesh: Mesh) -> np.ndarray:
    """Class probabilities in the order of the examples, float32[n, classes]."""
    batches = loader.labelled_batches(
        examples, batch_size=config.batch_size, k=config.model.k, length=_length(config, examples)
    )
    scores = [np.asarray(probabilities(params, batch)) for batch in sharding.on_devices(batches, mesh)]
    return np.concatenate(scores)[: len(examples.labels)]


def _digest(examples: Examples) -> str:
    digest = hashlib.sha256(examples.labels.tobytes())
    for bases in examples.sequences:
        digest.update(bases.tobytes() + b"\xff")
    return digest.hexdigest()[:16]
