"""Where the time of a step goes: its parts compiled and timed each by itself, at the shapes that they have in it.

A part is done forward and backward with dropout on, as in the step; the parts of a layer are one layer's, times the
layers. What runs by itself writes to memory what a whole step may keep in registers and caches, and a step does some
things that no part has: it hands activations from layer to layer, computes them again under `remat`, and waits for
other devices. So the rest, the step's time less that of all parts, can be anything, below zero too. It is small where
the breakdown can be trusted.
"""

import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dnabert_jax import compiler, kmers, optim
from dnabert_jax.bench import work
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.workloads import Workload
from dnabert_jax.config import EncoderConfig, ModelConfig
from dnabert_jax.data import packing
from dnabert_jax.model import rotary
from dnabert_jax.model.dense import layer_norm
from dnabert_jax.model.dropout import dropout
from dnabert_jax.model.encoder import Attention, Embeddings, FeedForward
from dnabert_jax.model.heads import MaskedLanguageModelHead, fine_tuned, initializer
from dnabert_jax.objectives import masked_lm, targets
from dnabert_jax.training import pretrain

PARTS = ("embedding", "attention", "mlp", "head", "optimizer", "masking", "input_wait", "rest")
"""In the order in which they are shown. `attention` and `mlp` are the two halves of all layers, each with its
projections, dropout, residual and LayerNorm; `head` has the loss and the figures; `optimizer` clips and updates."""

_TIMINGS = 5
_TIMED_S = 0.05
"""On accelerators a part is repeated until a timing takes this long, so that starting and stopping do not count."""

Part = Callable[[Any, Any, Any, jax.Array], Any]
"""(params, inputs, rows, random key) → (an array, what is said besides); differentiable in the first two."""


