"""The peer: the pretraining step of Hugging Face's BERT in PyTorch, timed in turn with ours on the same device.

Both read segments of the same stream and hide spans of them by the same function; the masks are drawn beforehand and
the tensors lie on the device, so the peer waits for no input. It reads one segment a row and padding, as DNABERT does.
Where the workload's rows are padded too, both read the same tensors.

Of each of the peer's modes, eager and compiled, the attention kernel is picked first, by a few steps; then the best of
either runs in turn with ours for the full number of steps. What counts is useful tokens per second, against the better
of the two. Of what can be chosen in `torch.compile` this is the default: `max-autotune` would take minutes a workload.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dnabert_jax.bench import flops, timing
from dnabert_jax.bench.choices import Choices
from dnabert_jax.bench.timing import Counts, Say, Timing
from dnabert_jax.bench.work import Work
from dnabert_jax.bench.workloads import Workload
from dnabert_jax.config import PretrainConfig
from dnabert_jax.data.shards import Split
from dnabert_jax.errors import InputError, RunStopped

if TYPE_CHECKING:
    from dnabert_jax.bench import peer_torch

PICK_STEPS = 3
"""Timed steps by which an attention kernel is picked."""
_PICK_WARMUP = 2
_WORTH_COMPILING = 1.25
"""Kernels are tried in compiled steps, at up to minutes each, that were at most so many times slower than the fastest
in eager ones: the kernel is the same there."""

LOST = -100
"""Label of a token that is not asked for, as PyTorch's cross-entropy has it."""

_RESAMPLES = 1000
_OURS = "ours"
_BYTES_PER_GIB = 2**30
_FAILURES = (RuntimeError, ImportError, OSError)
"""With which PyTorch says that it cannot run or compile something here, such as a missing compiler."""


