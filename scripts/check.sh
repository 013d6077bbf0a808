#!/usr/bin/env bash
# All checks in one command, the quick ones first: format, style, types, tests. Run it before you hand in a change.
# Arguments go to pytest: bash scripts/check.sh -k rasterizer
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
.venv/bin/ruff format --check .
exec bash scripts/test.sh "$@"
