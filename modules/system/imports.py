"""Imports that take seconds, in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def many_imports() -> Iterator[None]:
    """No passes of the garbage collector inside the `with`, and none later over what is there at its end.

    PyTorch and what goes with it are half a million objects that stay: looking through them again and again, as they
    come, takes a fifth of the time of importing them, and finds nothing worth it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