def require() -> None:
    """Raises InputError unless PyTorch and transformers are installed; imports neither."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--peer torch: {' and '.join(missing)} not installed; expected the `interop` extra "
            "(pip install torch transformers)"
        )


def environment() -> dict[str, str]:
    """Environment variables of a process that runs the peer too, to be set before JAX starts.

    JAX would take three quarters of a GPU's memory at once. So it takes what it needs, up to half; the batch size that
    is found for that half leaves the peer as much. What the user has set is left as it is.
    """
    wanted = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}
    if "XLA_CLIENT_MEM_FRACTION" in os.environ:  # the newer name, and JAX refuses to have both
        del wanted["XLA_PYTHON_CLIENT_MEM_FRACTION"]
    return {name: value for name, value in wanted.items() if name not in os.environ}


class MaskedRows(NamedTuple):
    """A batch as the peer's model takes it.

    Attributes:
      tokens: int32[rows, length], with some tokens replaced.
      used: bool[rows, length], False for padding.
      labels: int32[rows, length], the tokens that are asked for, -100 elsewhere.
    """

    tokens: np.ndarray
    used: np.ndarray
    labels: np.ndarray


def masked_rows(config: PretrainConfig, split: Split, count: int) -> list[MaskedRows]:
    """The first batches of a run with one segment a row, masked as in its steps 0, 1, ...

    Args:
      config: of the run; its segments are not packed here, whatever it says.
      split: the bases that are read.
      count: batches.
    """
    import jax

    from dnabert_jax.data import loader
    from dnabert_jax.training import pretrain

    config = dataclasses.replace(config, data=dataclasses.replace(config.data, pack=False))
    prepare = pretrain.span_masking(config)
    _, step_key = jax.random.split(jax.random.key(config.seed))  # as `work` has it

    @jax.jit
    def mask(batch, number):
        prepare_key, _ = jax.random.split(jax.random.fold_in(step_key, number))
        return prepare(batch, prepare_key, number)[0]

    found = []
    with contextlib.closing(loader.Pretraining(split, config).batches()) as batches:
        for number, batch in enumerate(itertools.islice(batches, count)):
            masked = jax.device_get(mask(batch, np.int32(number)))
            labels = np.where(masked.masked, masked.original, LOST)
            found.append(MaskedRows(masked.tokens, masked.segment_ids > 0, labels))
    return found


def measure(
    workload: Workload, choices: Choices, batch_size: int, ours: Work, split: Split, say: Say
) -> tuple[list[dict[str, Any]], Timing]:
    """Times the peer's step in turn with ours.

    Args:
      workload: one of pretraining.
      choices: how many steps are timed, and how many are not.
      batch_size: rows of a step of ours. The peer's has as many or, where these do not fit the device's memory beside
        ours, half as many, and so on.
      ours: the workload, ready to run.
      split: the bases that both read.
      say: hears of every variant.

    Returns:
      A dict for each variant that was tried, and the times of our steps in the same turns. The dicts have `name`,
      `mode`, `attention`, `skipped` (why it does not run here, or None) and `best`; `batch_size`, `steps`,
      `step_time_ms` and its percentiles, `tokens_per_second`, `useful_tokens_per_second`, `model_flops_per_second`,
      `peak_memory_gib` (None on CPUs) and `compile_time_s` (None where nothing is compiled), all None where it is
      skipped; and `ours_per_theirs`, the ratio of useful tokens per second with its 95 % interval, `ratio`, `low` and
      `high`, of the best variant of either mode, None of the others: these were only timed to pick the best.

    Raises:
      InputError: PyTorch or transformers are missing, do not see the device, or there are several.
      RunStopped: the peer does not run here at all.
    """
    require()
    device = _device()
    from dnabert_jax.bench import peer_torch

    peer = peer_torch.Peer(ours.config, device)
    count = choices.warmup + choices.steps
    for rows in _halves(batch_size):
        feed = _Feed(peer, dataclasses.replace(ours.config, batch_size=rows), split, count)
        tried = [_pick(peer, feed, peer_torch.Variant("eager", each), say) for each in peer_torch.KERNELS]
        if any(each.timing for each in tried) or not any(each.out_of_memory for each in tried):
            break
    eager = [each for each in tried if each.timing]
    if not eager:
        reasons = "; ".join(f"{each.variant.name}: {each.skipped}" for each in tried)
        raise RunStopped(f"{workload.name}: the peer does not run here ({reasons})")
    fastest = min(each.timing.median_ms for each in eager)
    for each in eager:
        if each.timing.median_ms <= _WORTH_COMPILING * fastest:
            tried.append(_pick(peer, feed, dataclasses.replace(each.variant, mode="compiled"), say))

    finalists = _fastest_of_each_mode(tried)
    steps = {_OURS: ours.step}
    for each in finalists:
        is_forgotten = each.variant.mode == "compiled" and each is not tried[-1]
        steps[each.variant.name] = feed.step(peer.step(each.variant)) if is_forgotten else each.step
    timings = timing.in_turn(steps, choices.steps, choices.warmup, say)
    for each in finalists:
        each.timing = timings[each.variant.name]
        each.ratio = _ratio(timings[_OURS], each.timing)
    best = max(finalists, key=lambda each: each.timing.useful_tokens_per_second)
    say(f"ours / theirs ({best.variant.name}): {best.ratio['ratio']:.2f} times the useful tokens per second")
    return [each.figures(rows, each is best) for each in tried], timings[_OURS]


@dataclass
class _Tried:
    """What came of a variant: a timing, or why there is none."""

    variant: "peer_torch.Variant"
    timing: Timing | None = None
    step: Callable[[], Counts] | None = None
    skipped: str | None = None
    out_of_memory: bool = False
    compile_time_s: float | None = None
    peak_memory_bytes: int | None = None
    ratio: dict[str, float] | None = None

    def figures(self, batch_size: int, is_best: bool) -> dict[str, Any]:
        found = {
            "name": self.variant.name,
            "mode": self.variant.mode,
            "attention": self.variant.attention,
            "skipped": self.skipped,
            "best": is_best,
        }
        timed = self.timing
        peak = self.peak_memory_bytes
        return found | {
            "batch_size": timed and batch_size,
            "steps": timed and len(timed.seconds),
            "step_time_ms": timed and timed.median_ms,
            "step_time_ms_p10": timed and timed.p10_ms,
            "step_time_ms_p90": timed and timed.p90_ms,
            "tokens_per_second": timed and timed.tokens_per_second,
            "useful_tokens_per_second": timed and timed.useful_tokens_per_second,
            "model_flops_per_second": timed and timed.model_flops_per_second,
            "peak_memory_gib": timed and peak and peak / _BYTES_PER_GIB,
            "compile_time_s": timed and self.compile_time_s,
            "ours_per_theirs": self.ratio,
        }


class _Feed:
    """The batches of a run on the peer's device, over and over, with what each counts and the learning rates."""

    def __init__(self, peer: "peer_torch.Peer", config: PretrainConfig, split: Split, count: int) -> None:
        from dnabert_jax import optim

        # Where nothing is masked, as can be in a batch of a row or two, the mean that is the loss is no number.
        rows = [each for each in masked_rows(config, split, count) if np.any(each.labels != LOST)]
        self._learning_rates = [float(each) for each in optim.schedule(config.optimizer)(np.arange(count))]
        self._batches = [_tensors(peer, each) for each in rows]
        self._counts = [_counts(config, each) for each in rows]

    def step(self, step: Callable[["peer_torch.Tensors", float], float]) -> Callable[[], Counts]:
        """The peer's step as `timing` takes it; it begins with the first batch."""
        numbers = itertools.cycle(range(len(self._batches)))

        def one() -> Counts:
            number = next(numbers)
            loss = step(self._batches[number], self._learning_rates[number])
            if not math.isfinite(loss):
                raise RunStopped(f"the peer's loss is {loss}")
            return self._counts[number]

        return one


