"""Ctrl-C that cannot get lost in a library's callback."""

import signal
import threading
from types import FrameType


class Interrupts:
    """In this `with` block Ctrl-C raises KeyboardInterrupt, and `check` raises it again if something swallowed it.

    Python raises it wherever the main thread is: in a destructor or in a C library's callback it is printed and
    forgotten, and a long job would run on. Nothing changes where Ctrl-C is ignored, or outside the main thread.
    """

    def __init__(self) -> None:
        self._received = False
        self._former = None

    def check(self) -> None:
        """Raises: KeyboardInterrupt: if Ctrl-C was pressed since the block began."""
        if self._received:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupts":
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._former = signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        raise KeyboardInterrupt
