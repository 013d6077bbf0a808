"""What is freed leaves the process."""

import subprocess
import sys

import pytest

from modules.system.memory import return_freed_memory

FREED_BETWEEN_KEPT = """
import os
from modules.system.memory import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

blocks = [bytes(16_000) for _ in range(16_000)]  # 256 MB, each below the size that glibc maps by itself
kept = blocks[::100]
del blocks
before = resident()
return_freed_memory()
print(before - resident())
"""


def test_memory_between_kept_objects_is_returned() -> None:
    """Of 256 MB that were freed around kept blocks at least 150 leave."""
    if not return_freed_memory():
        pytest.skip("the C library is not glibc")
    done = subprocess.run([sys.executable, "-c", FREED_BETWEEN_KEPT], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 150
