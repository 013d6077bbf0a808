"""The original's numbers: every check of every golden file in $GOLDEN_DIR.

The checks stand in tests/golden, declared by file; any other folder of the same layout works with them.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

import pytest

from tests.conftest import GOLDEN_ERROR, golden_folder
from tests.golden import (
    analysis,
    audio,
    audio2motion,
    cameras,
    converter,
    eg3d,
    face3d,
    head,
    losses,
    pncc,
    portrait,
    prepared,
    sr,
)
from tests.golden.file import Check, Golden, open_golden

MODULES = (analysis, audio, audio2motion, cameras, converter, eg3d, face3d, head, losses, pncc, portrait, prepared, sr)
CHECKS: list[Check] = [value for module in MODULES for value in vars(module).values() if hasattr(value, "files")]
NOT_COMPARED = {name: reasons for module in MODULES for name, reasons in getattr(module, "NOT_COMPARED", {}).items()}


def every_key_is_compared(golden: Golden) -> None:
    """After all other checks of a file: each of its keys was read, or stands in NOT_COMPARED with the reason."""
    excused = {key for key in golden.npz for pattern in NOT_COMPARED.get(golden.name, ()) if re.fullmatch(pattern, key)}
    unread = golden.npz.keys() - golden.npz.read - excused
    if unread and not set(checks_of(golden.name)) <= golden.passed:
        pytest.skip("the other checks of this file did not all pass in this process (pytest-xdist: --dist loadfile)")
    assert not unread, f"no check compares {', '.join(sorted(unread))} of {golden.name}.npz"
    assert not excused & golden.npz.read, f"compared after all: {', '.join(sorted(excused & golden.npz.read))}"


def a_check_exists(golden: Golden) -> None:
    pytest.fail(f"no check in tests/golden is declared for {golden.name}.npz")


def checks_of(name: str) -> list[Check]:
    return [check for check in CHECKS if name in check.files]


def cases() -> Iterator[object]:
    """(file, check) for every file of the folder; one case for a file that should be there and is not."""
    present = {path.stem for path in golden_folder().glob("*.npz")}
    for name in sorted(present | {name for check in CHECKS for name in check.files}):
        declared = checks_of(name) if name in present else []
        slow = {check for check in declared if check.slow}
        for check in [*declared, every_key_is_compared] if declared else [a_check_exists]:
            marks = [pytest.mark.slow] if check in slow or (slow and check is every_key_is_compared) else []
            yield pytest.param(name, check, id=f"{name}-{check.__name__}", marks=marks)


@lru_cache(maxsize=1)
def opened(name: str) -> Golden:
    """The file with its models and what was read, while its checks run."""
    return open_golden(golden_folder(), name)


@pytest.mark.parametrize(("name", "check"), list(cases()))
def test_golden(name: str, check: Check, record_property: Callable[[str, object], None]) -> None:
    golden = opened(name)
    try:
        check(golden)
        golden.passed.add(check)
    finally:
        if golden.worst[1]:
            record_property(GOLDEN_ERROR + name, list(golden.worst))
