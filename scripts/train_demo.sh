#!/usr/bin/env bash
# Train the demo checkpoint from nothing: about an hour on 2 CPU cores, minutes on a GPU. Stop it at any time and run it
# again: it goes on where it was. Writes checkpoints/demo/{portrait,audio2motion}.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
train() { .venv/bin/python -m tasks.run "configs/demo/$1.yaml" --output "runs/demo/$1"; }

.venv/bin/python -m data_gen.run configs/data/procedural.yaml                                   # talking people
.venv/bin/python -m data_gen.run configs/data/procedural.yaml first_seed=900000 people=8 folder=data/procedural/held_out
train i2p               # one picture -> tri-plane
train motion_adapter    # PNCC -> residual plane
train htbsr             # torso, background, super-resolution
train syncnet           # lip-sync expert
train a2m               # speech -> expression
.venv/bin/python -m scripts.export_checkpoint --portrait runs/demo/htbsr --audio2motion runs/demo/a2m --output checkpoints/demo
