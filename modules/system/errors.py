"""The error a user can mend: commands print its one line and exit with code 2."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something outside the program is wrong; the message says what it is and what to do about it."""


def note(text: str) -> None:
    """Tell the user on stderr, in one line, what is as well to know but stops nothing."""
    print(f"note: {text}", file=sys.stderr)


def run_command(body: Callable[[], None]) -> int:
    """Run a command and give its exit code: 0, 2 after a `UserError` (one line on stderr), 130 after Ctrl-C."""
    try:
        body()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
