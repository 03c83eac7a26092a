"""`dnabert plan`: what each mesh needs on each device. On a terminal a table that grows, in a pipe plain lines."""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dnabert_jax import flags, recipes, results
from dnabert_jax.config import PretrainConfig
from dnabert_jax.errors import InputError

if TYPE_CHECKING:
    from dnabert_jax.plan import Need

_MOST_DEVICES = 4096
"""With so many one compilation takes minutes; with a million it would not end."""


@dataclass(frozen=True)
class _Axes:
    data: int = 0
    """Size of this axis; 0 tries every size that is possible."""
    fsdp: int = 0
    """As data."""
    tensor: int = 0
    """As data."""


@dataclass(frozen=True)
class _Asked:
    """Says what a pretraining recipe needs on each device of every mesh, and what fits, without the devices.

    The fields of the recipe are flags, too, as for `dnabert train`: `--encoder.remat full`, `--row_length 1024`.

    The step that a run takes is compiled for so many simulated CPU devices, and XLA says what memory it assigns. Where
    a mesh does not fit, its batch is read in more parts (accumulation), as few as possible. The compiler of an
    accelerator fuses otherwise, so expect figures that differ by a quarter; fused attention kernels, which take
    attention dropout 0, need less than what is shown; and no device gives a program all of its memory. docs/memory.md
    compares these figures with those of the TPU's compiler.
    """

    devices: int
    """Devices of the whole run."""
    memory_gib: float
    """Memory of one device."""
    mesh: _Axes = field(default_factory=_Axes)
    accumulation: int = 0
    """Parts in which a step reads its batch; 0 finds the smallest number with which a mesh fits."""
    output: Path | None = None
    """JSON file to write."""


def plan(program: str, arguments: list[str]) -> None:
    """Says what each mesh needs on each device, without the devices: RECIPE --devices N --memory-gib M."""
    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if not recipe and arguments[:1] not in (["-h"], ["--help"]):
        raise InputError(
            f"{program}: no recipe; expected `{program} RECIPE --devices N --memory-gib M`, RECIPE being a .py file or "
            f"one of {', '.join(recipes.names())}"
        )
    asked, fields = flags.known(_Asked, arguments[1:] if recipe else arguments, f"{program} {recipe or 'RECIPE'}")
    fixed = {axis: size for axis, size in asdict(asked.mesh).items() if size}
    _check(asked, fixed)
    config = flags.override(recipes.load(recipe, PretrainConfig), fields, f"{program} {recipe}")
    with results.text(asked.output) if asked.output else contextlib.nullcontext() as file:
        found = _planned(asked, fixed, config, recipe)
        if file:
            file.write(json.dumps(found, indent=2, allow_nan=False) + "\n")


def _check(asked: _Asked, fixed: dict[str, int]) -> None:
    if not 1 <= asked.devices <= _MOST_DEVICES:
        raise InputError(f"devices is {asked.devices}; expected a number from 1 to {_MOST_DEVICES}")
    if not 0 < asked.memory_gib < math.inf:
        raise InputError(f"memory_gib is {asked.memory_gib}; expected a number above 0")
    for name, value in {"accumulation": asked.accumulation, **{f"mesh.{axis}": fixed[axis] for axis in fixed}}.items():
        if value < 0:
            raise InputError(f"{name} is {value}; expected 1 or more, or 0 to try what is possible")


