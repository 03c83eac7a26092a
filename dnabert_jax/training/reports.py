"""The figures of a run, on disk: `metrics.jsonl`, one JSON object a report, and the same as TensorBoard curves.

A run that resumes from step s first drops what was reported after s, so that its `metrics.jsonl` ends up as that of a
run which was never interrupted; TensorBoard is told to do the same. For that, report step s before saving it.

On an object store both files are stored anew with each report, whole, for nothing can be appended there. A report is
also where a run sees that another has taken over its workdir, which no lock prevents there, and ends.
"""

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from dnabert_jax import hosts, places
from dnabert_jax.errors import RunStopped
from dnabert_jax.training.workdir import holder, plain, write_text

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class Reports:
    """Appends reports to a workdir; a context manager.

    Every line is on disk when `write` returns. All processes of a run have to make one and write the same to it; the
    first does it, and the others hear whether it could.

    Args:
      workdir: folder of the run; it exists.
      append_from_step: the step from which the run resumes; what was reported after it is dropped. None is a new run
        and drops everything.

    Raises:
      RunStopped: the disk is full or the files cannot be written.
    """

    def __init__(self, workdir: str | Path, append_from_step: int | None = None) -> None:
        self._path = places.place(workdir) / METRICS
        hosts.on_first(lambda: self._open(-1 if append_from_step is None else append_from_step))

    def _open(self, keep_to: int) -> None:
        _drop_after(self._path, keep_to)
        try:
            self._holder = holder(self._path.parent)
            if places.is_remote(self._path):
                self._lines = places.Growing(self._path)
            else:  # unbuffered: after a full disk there is nothing left to fail a second time on closing
                self._lines = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
            self._curves = _Curves(self._path.with_name(TENSORBOARD), keep_to + 1)
        except OSError as error:
            raise self._stopped(error) from None

    def write(self, step: int, split: str, figures: dict[str, Any]) -> None:
        """Adds one report.

        Args:
          step: optimiser steps done.
          split: "train", "validation" or "test".
          figures: name → number (Python, NumPy or JAX), text, None, or nested dicts and lists of those. What is no
            finite number is written as null. TensorBoard gets the numbers at the top level, as `split/name`.

        Raises:
          RunStopped: the disk is full, or another run has taken over a workdir on an object store.
        """
        hosts.on_first(lambda: self._write(step, split, plain(figures)))

    def _write(self, step: int, split: str, figures: dict[str, Any]) -> None:
        line = json.dumps({"step": int(step), "split": split, **figures}, allow_nan=False, ensure_ascii=False)
        try:
            if (now := holder(self._path.parent)) != self._holder:
                raise RunStopped(f"{self._path.parent}: another process ({now.strip()}) has taken over this workdir")
            _write_all(self._lines, line.encode() + b"\n")
            self._curves.write(int(step), split, figures)
        except OSError as error:
            raise self._stopped(error) from None

    def close(self) -> None:
        """Closes the files; a second call does nothing. There is nothing left to write, so nothing can fail."""
        if not hosts.is_first():
            return
        self._lines.close()
        with contextlib.suppress(OSError):  # what a full disk did not take; `write` has said so already
            self._curves.close()

    def _stopped(self, error: OSError) -> RunStopped:
        return RunStopped(f"{self._path}: the report could not be written ({error.strerror})")

    def __enter__(self) -> "Reports":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """Every report in the workdir's `metrics.jsonl`, in order; a line that was cut short is left out."""
    path = places.place(workdir) / METRICS
    if not path.exists():
        return []
    found = (_report(line) for line in path.read_bytes().splitlines(keepends=True))
    return [report for report in found if report is not None]


def _report(line: bytes) -> dict[str, Any] | None:
    """The report in a line, or None where a full disk or a power cut left less than a whole one."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    whole = line.endswith(b"\n") and isinstance(report, dict) and isinstance(report.get("step"), int)
    return report if whole else None


def _drop_after(path: Path, step: int) -> None:
    """Rewrites the file without damaged lines and those of later steps; the others stay byte for byte."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if (report := _report(line)) is not None and report["step"] <= step]
    if len(kept) != len(lines):
        write_text(path, b"".join(kept).decode())


def _write_all(handle: Any, content: bytes) -> None:
    while content:
        content = content[handle.write(content) :]


class _Curves:
    """TensorBoard events, written in the caller's thread.

    tensorboardX's own SummaryWriter hands events to a thread through a bounded queue; once a full disk has ended that
    thread, the next report would wait for ever. Its file writer alone has no thread.
    """

    def __init__(self, folder: Path, purge_from_step: int) -> None:
        self._remote = folder if places.is_remote(folder) else None
        self._aside = tempfile.TemporaryDirectory(prefix="tensorboard-") if self._remote else None
        if not self._remote:
            folder.mkdir(exist_ok=True)
        # The name that tensorboardX makes is unique to the second only; the suffix is what keeps an earlier file safe.
        number = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
        self._folder = Path(self._aside.name) if self._aside else folder
        self._events = EventsWriter(os.fspath(self._folder / "events"), f".{number}")
        self._closed = False
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=purge_from_step, session_log=start))
        self._flush()

    def write(self, step: int, split: str, figures: dict[str, Any]) -> None:
        for name, value in figures.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                event = Event(step=step, summary=scalar(f"{split}/{name}", value))
                event.wall_time = time.time()
                self._events.write_event(event)
        self._flush()

    def _flush(self) -> None:
        self._events.flush()
        for file in self._folder.iterdir() if self._remote else ():
            places.write(self._remote / file.name, file.read_bytes())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._events.close()
            if self._aside:
                self._aside.cleanup()
