"""`dnabert build --beam-runner`: the dataset of `build`, byte for byte, made by the workers of an Apache Beam pipeline.

Two pipelines, for what goes into which shard follows from the names and lengths of all records. In the first, a worker
reads a file and says what is in it. In the second, a worker writes a shard, which it reads from the files again, and
when all are there one worker for each split reads them back and hashes them. Bases never go from worker to worker:
only names and figures do, and plans and results lie as JSON beside the shards. So the files and the folder of the
output must be found under one path by every worker and by the machine that starts the build.

TFDS gives the features, the names and the metadata, as in `build`. Its own writers for Beam are not used: one keeps
whole shards in memory and chooses their number by size, the other writes the first split again with the second.
"""

import collections
import dataclasses
import functools
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dnabert_jax import kmers, outputs
from dnabert_jax.data import array_records, genome, pipelines, regions, selection
from dnabert_jax.data import build as local
from dnabert_jax.errors import InputError, RunStopped

_SECONDS_BETWEEN_LOOKS = 1.0
_RESULTS = "results"


def build(
    fasta: Sequence[str | Path],
    out: str | Path,
    *,
    runner: pipelines.Runner,
    options: Sequence[str] = (),
    assembly: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    validation: Sequence[str] = (),
    chunk: int = 65_536,
    min_length: int = kmers.MAX_K,
    overwrite: bool = False,
    progress: Callable[[local.Progress], None] | None = None,
    say: Callable[[str], None] = regions.note,
) -> local.Summary:
    """Writes FASTA files as the dataset that `build.build` makes of them, with the workers of a cluster.

    A worker holds the longest record, 1.2 bytes a base of it. Each file is read once to know it, and once more, up to
    the last record that is wanted, for each shard (2^28 bases) that has bases from it.

    Args:
      fasta: files that the workers can read.
      out: folder to make, in a place that the workers can write to.
      runner: of Apache Beam.
      options: of the pipeline, `NAME=VALUE` or `NAME`. The DirectRunner takes a process for each core where
        `direct_num_workers` and `direct_running_mode` do not say otherwise.
      assembly: this and all below as in `build.build`; progress is told when a shard is whole.

    Raises:
      InputError: as `build.build`; also Apache Beam that is not installed, or an option that it cannot read.
      RunStopped: as `build.build`; also a pipeline that failed.
    """
    pipeline = pipelines.Pipeline(runner, options)
    out = Path(out)
    wanted = selection.Wanted(include, exclude, validation, min_length)
    local.check(fasta, out, chunk, wanted, overwrite)
    paths = [Path(os.path.abspath(path)) for path in fasta]  # workers may be in another folder
    with outputs.folder(out) as folder:
        (folder / _RESULTS).mkdir()
        written = _write(pipeline, paths, folder, out, wanted, chunk, progress, say)
        shutil.rmtree(folder / _RESULTS)
        return local.finish(folder, out, assembly, chunk, written)