def measure(
    workload: Workload, choices: Choices, batch_size: int, step_time_s: float, input_wait_s: float
) -> dict[str, float]:
    """Milliseconds that each of PARTS takes in a step.

    Takes a few seconds and, on a device, less memory than the step itself.

    Args:
      workload: of kind `pretrain`, `finetune`, or `predict`, of which only the forward pass is timed.
      choices: how it was computed.
      batch_size: rows of a step, over all devices; the parts are timed on one device at its share of them.
      step_time_s: of the step that is broken down.
      input_wait_s: in which the device waited for the host in it.
    """
    encoder = choices.encoder(workload)
    rows = max(batch_size // jax.device_count(), 1)
    training = workload.kind != "predict"
    batch = _batch(workload, rows)
    head = "masked_lm" if workload.kind == "pretrain" else "single_label"
    model = ModelConfig(encoder, head, tuple(map(str, range(workload.classes))) if head == "single_label" else ())
    params = nn.unbox(jax.jit(initializer(model))(jax.random.key(0)))
    layer = jax.tree.map(lambda x: x[0], params["encoder"]["layers"])
    hidden = jax.random.normal(jax.random.key(1), (rows, workload.row_length, encoder.hidden))
    hidden = hidden.astype(encoder.compute_dtype)

    found = dict.fromkeys(PARTS, 0.0)
    options = compiler.options(encoder.compute_dtype) if training else None  # as `step.make` has them
    key = jax.random.key(2)

    def timed(part: Part, *inputs: Any) -> float:
        # The rows are an argument, for what a compiler knew of them it would compute beforehand.
        run = jax.jit(_both_ways(part) if training else part, compiler_options=options)
        return _seconds(lambda: run(*inputs, key))

    embeddings = params["encoder"]["embeddings"]
    found["embedding"] = timed(_embedding(encoder, training), embeddings, None, batch)
    found["attention"] = encoder.layers * timed(_attention(encoder, training), layer, hidden, batch)
    found["mlp"] = encoder.layers * timed(_mlp(encoder, training), layer, hidden, batch)
    if workload.kind == "pretrain":
        mask = jax.jit(pretrain.span_masking(work.pretraining(workload, choices, rows)))
        masked, _ = mask(batch, key, 0)
        found["masking"] = _seconds(lambda: mask(batch, key, 0))
        of_head = {"mlm_head": params["mlm_head"], "token": embeddings["token"]}
        found["head"] = timed(_masked_lm_head(encoder), of_head, hidden, masked)
    else:
        of_head = {name: params[name] for name in ("pooler", "classifier")}
        found["head"] = timed(_classifier_head(model, training), of_head, hidden, batch)
    if training:
        found["optimizer"] = _optimizer_seconds(workload, params)
    found["input_wait"] = input_wait_s
    found["rest"] = step_time_s - sum(found.values())
    return {name: 1e3 * seconds for name, seconds in found.items()}


def _batch(workload: Workload, rows: int) -> dict[str, jax.Array]:
    """Rows of random k-mers in segments of the workload's lengths."""
    generator = np.random.default_rng(0)
    longest = workload.encoder.max_length if workload.kind == "pretrain" else workload.row_length
    lengths = np.full(8 * rows, longest)  # more than fit
    if workload.kind == "pretrain":
        shorter = generator.random(len(lengths)) >= workload.full_share
        lengths[shorter] = 2 + generator.integers(workload.min_kmers, longest - 1, np.count_nonzero(shorter))
    packs = workload.kind == "pretrain" and workload.pack
    placed = packing.pack(lengths, workload.row_length) if packs else packing.one_a_row(lengths)
    batch = {name: np.zeros((rows, workload.row_length), np.int32) for name in ("tokens", "segment_ids", "positions")}
    chosen = generator.permutation(placed.rows)[:rows]
    for row, number in enumerate(chosen):
        for at, segment in enumerate(np.flatnonzero(placed.row == number), start=1):
            place = slice(placed.offset[segment], placed.offset[segment] + lengths[segment])
            middle = generator.integers(kmers.FIRST_KMER, workload.encoder.vocabulary_size, lengths[segment] - 2)
            batch["tokens"][row, place] = [kmers.CLS, *middle, kmers.SEP]
            batch["segment_ids"][row, place] = at
            batch["positions"][row, place] = np.arange(lengths[segment])
    return jax.device_put(batch, jax.devices()[0])


def _embedding(encoder: EncoderConfig, training: bool) -> Part:
    def part(params, _, batch, key):
        inputs = (batch["tokens"], batch["positions"], not training)
        return Embeddings(encoder).apply({"params": params}, *inputs, rngs={"dropout": key}), None

    return part


def _attention(encoder: EncoderConfig, training: bool) -> Part:
    """The first half of a layer."""

    def part(params, x, batch, key):
        within, after = jax.random.split(key)
        rotation = None
        if encoder.positions == "rotary":
            rotation = rotary.rotation(batch["positions"], encoder.hidden // encoder.heads, encoder.rotary_base)
        inputs = (x, batch["segment_ids"], rotation, not training)
        attended = Attention(encoder).apply({"params": params["attention"]}, *inputs, rngs={"dropout": within})
        return _added(encoder, params["attention_layer_norm"], x, attended, after if training else None), None

    return part


def _mlp(encoder: EncoderConfig, training: bool) -> Part:
    """The second half of a layer."""

    def part(params, x, _, key):
        fed = FeedForward(encoder).apply({"params": params["mlp"]}, x)
        return _added(encoder, params["mlp_layer_norm"], x, fed, key if training else None), None

    return part


def _added(encoder: EncoderConfig, params: Any, x: jax.Array, change: jax.Array, key: jax.Array | None) -> jax.Array:
    """Dropout of what a half of a layer makes, the residual, and LayerNorm."""
    if key is not None:
        change = dropout(change, encoder.hidden_dropout, key)
    norm = layer_norm(encoder.layer_norm_epsilon, jnp.dtype(encoder.compute_dtype), None)
    return norm.apply({"params": params}, x + change)


def _masked_lm_head(encoder: EncoderConfig) -> Part:
    def part(params, hidden, batch, _):
        chosen = jnp.take_along_axis(hidden, batch.slots[:, :, None], axis=1)
        head = MaskedLanguageModelHead(encoder)
        logits = head.apply({"params": params["mlm_head"]}, chosen, params["token"])
        return masked_lm.loss(logits, batch, encoder.k)

    return part


def _classifier_head(model: ModelConfig, training: bool) -> Part:
    module = fine_tuned(model)

    def part(params, hidden, batch, key):
        pooled = module.apply({"params": params}, hidden, batch["segment_ids"], method="pool")
        if not training:
            return pooled, None  # what the workload of prediction puts out
        pooled = dropout(pooled, model.encoder.hidden_dropout, key)
        logits = module.apply({"params": params}, pooled, batch["segment_ids"][:, 0] > 0, method="classify")
        weights = jnp.ones(len(logits), jnp.float32)
        return targets.single_label(logits, jnp.zeros(len(logits), jnp.int32), weights)

    return part


def _both_ways(part: Part) -> Part:
    """A part forward and backward: its output, what it says besides, and the gradients of params and inputs."""

    def run(params: Any, inputs: Any, batch: Any, key: jax.Array) -> Any:
        output, backward, others = jax.vjp(lambda *both: part(*both, batch, key), params, inputs, has_aux=True)
        return output, others, backward(jnp.ones_like(output))

    return run


def _optimizer_seconds(workload: Workload, params: Any) -> float:
    """Of one update of all params, in place as in the step."""
    optimizer = optim.adamw(workload.optimizer)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)

    def update(state: Any, gradients: Any) -> Any:
        params, moments = state
        gradients = jax.tree.map(lambda g: g / 2, gradients)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), optax.tree.norm(gradients)

    update = jax.jit(update, donate_argnums=0)
    # A copy, since the params are used again and what is donated is gone.
    state = (jax.tree.map(jnp.copy, params), jax.jit(optimizer.init)(params))

    def run() -> Any:
        nonlocal state
        state, norm = update(state, gradients)
        return state, norm

    return _seconds(run)


def _seconds(run: Callable[[], Any]) -> float:
    """Seconds of one call, the median of several timings."""
    jax.block_until_ready(run())  # compiles

    def timed(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            outputs = run()
        jax.block_until_ready(outputs)
        return time.perf_counter() - began

    count, once = 1, timed(1)
    # A CPU would run several calls at once where they do not depend on each other.
    while jax.default_backend() != "cpu" and once < _TIMED_S and count < 2**10:
        count *= 2
        once = timed(count)
    return float(np.median([once, *(timed(count) for _ in range(_TIMINGS - 1))])) / count
