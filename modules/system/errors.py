"""The error a user can mend: commands print its one line and exit with code 2. Signals end commands here, too."""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from modules.system.interrupts import Interrupts

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
BROKEN_PIPE = 13  # the number of SIGPIPE, which Windows has not


class UserError(Exception):
    """Something outside the program is wrong; the message says what it is and what to do about it."""


def note(text: str) -> None:
    """Tell the user on stderr, in one line, what is as well to know but stops nothing."""
    print(f"note: {text}", file=sys.stderr)


def tell_error(text: str) -> None:
    """Tell the user on stderr, in one line, what went wrong."""
    print(f"error: {text}", file=sys.stderr)


def run_command(body: Callable[[], None]) -> int:
    """Run a command and give its exit code.

    It is 0, 2 after a `UserError` (one line on stderr) or when memory ran out, and 128 plus the signal after one that
    stops it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. Where nobody reads its output any more (`| head -1`) it
    ends without a word and with 141, as the shell says of other programs: 0 would claim that all was written.
    """
    with Interrupts():
        try:
            code = _code_of(body)
            if sys.stdout is not None:
                sys.stdout.flush()  # Python's own flush at the exit would only complain
        except BrokenPipeError:
            if not any([_close_unread(stream) for stream in (sys.stdout, sys.stderr)]):
                raise  # of another pipe
            return 128 + BROKEN_PIPE
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            _discard(sys.stdout)
            print(f"error: the output cannot be written ({error.strerror}); free some space", file=sys.stderr)
            return 2
        return code


def _code_of(body: Callable[[], None]) -> int:
    try:
        body()
    except UserError as error:
        tell_error(str(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        if not lack_of_memory(error):
            raise
        reason = (str(error) or "out of memory").splitlines()[0]
        tell_error(
            f"there is too little memory ({reason}); make pictures, batches or networks smaller, or use fewer workers"
        )
        return 2
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be gone
            print("stopped", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    return 0


def lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out: NumPy's, Python's or CUDA's, or PyTorch's on a CPU, which has no type of its own."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "DefaultCPUAllocator" in str(error)


def _close_unread(stream: TextIO | None) -> bool:
    """Whether nobody reads a stream any more, which is then discarded."""
    if stream is None or not hasattr(select, "poll"):
        return False
    waiting = select.poll()
    waiting.register(stream.fileno(), 0)
    if not waiting.poll(0):  # reports nothing but errors and a closed end
        return False
    _discard(stream)
    return True


def _discard(stream: TextIO) -> None:
    """Throw away what is still to be written to a stream."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
