#!/usr/bin/env bash
# Install if needed, check style and types, run the tests. Arguments go to pytest: bash scripts/test.sh -k rasterizer
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh requirements-serve.txt  # optional for users, not for the tests of the server
# The server's packages are optional for users, not for its tests.
.venv/bin/python -c "import prometheus_client, selenium, starlette, uvicorn, websockets" 2>/dev/null ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-serve.txt
.venv/bin/ruff check .
.venv/bin/mypy
# One thread a process: as many processes as cores are faster than threads that fight for them.
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest -n auto --dist loadfile -m "not slow" "$@"
