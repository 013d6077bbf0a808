"""Ctrl-C, SIGTERM and SIGHUP stop a command alike: an exception unwinds it, and all that it began is cleaned up."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

# What a signal does in a new process. SIGHUP (a closed terminal) does not exist on Windows.
_USUAL: dict[int, object] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):
    _USUAL[signal.SIGHUP] = signal.SIG_DFL


class Stopped(KeyboardInterrupt):
    """The signal `number` asked the program to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """In this `with` block the three signals raise `Stopped`; `check` raises it again if something swallowed it.

    Python raises it wherever the main thread is: in a destructor or in a C library's callback it is printed and
    forgotten, and a long job would run on. A second signal does not disturb the cleaning up after the first. Nothing
    changes for a signal that is ignored (nohup) or has a handler of somebody else, or outside the main thread. Blocks
    may be nested.
    """

    def __init__(self) -> None:
        self._received = 0
        self._former: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def check(self) -> None:
        """Raises: Stopped: if a signal came since the block began."""
        if self._received:
            raise Stopped(self._received)

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number, usual in _USUAL.items():
                handler = signal.getsignal(number)
                if handler == usual or isinstance(getattr(handler, "__self__", None), Interrupts):
                    self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number
        if not _cleaning_up():
            raise Stopped(number)


def _cleaning_up() -> bool:
    """Whether a `Stopped` is on its way through the main thread's `except`, `finally` and `with` blocks."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error is not None
