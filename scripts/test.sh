#!/usr/bin/env bash
# Install if needed, check style and types, run the tests. Arguments go to pytest: bash scripts/test.sh -k rasterizer
set -euo pipefail
cd "$(dirname "$0")/.."
# optional for users, not for the tests of the server and of object storage
bash scripts/setup.sh requirements-serve.txt requirements-object-store.txt
.venv/bin/ruff check .
.venv/bin/mypy
# One thread a process: as many processes as cores are faster than threads that fight for them.
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n auto --dist loadfile -m "not slow" "$@"
