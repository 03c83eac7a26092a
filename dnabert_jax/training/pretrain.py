"""Masked-LM pretraining: from a config to a workdir with checkpoints, metrics and a result."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dnabert_jax import compiler, hosts, masking, optim, places, sharding, stored
from dnabert_jax.config import ModelConfig, PretrainConfig
from dnabert_jax.data import loader, shards
from dnabert_jax.data.rows import Batch
from dnabert_jax.errors import InputError
from dnabert_jax.model import attention_check
from dnabert_jax.model.heads import MaskedLanguageModel, initializer
from dnabert_jax.objectives import Sums, masked_lm
from dnabert_jax.stored import Stored
from dnabert_jax.training import loop, reports, state, step, transfer, workdir
from dnabert_jax.training.checkpoints import Checkpoints
from dnabert_jax.training.profile import Profile
from dnabert_jax.training.progress import display
from dnabert_jax.training.signals import StopSignals

Say = Callable[[str], None]


def run(config: PretrainConfig, say: Say) -> dict[str, Any]:
    """Pretrains, or goes on where an earlier start in the same workdir stopped.

    Args:
      config: complete; its workdir is made when missing.
      say: hears of what is skipped or taken up again.

    Returns:
      What `result.json` holds: steps, number of parameters, and the validation figures before and after.

    Raises:
      InputError: bad data, a mesh that the devices do not make, an `init` that is no model or another one than
        `encoder` says, an attention kernel that does not keep segments apart here, or a workdir of another run.
      RunStopped: a loss that is no number, or a full disk.
      Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    if not config.data.path:
        raise InputError("data.path is empty; give the folder that `dnabert build` wrote with --data.path")
    with hosts.together(config.hosts), StopSignals() as stop:
        say = hosts.only_first(say)
        workdir.check_same_run_everywhere(config)
        begun = hosts.on_first(lambda: workdir.init_as_begun(config, say))
        with hosts.agreed():
            source = None
            if begun is not None:
                config = dataclasses.replace(config, init=begun)
            elif config.init:
                source = stored.read(config.init, say)
                transfer.check_same_encoder(config.encoder, source, config.init)
            mesh = sharding.make_mesh(config.mesh)
            rows = config.batch_size // config.accumulation
            sharding.check_batch(mesh, rows, "batch_size / accumulation")
            train = shards.open_split(config.data.path, "train")
            held_out = []
            if shards.has_split(config.data.path, "validation"):
                validation = shards.open_split(config.data.path, "validation")
                rows_here = sharding.local_rows(mesh, rows)
                held_out = loader.evaluation_batches(validation, config, rows, config.loop.validation_rows, rows_here)
            pipeline = loader.Pretraining(train, config)
        hosts.check_same(config.data.path, pipeline.identity)
        with workdir.lock(config.workdir), sharding.use(mesh):
            segments = max([pipeline.most_segments, *(int(batch["segment_ids"].max()) for batch in held_out)])
            attention_check.require(config.encoder, config.row_length, segments=max(hosts.exchange(segments)))
            workdir.claim(config.workdir, config)
            if not held_out:
                say(f"{config.data.path}: no validation split, so nothing is validated")
            stop.agree_over(mesh)
            return _run(config, source, pipeline, held_out, mesh, stop, say)


def _run(
    config: PretrainConfig, source: Stored | None, pipeline, held_out, mesh: Mesh, stop: StopSignals, say: Say
) -> dict[str, Any]:
    folder = places.place(config.workdir)
    optimizer = optim.adamw(config.optimizer)
    key = jax.random.key(config.seed)
    params_key, step_key, validation_key = jax.random.split(key, 3)
    model = ModelConfig(config.encoder, "masked_lm")
    init = initializer(model)
    like = state.layout(init, optimizer, params_key, mesh)
    with Checkpoints(folder / workdir.CHECKPOINTS, config.loop.keep) as checkpoints:
        restored = checkpoints.restore(like, say)
        current, progress = restored or (state.create(init, optimizer, params_key, like), None)
        start = int(current.step)
        if not restored and source:
            taken = transfer.take_over(source, config.init, model, current.params, say)
            current = current.replace(params=taken)
        if progress:
            say(f"resuming from step {start}")
            loop.check_identity(config.data.path, progress["identity"], pipeline.identity)
        if start > config.loop.steps:
            raise InputError(f"{folder}: is at step {start} already; expected loop.steps of at least that")
        hosts.on_first(lambda: workdir.update(folder, config))
        program = loop.Program(
            step=training_step(config, optimizer, key=step_key, mesh=mesh, shardings=state.shardings(like)),
            batches=lambda start: sharding.on_devices(
                pipeline.batches(start, sharding.local_rows(mesh, config.batch_size)), mesh
            ),
            figures=_figures(config),
            validate=_validation(config, held_out, mesh, validation_key) if held_out else None,
            validate_first=True,
            after_validation=lambda *_: None,
            tokens_per_step=config.batch_size * config.row_length,
            steps=config.loop.steps,
            report_every=config.loop.report_every,
            validate_every=config.loop.validate_every,
            save_every=config.loop.save_every,
            identity=pipeline.identity,
        )
        with (
            reports.Reports(folder, start if progress else None) as reported,
            display(config.loop.steps, start, title=f"pretraining {folder.name}") as shown,
            Profile(config.profiled, folder, shown.say) as profile,
        ):
            final, validated = loop.run(
                program,
                current,
                progress,
                checkpoints=checkpoints,
                reports=reported,
                display=shown,
                stop=stop,
                profile=profile,
            )
    return hosts.on_first(lambda: _result(folder, final, validated))


