"""A trace of a few steps of a run, such as `--profile 10:15` asks for, where TensorBoard and XProf look for one.

`WORKDIR/tensorboard/plugins/profile/steps_10_to_14/` gets a file of every process, so that each host's devices are
seen. Steps are counted from 0 over the whole run, and the last of the range is not taken, as in Python: 10:15 traces
what happens from the figures of step 10 to those of step 15. A trace shows each step as `train`, with its number.
"""

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import jax

from dnabert_jax import hosts, outputs, places
from dnabert_jax.training.reports import TENSORBOARD

_STEP = "train"
"""What a step is called in a trace; XProf's tools know it by its number."""
_TRACE = "xplane.pb"
"""How the names of the files end that TensorBoard and XProf read."""


class Profile:
    """The trace of the steps of a range; a context manager that writes what was begun when the run ends before its end.

    Args:
      steps: which, counted from 0; None traces nothing.
      workdir: folder of the run.
      say: hears where the trace lies, or why there is none.
    """

    def __init__(self, steps: range | None, workdir: str | Path, say: Callable[[str], None]) -> None:
        self._steps = steps or range(0)
        self._folder = places.place(workdir) / TENSORBOARD / "plugins" / "profile"
        self._say = say
        self._traced: list[int] = []
        self._under_way: tempfile.TemporaryDirectory | None = None

    @contextlib.contextmanager
    def step(self, number: int, aside: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Traces what is done inside, where it is one of the steps.

        Args:
          number: of the step, counted from 0.
          aside: inside it no device is at work, and time does not count as training.
        """
        if number not in self._steps:
            yield
            return
        if self._under_way is None:
            with aside():
                self._begin()
        self._traced.append(number)
        with jax.profiler.StepTraceAnnotation(_STEP, step_num=number):
            yield
        if number == self._steps[-1]:
            with aside():
                self._end()

    def _begin(self) -> None:
        self._under_way = tempfile.TemporaryDirectory(prefix="profile-")
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of a function would slow the steps down and fill the trace
        jax.profiler.start_trace(self._under_way.name, profiler_options=options)

    def _end(self) -> None:
        with self._under_way as written:
            self._under_way = None
            jax.profiler.stop_trace()
            place = self._folder / f"steps_{self._traced[0]}_to_{self._traced[-1]}"
            try:
                self._keep(Path(written), place)
            except OSError as error:
                self._say(f"{place}: the trace could not be written ({error.strerror or error}); the run goes on")
            else:
                self._say(f"trace of steps {self._traced[0]} to {self._traced[-1]}: {place}")

    def _keep(self, written: Path, place: Path) -> None:
        """Moves what JAX wrote under a name of its time and this host to where all processes of the run write."""
        if not places.is_remote(place):  # an object store has no folders to be made
            place.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname().split(".")[0]
        for file in written.rglob(f"*.{_TRACE}"):
            with outputs.file(place / f"{host}-{hosts.index()}.{_TRACE}") as new:
                new.write_bytes(file.read_bytes())

    def __enter__(self) -> "Profile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._under_way is not None:
            self._end()
        if self._steps and not self._traced and kind is None:
            asked = f"{self._steps.start}:{self._steps.stop}"
            self._say(f"profile {asked}: this start of the run took none of these steps, so there is no trace")
