"""Memory that long work has freed goes back to the system."""

import ctypes
import sys


def return_freed_memory() -> bool:
    """Give whole free pages back to the system; whether the C library could (glibc's `malloc_trim`).

    Networks' activations are freed between longer-lived small objects, and glibc keeps such holes: a process that
    works through many clips would otherwise grow by about 10 MB with each.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    if trim is None:
        return False
    trim(0)
    return True
