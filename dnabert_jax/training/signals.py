"""SIGTERM, SIGHUP and Ctrl-C as a request to finish the step, save and exit, rather than as a sudden end."""

import signal
import threading
from types import FrameType, TracebackType


class StopSignals:
    """Context manager that notes the first SIGTERM, SIGHUP or SIGINT; the second raises KeyboardInterrupt at once.

    The training loop looks at `received` between steps. Handlers that were there before come back on leaving; where
    they are those of a StopSignals around this one, as in a program of many runs, that one has received the signal too.
    Outside the main thread, where Python allows no handlers, nothing is caught.

    Attributes:
      received: "SIGTERM", "SIGHUP" or "SIGINT" once one came, else None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
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