@dataclasses.dataclass(frozen=True)
class _File:
    """Of the first pipeline: a file to look at."""

    result: str
    path: Path


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Of the second pipeline: a shard to write."""

    result: str
    split: str
    name: str
    chunk: int
    bases: int
    last: str
    """Name of its last record."""


def _write(
    pipeline: pipelines.Pipeline,
    paths: list[Path],
    folder: Path,
    out: Path,
    wanted: selection.Wanted,
    chunk: int,
    progress: Callable[[local.Progress], None] | None,
    say: Callable[[str], None],
) -> local.Written:
    files = [_File(f"file-{index}", path) for index, path in enumerate(paths)]
    pipeline.run(out, files, functools.partial(_look, folder))
    sources, sizes, file_of = _seen(folder, out, files)
    skipped = [size.bases for size in sizes if size.bases < wanted.min_length]
    selected = selection.EVERYTHING
    if wanted.needs_lengths:
        lengths = {size.name: size.bases for size in sizes}
        selected = selection.select(lengths, wanted, local.listed(paths), say)
    taken = [
        size
        for size in sizes
        if size.bases >= wanted.min_length and (selected.taken is None or size.name in selected.taken)
    ]
    if not taken:
        raise local.nothing_left(paths, wanted.min_length)

    contigs: dict[str, list[genome.Stretch]] = {selection.TRAIN: [], selection.VALIDATION: []}
    for size in taken:
        for split, start, end in selection.pieces(size.bases, selected.held_out.get(size.name, [])):
            contigs[split].append((size.name, start, end))
    contigs = {split: each for split, each in contigs.items() if each}
    shards = {split: _planned(folder, split, each, file_of, chunk) for split, each in contigs.items()}
    everything = [shard for each in shards.values() for shard in each]
    counts = {split: len(each) for split, each in shards.items()}
    total = sum(size.bases for size in taken)
    with _watched(folder, everything, total, progress):
        pipeline.run(
            out,
            everything,
            functools.partial(_write_shard, folder),
            functools.partial(_read_back, folder, counts),
        )
    splits = {}
    for split, each in shards.items():
        lengths = [_result(folder, out, shard.result)["chunks"] for shard in each]
        contents = genome.SplitContents(**_result(folder, out, split))
        splits[split] = (genome.split_info(folder, split, lengths), contents)
    return local.Written(taken, skipped, sources, splits)


def _seen(
    folder: Path, out: Path, files: list[_File]
) -> tuple[list[genome.Source], list[genome.RecordSize], dict[str, Path]]:
    """What the workers found: files, records of all of them in order, and the file of each record by name."""
    sources, sizes, file_of = [], [], {}
    for file in files:
        found = _result(folder, out, file.result)
        sources.append(genome.Source(**found["source"]))
        for values in found["records"]:
            size = genome.RecordSize(**values)
            if size.name in file_of:
                raise local.twice(file.path, size.name, file_of[size.name])
            file_of[size.name] = file.path
            sizes.append(size)
    return sources, sizes, file_of


def _planned(
    folder: Path, split: str, contigs: list[genome.Stretch], file_of: dict[str, Path], chunk: int
) -> list[_Shard]:
    """The shards of a split. What each holds lies in a file: it can be too much for the description of a pipeline."""
    _plan(folder, split).write_text(json.dumps(contigs))
    stretches_of = genome.plan_shards(contigs, chunk)
    names = array_records.shard_names(genome.NAME, split, len(stretches_of))
    shards = []
    for index, (name, stretches) in enumerate(zip(names, stretches_of, strict=True)):
        parts: list[tuple[str, list[genome.Stretch]]] = []
        for stretch in stretches:
            path = str(file_of[stretch[0]])
            if not parts or parts[-1][0] != path:
                parts.append((path, []))
            parts[-1][1].append(stretch)
        bases = sum(end - start for _, start, end in stretches)
        shards.append(_Shard(f"{split}-{index}", split, name, chunk, bases, stretches[-1][0]))
        _plan(folder, shards[-1].result).write_text(json.dumps(parts))
    return shards


def _plan(folder: Path, name: str) -> Path:
    """What a worker is to do."""
    return folder / _RESULTS / f"{name}.plan"


# What follows, down to `_leave`, runs on the workers. A worker may do a task twice, or two the same one at a time: each
# writes to a name of its own, and the last rename is as good as the first.


def _look(folder: Path, file: _File) -> None:
    def look() -> dict[str, Any]:
        sizes = []
        for record in local.records(file.path):
            sizes.append(dataclasses.asdict(local.record_size(record)))
            del record  # or two would be in memory while the next one is read
        return {"source": dataclasses.asdict(local.source(file.path)), "records": sizes}

    _leave(folder, file.result, look)


def _write_shard(folder: Path, shard: _Shard) -> tuple[str, int]:
    def write() -> dict[str, Any]:
        temporary = folder / _RESULTS / f"{shard.name}.{uuid.uuid4().hex}"
        try:
            chunks = genome.write_shard(temporary, _bases(folder, shard), shard.chunk)
            temporary.replace(folder / shard.name)
        finally:
            temporary.unlink(missing_ok=True)
        return {"chunks": chunks}

    _leave(folder, shard.result, write)
    return shard.split, 1


def _bases(folder: Path, shard: _Shard) -> Iterator[tuple[str, int, np.ndarray]]:
    """The stretches of a shard with their bases, one record in memory at a time."""
    for name, stretches in json.loads(_plan(folder, shard.result).read_text()):
        path, left = Path(name), collections.deque(stretches)
        for record in local.records(path):
            while left and left[0][0] == record.name:
                _, start, end = left.popleft()
                if end > record.bases.size:
                    raise _changed(path)
                yield record.name, start, record.bases[start:end]
            if not left:
                break
            del record
        if left:
            raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError(f"{path}: has changed while it was read; expected a file that stays as it is")


def _read_back(folder: Path, counts: dict[str, int], written: tuple[str, Iterable[int]]) -> None:
    split, _ = written

    def read() -> dict[str, Any]:
        contigs = json.loads(_plan(folder, split).read_text())
        return dataclasses.asdict(genome.read_back(folder, split, contigs, counts[split]))

    _leave(folder, split, read)


def _leave(folder: Path, name: str, work: Callable[[], dict[str, Any]]) -> None:
    """Writes what comes out of a task, or what is wrong, where `_result` finds it.

    Beam's runners try again what raises, several times: bad input is bad each time, so it is a result like another.
    """
    try:
        found = work()
    except InputError as error:
        found = {"input_error": str(error)}
    except OSError as error:
        found = {"os_error": error.strerror or str(error)}
    temporary = folder / _RESULTS / f"{name}.{uuid.uuid4().hex}"
    temporary.write_text(json.dumps(found))
    temporary.replace(_place(folder, name))


def _place(folder: Path, name: str) -> Path:
    return folder / _RESULTS / f"{name}.json"


def _result(folder: Path, out: Path, name: str) -> dict[str, Any]:
    """What a worker left.

    Raises:
      InputError: that a worker met.
      OSError: likewise, or no result is there.
    """
    try:
        found = json.loads(_place(folder, name).read_text())
    except FileNotFoundError:
        raise RunStopped(
            f"{out}: the workers wrote nothing there; expected a place that is the same for them and for this machine"
        ) from None
    if "input_error" in found:
        raise InputError(found["input_error"])
    if "os_error" in found:
        raise OSError(found["os_error"])
    return found


@contextmanager
def _watched(
    folder: Path, shards: list[_Shard], total: int, progress: Callable[[local.Progress], None] | None
) -> Iterator[None]:
    """Tells of each shard that is whole while the block runs, which a pipeline does not leave before its end."""
    left = {_place(folder, shard.result): shard for shard in shards}
    ended = threading.Event()
    done = 0

    def look() -> None:
        nonlocal done
        for place in [place for place in left if place.exists()]:
            shard = left.pop(place)
            done += shard.bases
            progress(local.Progress(shard.last, done, total))

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            look()

    if not progress:
        yield
        return
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    look()
