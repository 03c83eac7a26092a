"""SIGTERM, SIGHUP and Ctrl-C as a request to finish the step, save and exit, rather than as a sudden end.

Of several processes any one may get the signal, and all have to stop after the same step; `votes` says how.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from dnabert_jax import hosts

if TYPE_CHECKING:
    from jax.sharding import Mesh

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class StopSignals:
    """Context manager that notes the first SIGTERM, SIGHUP or SIGINT; the second raises KeyboardInterrupt at once.

    The training loop asks `after_step` between steps. Handlers that were there before come back on leaving; where they
    are those of a StopSignals around this one, as in a program of many runs, that one has received the signal too.
    Outside the main thread, where Python allows no handlers, nothing is caught.

    Attributes:
      received: "SIGTERM", "SIGHUP" or "SIGINT" once one came to this process, else None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, object] = {}
        self._votes: Any = None

    def agree_over(self, mesh: "Mesh") -> None:
        """Has all processes of a run stop after the same step, whichever of them a signal comes to.

        Args:
          mesh: of all devices; in use where `after_step` is called.
        """
        if hosts.count() > 1:
            from dnabert_jax.training.votes import Votes  # with JAX, which commands that only catch signals do without

            self._votes = Votes(mesh)

    def after_step(self) -> str | None:
        """What asks the run to stop now, such as "SIGTERM" or "SIGTERM to process 1 of 2"; None while nothing does.

        With several processes every one has to call this between each two steps.
        """
        if self._votes is None:
            return self.received
        vote = 0
        if self.received:
            vote = 1 + hosts.index() * len(_SIGNALS) + _SIGNALS.index(signal.Signals[self.received])
        highest = self._votes.cast(vote)
        if not highest:
            return None
        process, number = divmod(highest - 1, len(_SIGNALS))
        return f"{_SIGNALS[number].name} to {hosts.name(process)}"

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is signal.SIG_IGN:  # as under nohup
                    continue
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not set from Python and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, StopSignals):
                outer.received = outer.received or self.received
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