def _planned(asked: _Asked, fixed: dict[str, int], config: PretrainConfig, recipe: str) -> dict[str, Any]:
    """Prints the plan, a mesh as soon as it is known, and returns what `--output` gets."""
    from dnabert_jax import plan as planning

    memory_bytes = asked.memory_gib * planning.GIB
    over = planning.meshes(config, asked.devices, fixed)
    rows = planning.dividing_batch(config, over, asked.accumulation or 1)
    parts = f"{asked.accumulation} parts of " if asked.accumulation > 1 else ""
    adapted = rows != config.batch_size
    planning.simulate(asked.devices)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"{recipe}: {rows:,} rows of {config.row_length:,} tokens a step, encoder.compute_dtype "
        f"{config.encoder.compute_dtype}, encoder.remat {config.encoder.remat}, on {asked.devices:,} devices of "
        f"{asked.memory_gib:g} GiB"
    )
    if adapted:
        console.print(
            f"batch_size {config.batch_size:,} does not divide into {parts}what the devices share, so this is for "
            f"--batch_size {rows}"
        )
    config = replace(config, batch_size=rows, accumulation=1)
    needs = []
    with _shown(console, len(over)) as shown:
        for need in planning.needs(config, over, memory_bytes, asked.accumulation, shown.note):
            needs.append(need)
            shown.add(need, need.total_bytes <= memory_bytes)
        best = min(
            (need for need in needs if need.total_bytes <= memory_bytes),
            key=lambda need: need.accumulation,  # of equals the first, which communicates least
            default=None,
        )
        least = min(needs, key=lambda need: need.total_bytes)
        remedy = planning.with_less_kept(config, least, memory_bytes, shown.note) if best is None else None
    if best:
        console.print(
            f"fits with the fewest parts and the least communication: --batch_size {rows} --accumulation "
            f"{best.accumulation} --mesh.fsdp {best.mesh.fsdp} --mesh.tensor {best.mesh.tensor}"
        )
    else:
        console.print(f"no mesh fits into {asked.memory_gib:g} GiB: {_what_helps(least, remedy, memory_bytes)}")
    return {
        "recipe": recipe,
        "devices": asked.devices,
        "memory_gib": asked.memory_gib,
        "batch_size": rows,
        "row_length": config.row_length,
        "encoder": asdict(config.encoder),
        "meshes": [{**need.values, "fits": need.total_bytes <= memory_bytes} for need in needs],
    }


def _what_helps(least: "Need", remedy: "tuple[str, Need] | None", memory_bytes: float) -> str:
    held = least.params_bytes + least.optimizer_bytes
    said = f"{least.shape} needs {_gib(least.total_bytes)} GiB, "
    if held > memory_bytes:
        return said + f"{_gib(held)} of it for params and optimiser; what helps is more devices, and a larger mesh.fsdp"
    said += f"{_gib(least.temporaries_bytes)} of it for {least.rows} rows at once"
    if remedy:
        policy, need = remedy
        said += f"; --encoder.remat {policy} would make it {_gib(need.total_bytes)}"
        if need.total_bytes <= memory_bytes:
            return said + ", which fits"
    return said + "; what helps is shorter rows, fewer of them a device, or more devices"


class _Shown(Protocol):
    def note(self, line: str) -> None:
        """Says what is being computed."""

    def add(self, need: "Need", fits: bool) -> None:
        """Shows what a mesh needs."""


@contextlib.contextmanager
def _shown(console: Console, count: int) -> Iterator[_Shown]:
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines()
        return
    board = _Board(count)
    with Live(board, console=console, refresh_per_second=4):
        yield board
        board.note("")


class _Lines:
    def note(self, line: str) -> None:
        pass

    def add(self, need: "Need", fits: bool) -> None:
        values = need.values
        words = [need.shape, *(f"{name} {values[name]}" for name in ("accumulation", "rows"))]
        words += [f"{name} {_short(value)}" for name, value in values.items() if name.endswith("_gib")]
        print("  ".join([*words, "fits" if fits else "does not fit"]), flush=True)


class _Board:
    """A table and, below it, what is being computed; rich asks for its looks a few times a second."""

    def __init__(self, count: int) -> None:
        self._count, self._note = count, ""
        self._rows: list[tuple[str, ...]] = []

    def note(self, line: str) -> None:
        self._note = line

    def add(self, need: "Need", fits: bool) -> None:
        mesh = need.mesh
        whole = (mesh.data, mesh.fsdp, mesh.tensor, need.accumulation, need.rows)
        sizes = (need.params_bytes, need.optimizer_bytes, need.temporaries_bytes, need.total_bytes)
        self._rows.append((*(f"{each:,}" for each in whole), *map(_gib, sizes), "yes" if fits else "no"))

    def __rich__(self) -> Group:
        table = Table(title="GiB on each device", title_justify="left")
        for name in ("data", "fsdp", "tensor", "accumulation", "rows at once"):
            table.add_column(name, justify="right")
        for name in ("params", "optimiser", "temporaries", "total"):
            table.add_column(name, justify="right", style="cyan" if name == "total" else None)
        table.add_column("fits")
        for row in list(self._rows):
            table.add_row(*row, style=None if row[-1] == "yes" else "dim")
        left = f"compiling {self._note}: {len(self._rows)} of {self._count} meshes done" if self._note else ""
        return Group(table, *([Text(left, style="dim")] if left else []))


def _gib(size_bytes: float) -> str:
    return _short(size_bytes / 2**30)


def _short(gib: float) -> str:
    return f"{gib:,.2f}" if gib >= 0.1 else f"{gib:.2g}"
