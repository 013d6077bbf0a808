#!/usr/bin/env bash
# Train the demo checkpoint from nothing: about an hour on 2 CPU cores, minutes on a GPU. Stop it at any time and run it
# again: it resumes where it was. Writes checkpoints/demo/{portrait,audio2motion,syncnet}; the layers of Whisper in
# checkpoints/demo/whisper are not trained (scripts/convert_whisper.py). Speech is better with flite, a small synthesiser
# (Debian: apt-get install flite); without it the lips miss more p, b and m.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
train() { .venv/bin/python -m tasks.run "configs/demo/$1.yaml" --output "runs/demo/$1"; }
# The networks are so small that two processes of one thread are much faster than one process of two threads.
train_twice() {
  if .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    train "$1"
  else
    OMP_NUM_THREADS=1 .venv/bin/python -m torch.distributed.run --nproc-per-node 2 \
      -m tasks.run "configs/demo/$1.yaml" --output "runs/demo/$1"
  fi
}

.venv/bin/python -m data_gen.run configs/data/procedural.yaml                                   # talking people
.venv/bin/python -m data_gen.run configs/data/procedural.yaml first_seed=900000 people=8 folder=data/procedural/held_out
train_twice i2p                  # one picture -> tri-plane
train_twice motion_adapter       # PNCC -> residual plane
train_twice htbsr                # torso, background, super-resolution
.venv/bin/python -m data_gen.run configs/data/speech.yaml                                       # talk without pictures
.venv/bin/python -m data_gen.run configs/data/speech.yaml first_seed=900000 clips=20 folder=data/speech/held_out
train_twice syncnet              # lip-sync expert
train_twice a2m                  # speech -> expression
.venv/bin/python -m scripts.export_checkpoint --output checkpoints/demo \
  --portrait runs/demo/htbsr --audio2motion runs/demo/a2m --syncnet runs/demo/syncnet
