#!/usr/bin/env bash
# See it work, nothing downloaded but packages: a procedural person says the sentence of checkpoints/demo/speech.wav.
# Arguments go to inference.run, for example: bash scripts/demo.sh --source face.jpg --audio speech.wav
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
exec .venv/bin/python -m inference.run "$@"