def _tensors(peer: "peer_torch.Peer", rows: MaskedRows) -> "peer_torch.Tensors":
    attended = rows.used.copy()
    attended[:, 0] = True  # in a row without a segment too: a softmax over nothing is no number
    return peer.tensors(input_ids=rows.tokens, attention_mask=attended, labels=rows.labels)


def _counts(config: PretrainConfig, rows: MaskedRows) -> Counts:
    scored = int(np.sum(rows.labels != LOST))
    forward = flops.encoder(config.encoder, rows.used.sum(axis=1)) + flops.masked_lm_head(config.encoder, scored)
    return Counts(rows.tokens.size, int(rows.used.sum()), flops.training(forward), 0.0)


def _pick(peer: "peer_torch.Peer", feed: _Feed, variant: "peer_torch.Variant", say: Say) -> _Tried:
    """A few steps of a variant, after which it can be told from the others."""
    from dnabert_jax.bench import peer_torch

    found = _Tried(variant)
    peer.free()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found.step = feed.step(peer.step(variant))
            began = time.perf_counter()
            found.step()
            first_s = time.perf_counter() - began
            found.timing = timing.in_turn({variant.name: found.step}, PICK_STEPS, 1, lambda _: None)[variant.name]
        except _FAILURES as error:
            found.skipped = peer_torch.reason(error, [str(each.message) for each in warned])
            found.out_of_memory = peer_torch.is_out_of_memory(error)
    if found.skipped:
        say(f"peer, {variant.name}: does not run here: {found.skipped}")
        return found
    found.peak_memory_bytes = peer.peak_memory_bytes()
    if variant.mode == "compiled":
        found.compile_time_s = max(first_s - found.timing.median_ms / 1000, 0.0)
    say(f"peer, {variant.name}: {found.timing.median_ms:.1f} ms a step")
    return found


def _fastest_of_each_mode(tried: list[_Tried]) -> list[_Tried]:
    found: dict[str, _Tried] = {}
    for each in tried:
        if each.timing:
            rival = found.get(each.variant.mode)
            if rival is None or each.timing.median_ms < rival.timing.median_ms:
                found[each.variant.mode] = each
    return list(found.values())


def _ratio(ours: Timing, theirs: Timing) -> dict[str, float]:
    """Our useful tokens per second over theirs, and its 95 % interval by the bootstrap.

    A resample draws pairs of steps of the same turns, so that what slowed both down cancels.
    """
    pairs = len(ours.seconds)
    draws = np.random.default_rng(0).integers(0, pairs, (_RESAMPLES, pairs))

    def rates(of: Timing) -> np.ndarray:
        useful = np.array([each.useful_tokens for each in of.counts])
        return useful[draws].sum(axis=1) / np.array(of.seconds)[draws].sum(axis=1)

    low, high = np.percentile(rates(ours) / rates(theirs), (2.5, 97.5))
    ratio = ours.useful_tokens_per_second / theirs.useful_tokens_per_second
    return {"ratio": ratio, "low": float(low), "high": float(high)}


def _halves(rows: int) -> Iterator[int]:
    while rows:
        yield rows
        rows //= 2


def _device() -> str:
    """PyTorch's name of the device that ours runs on."""
    import jax
    import torch

    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise InputError(f"--peer torch: ours runs on {backend} here; expected a CPU or a GPU, where PyTorch runs too")
    if backend == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise InputError("--peer torch: PyTorch sees no GPU, where ours runs on one; expected PyTorch built for it")
    if jax.device_count() > 1:
        raise InputError(
            f"--peer torch: ours runs on {jax.device_count()} GPUs and the peer on one; expected one, "
            "such as by CUDA_VISIBLE_DEVICES=0"
        )
    return "cuda"
