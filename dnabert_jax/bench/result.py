"""The result of `dnabert bench` as JSON: the figures of each workload, made of what was measured, and reading them.

`schema.json` beside this file is the JSON's schema. A result is held to it when it is written and when it is read.
"""

import dataclasses
import functools
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnabert_jax import results
from dnabert_jax.bench.timing import Timing
from dnabert_jax.errors import InputError

SCHEMA = 1
ENOUGH_STEPS = 30
"""From so many steps on the percentiles are worth reading."""

_SCHEMA_FILE = Path(__file__).parent / "schema.json"
_BYTES_PER_GIB = 2**30


@dataclass(frozen=True)
class Rates:
    """What a device can do at most, in FLOP/s of matrix products and bytes/s of its memory.

    Attributes:
      measured_flops, measured_bytes: in this run.
      published_flops, published_bytes: by its maker; None where not known.
    """

    measured_flops: float | None = None
    measured_bytes: float | None = None
    published_flops: float | None = None
    published_bytes: float | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured of a workload.

    Attributes:
      name, kind: of the workload.
      digest: of the workload.
      batch_size: rows of a step.
      compute_dtype: of matrix products.
      devices: that share a step; 0 where the host does it alone.
      timing: the steps.
      compile_time_s, memory_bytes, bytes_accessed: as in `work.Work`.
      allocated_bytes: the allocator's peak on a device; None where it does not say.
      breakdown: milliseconds by part; None where it was not measured.
      peer: the peer's variants; None without a peer.
    """

    name: str
    kind: str
    digest: str
    batch_size: int
    compute_dtype: str
    devices: int
    timing: Timing
    compile_time_s: float | None = None
    memory_bytes: int | None = None
    bytes_accessed: float | None = None
    allocated_bytes: int | None = None
    breakdown: dict[str, float] | None = None
    peer: list[dict[str, Any]] | None = None


def entry(measured: Measured, rates: Rates) -> dict[str, Any]:
    """An item of the result's `workloads`. What has no meaning for a workload is None."""
    timing, chips = measured.timing, measured.devices
    computes = measured.kind not in ("input", "compile")
    reads = measured.kind != "compile"
    step_s = sum(timing.seconds) / len(timing.seconds)
    flops = timing.model_flops_per_second / chips if computes else None
    accessed = measured.bytes_accessed / step_s if measured.bytes_accessed else None
    tokens = timing.tokens_per_second if reads else None
    useful = timing.useful_tokens_per_second if reads else None
    memory = measured.allocated_bytes or measured.memory_bytes
    return {
        "name": measured.name,
        "config_hash": measured.digest,
        "batch_size": measured.batch_size,
        "devices": chips,
        "steps": len(timing.seconds),
        "compute_dtype": measured.compute_dtype,
        "step_time_ms": timing.median_ms,
        "step_time_ms_p10": timing.p10_ms,
        "step_time_ms_p90": timing.p90_ms,
        "step_times_ms": [1000 * each for each in timing.seconds],
        "tokens_per_second": tokens,
        "useful_tokens_per_second": useful,
        "tokens_per_second_per_chip": tokens / chips if computes else None,
        "useful_tokens_per_second_per_chip": useful / chips if computes else None,
        "model_flops_per_second_per_chip": flops,
        "model_flops_utilization": _share(flops, rates.measured_flops),
        "model_flops_utilization_published": _share(flops, rates.published_flops),
        "bytes_per_step": measured.bytes_accessed,
        "memory_bandwidth_utilization": _share(accessed, rates.measured_bytes),
        "memory_bandwidth_utilization_published": _share(accessed, rates.published_bytes),
        "peak_memory_gib": memory / _BYTES_PER_GIB if memory else None,
        "peak_memory_source": ("allocator" if measured.allocated_bytes else "plan") if memory else None,
        "compile_time_s": timing.median_ms / 1000 if measured.kind == "compile" else measured.compile_time_s,
        "energy_joules_per_step": _finite(timing.joules / len(timing.seconds)),
        "input_wait_share": timing.input_wait_share if measured.kind in ("pretrain", "finetune") else None,
        "breakdown": measured.breakdown,
        "peer": measured.peer,
    }


def _share(of: float | None, most: float | None) -> float | None:
    return of / most if of is not None and most else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write(result: dict[str, Any], path: Path) -> None:
    """Writes a result as JSON, whole or not at all.

    Raises:
      InputError: `path` cannot be written to.
      RunStopped: the disk is full.
      jsonschema.ValidationError: the result is not what the schema says, which is a defect of this package.
    """
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    _validator().validate(json.loads(text))
    with results.text(path) as file:
        file.write(text)


def check_writable(path: Path) -> None:
    """Raises InputError where a file cannot be written, before there is anything to write."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file to write")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path}: cannot be written; expected a file in a folder that exists and can be written to")


def read(path: Path) -> dict[str, Any]:
    """Reads a result.

    Raises:
      InputError: no file, no JSON, or not a result of `dnabert bench`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected a file of `dnabert bench --output`"
        ) from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is one of the first, brackets by the thousand the other
        raise InputError(f"{path}: is no JSON; expected a file of `dnabert bench --output`") from None
    problem = next(_validator().iter_errors(found), None)
    if problem is not None:
        raise InputError(
            f"{path}: {problem.json_path} is not as a result has it; expected a file of `dnabert bench --output`, "
            f"schema {SCHEMA}"
        )
    return found


def _no_number(text: str) -> None:
    """Refuses NaN and Infinity, which Python's reader takes though they are no JSON."""
    raise ValueError(text)


@functools.cache
def _validator() -> Any:
    import jsonschema

    schema = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema)


def agreement(found: Any) -> dict[str, Any]:
    """A check of an attention kernel as the result has it; errors that are no finite number are None."""
    values = dataclasses.asdict(found)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
