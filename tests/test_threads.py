"""How PyTorch's threads wait, decided before it is imported."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FREE = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}


def policy(package: str, **environment: str) -> str:
    """OMP_WAIT_POLICY after the import of a package; fails if PyTorch came before it was set."""
    code = (
        f"import sys, os, {package}; assert 'torch' not in sys.modules; "
        "print(os.environ.get('OMP_WAIT_POLICY', 'unset'))"
    )
    return subprocess.run(
        [sys.executable, "-c", code], env=FREE | environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("package", ["modules", "tasks", "data_gen", "inference", "scripts"])
def test_threads_wait_patiently_in_every_command(package: str) -> None:
    assert policy(package) == "PASSIVE"


def test_who_set_a_policy_keeps_it() -> None:
    assert policy("inference", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    assert policy("inference", GOMP_SPINCOUNT="1000") == "unset"
