"""The error a user can mend: commands print its one line and exit with code 2. Signals end commands here, too."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from modules.system.interrupts import Interrupts


class UserError(Exception):
    """Something outside the program is wrong; the message says what it is and what to do about it."""


def note(text: str) -> None:
    """Tell the user on stderr, in one line, what is as well to know but stops nothing."""
    print(f"note: {text}", file=sys.stderr)


def run_command(body: Callable[[], None]) -> int:
    """Run a command and give its exit code.

    It is 0, 2 after a `UserError` (one line on stderr), and 128 plus the signal after one that stops it: 130 for
    Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    with Interrupts():
        try:
            body()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            with suppress(OSError):  # the terminal may be gone
                print("stopped", file=sys.stderr)
            return 128 + getattr(stop, "number", signal.SIGINT)
        return 0