def _result(folder: Path, final: state.State, validated: loop.Figures) -> dict[str, Any]:
    """Writes `result.json`, and returns what is in it."""
    first = next((each for each in reports.read(folder) if each["split"] == "validation"), None)
    result = {
        "steps": int(final.step),
        "parameters": state.parameter_count(final.params),
        "validation_before": first and {name: value for name, value in first.items() if name not in ("step", "split")},
        "validation": validated or None,
    }
    workdir.write_json(folder / "result.json", result)
    return result


def training_step(
    config: PretrainConfig,
    optimizer: optax.GradientTransformation,
    *,
    key: jax.Array,
    mesh: Mesh,
    shardings: state.State,
) -> Callable[[state.State, Any], tuple[state.State, Sums]]:
    """The step that a run takes, from `step.make`, for what the pipeline yields.

    Args:
      config: of the run.
      optimizer: made of its values.
      key, mesh, shardings: as for `step.make`.
    """
    return step.make(
        masked_lm_loss(config),
        span_masking(config),
        optimizer,
        optim.schedule(config.optimizer),
        parts=config.accumulation,
        key=key,
        mesh=mesh,
        shardings=shardings,
        compiler_options=compiler.options(config.encoder.compute_dtype),
    )


def span_masking(config: PretrainConfig):
    """What `step.make` takes as `prepare`: rows → masked rows and the number of masked tokens."""

    def prepare(batch, key, step):
        masked = masking.mask(key, batch, config.masking, k=config.encoder.k, step=step)
        return masked, jnp.sum(masked.weights)

    return prepare


def masked_lm_loss(config: PretrainConfig) -> step.Loss:
    """The loss of masked rows with dropout on, and the sums that go with it."""
    model = MaskedLanguageModel(config.encoder)

    def loss(params, batch, key):
        logits = model.apply(
            {"params": params},
            batch.tokens,
            batch.segment_ids,
            batch.positions,
            batch.slots,
            deterministic=False,
            rngs={"dropout": key},
        )
        total, sums = masked_lm.loss(logits, batch, config.encoder.k)
        return total, sums | {"useful_tokens": jnp.sum(batch.segment_ids > 0).astype(jnp.float32)}

    return loss


def _figures(config: PretrainConfig):
    tokens = config.batch_size * config.row_length

    def figures(sums: dict[str, float], last: dict[str, float], steps: int) -> loop.Figures:
        return {
            **masked_lm.figures(sums),
            "learning_rate": last["learning_rate"],
            "gradient_norm": sums["gradient_norm"] / steps,
            "useful_share": sums["useful_tokens"] / (tokens * steps),
        }

    return figures


def _validation(config: PretrainConfig, held_out: list[Batch], mesh: Mesh, key: jax.Array):
    """The same held-out rows under the same masks, each time and however many rows are computed at once."""
    model = MaskedLanguageModel(config.encoder)
    rows = config.batch_size // config.accumulation

    def mask_row(number, row):
        batch = {name: value[None] for name, value in row.items()}
        row_key = jax.random.fold_in(key, number)
        masked = masking.mask(row_key, batch, config.masking, k=config.encoder.k, evaluation=True)
        return jax.tree.map(lambda x: x[0], masked)

    @functools.partial(
        jax.jit,
        out_shardings=sharding.replicated(mesh),
        compiler_options=compiler.options(config.encoder.compute_dtype),
    )
    def evaluate(params, batch, number):
        masked = jax.vmap(mask_row)(number * rows + jnp.arange(rows), batch)
        inputs = (masked.tokens, masked.segment_ids, masked.positions, masked.slots)
        logits = model.apply({"params": params}, *inputs, deterministic=True)
        return masked_lm.loss(logits, masked, config.encoder.k)[1]

    def validate(current: state.State) -> loop.Figures:
        sums: Counter = Counter()
        for number, batch in enumerate(held_out):
            rows_here = sharding.on_device(batch, mesh)
            found = jax.device_get(evaluate(current.params, rows_here, np.int32(number)))
            sums.update({name: float(value) for name, value in found.items()})
        return masked_lm.figures(sums)

    return validate
