"""Work for the machines of a cluster, through Apache Beam: a list of tasks, and what is done with each.

Beam and its runners are an extra, imported when a pipeline is made. Whatever a runner says or raises when it fails ends
as one line. The DirectRunner, whose workers are processes of this machine, is told to take all cores, and is watched:
by itself it waits for ever when one of its workers is killed, as for want of memory.
"""

import contextlib
import difflib
import io
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

from dnabert_jax.errors import InputError, RunStopped

Runner = Literal["DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"]

_SECONDS_TO_END = 20.0


class Pipeline:
    """Gives tasks to the workers of a runner.

    Args:
      runner: of Apache Beam.
      options: `NAME=VALUE` or `NAME`.

    Raises:
      InputError: Apache Beam is not installed, or cannot read an option.
    """

    def __init__(self, runner: Runner, options: Sequence[str]) -> None:
        self._beam = _import_beam()
        self._runner = runner
        self._flags = [f"--{option.lstrip('-')}" for option in options]
        self._check_options()

    def run(
        self,
        out: Path,
        tasks: list[Any],
        work: Callable[[Any], Any],
        then: Callable[[tuple[Any, Iterable[Any]]], Any] | None = None,
    ) -> None:
        """Runs a pipeline to its end.

        Args:
          out: what is built, for messages.
          tasks: each goes to some worker.
          work: what is done with each.
          then: what is done with each key of the pairs (key, value) that `work` gives, when all tasks are done.

        Raises:
          RunStopped: it failed.
        """
        beam = self._beam
        result = None
        try:
            pipeline = beam.Pipeline(runner=self._runner, options=self._options())
            done = pipeline | "Tasks" >> beam.Create(tasks) | "Spread" >> beam.Reshuffle() | "Work" >> beam.Map(work)
            if then:
                _ = done | "Gather" >> beam.GroupByKey() | "Then" >> beam.Map(then)
            with _local_workers_watched() if self._runner == "DirectRunner" else contextlib.nullcontext():
                result = pipeline.run()
                state = result.wait_until_finish()
        except RunStopped as error:
            raise RunStopped(f"{out}: {error}; nothing was changed there") from None
        except Exception as error:  # each runner raises kinds of its own
            raise self._failed(out, error) from None
        except BaseException:
            if result is not None:
                with contextlib.suppress(Exception):
                    result.cancel()
            raise
        if state not in (None, "DONE"):
            raise RunStopped(f"{out}: the {self._runner} ended as {state}; nothing was changed there")

    def _failed(self, out: Path, error: Exception) -> RunStopped:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[-1] if lines else type(error).__name__
        return RunStopped(f"{out}: the {self._runner} failed ({said}); nothing was changed there")

    def _check_options(self) -> None:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                options = self._options()
                known = options.get_all_options()
                unknown = set(options.get_all_options(retain_unknown_options=True)) - set(known)
        except SystemExit:
            lines = said.getvalue().strip().splitlines() or ["cannot be read"]
            raise InputError(f"--beam-options: {lines[-1].split('error: ')[-1]}") from None
        if unknown and self._runner == "DirectRunner":  # the others ask their cluster which further ones there are
            near = difflib.get_close_matches(min(unknown), known, 1)
            raise InputError(
                f"--beam-options: no option {min(unknown)!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )

    def _options(self) -> Any:
        from apache_beam.options import pipeline_options

        options = pipeline_options.PipelineOptions(self._flags)
        given = {flag[2:].split("=")[0] for flag in self._flags}
        if self._runner == "DirectRunner":
            direct = options.view_as(pipeline_options.DirectOptions)
            if not given & {"direct_num_workers", "direct_running_mode"}:
                direct.direct_running_mode, direct.direct_num_workers = "multi_processing", 0  # one for each core
            # The DirectRunner would otherwise download another runner, which cannot do what this option allows. There
            # are no triggers here.
            options.view_as(pipeline_options.TypeOptions).allow_unsafe_triggers = True
        if "default_sdk_harness_log_level" not in given:
            options.view_as(pipeline_options.WorkerOptions).default_sdk_harness_log_level = "CRITICAL"
        return options


def _import_beam() -> Any:
    """Apache Beam, which is quiet: what it logs of an error comes as an exception, too."""
    logging.disable(logging.WARNING)  # on import it tells what else could be installed
    try:
        import apache_beam
    except ImportError:
        raise InputError(
            "--beam-runner needs Apache Beam, which is not installed; expected it from "
            "`pip install 'dnabert-jax[beam]'`"
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    return apache_beam


class _WorkerLost(BaseException):
    """Like KeyboardInterrupt it is no Exception, so that nothing on its way takes it for a failure of a task."""


@contextmanager
def _local_workers_watched() -> Iterator[None]:
    """Ends the block when a worker process is lost, and keeps what the workers print from the screen.

    Beam lets a thread wait for each worker, and the thread raises when its worker fails. Then the block gets some time
    to end by itself, as it does when a signal has come to all processes at once, before it is interrupted.

    Raises:
      RunStopped: a worker was lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal interrupts another thread
        return
    ended, lost = threading.Event(), threading.Event()
    before, others = threading.excepthook, threading.enumerate()
    handler = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        if not ended.wait(_SECONDS_TO_END):
            lost.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def failed(raised: threading.ExceptHookArgs) -> None:
        if raised.thread in others:
            before(raised)
        else:
            threading.Thread(target=interrupt, daemon=True).start()

    def on_interrupt(number: int, frame: Any) -> None:
        if lost.is_set():
            raise _WorkerLost
        if callable(handler):  # or else Ctrl-C is ignored, as in a job of the background
            handler(number, frame)

    def on_terminate(number: int, frame: Any) -> None:
        # Beam waits for its workers, and those that have only begun would never be told to end.
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.terminate()
        if callable(terminate):
            terminate(number, frame)

    terminate = signal.getsignal(signal.SIGTERM)
    threading.excepthook = failed
    signal.signal(signal.SIGINT, on_interrupt)
    if callable(terminate):
        signal.signal(signal.SIGTERM, on_terminate)
    try:
        with _stderr_of_children() as printed:
            try:
                yield
            except _WorkerLost:
                said = [line for line in printed().splitlines() if line.strip()]
                last = f" ({said[-1].strip()})" if said else ""
                raise RunStopped(f"a worker process of the DirectRunner was lost{last}") from None
            finally:
                ended.set()
    finally:
        signal.signal(signal.SIGINT, handler if handler is not None else signal.SIG_DFL)
        if callable(terminate):
            signal.signal(signal.SIGTERM, terminate)
        late = [thread for thread in threading.enumerate() if thread not in others]

        def failed_late(raised: threading.ExceptHookArgs) -> None:
            if raised.thread not in late:
                before(raised)

        threading.excepthook = failed_late if late else before


@contextmanager
def _stderr_of_children() -> Iterator[Callable[[], str]]:
    """Keeps what processes begun in the block write to stderr; this process's own lines go where they always do."""
    sys.stderr.flush()
    own, python = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        sys.stderr = open(own, "w", buffering=1, closefd=False)  # noqa: SIM115

        def printed() -> str:
            kept.seek(0)
            return kept.read().decode("utf-8", "replace")

        try:
            yield printed
        finally:
            sys.stderr.flush()
            sys.stderr = python
            os.dup2(own, 2)
            os.close(own)
