#!/usr/bin/env bash
# Train the demo checkpoint from nothing: about an hour on 2 CPU cores, minutes on a GPU. Stop it at any time and run it
# again: it resumes where it was. Writes checkpoints/demo/{portrait,audio2motion,syncnet} and the curves of all runs,
# configs/demo/curves.png; the layers of Whisper in checkpoints/demo/whisper are not trained (scripts/convert_whisper.py).
# Speech is better with flite, a small synthesiser (Debian: apt-get install flite); without it the lips miss more p, b, m.
set -euo pipefail
cd "$(dirname "$0")/.."

# A step has a process group of its own. A signal that is to stop this script is handed on to all of it, and the script
# ends when the step has put away what it has done.
set -m
child=
step() {
  "$@" &
  child=$!
  wait "$child"
}
stop() {
  [ -z "$child" ] || kill -s "$1" -- "-$child" 2>/dev/null || true
  wait || true
  exit "$2"
}
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM
trap 'stop HUP 129' HUP

make_clips() { step .venv/bin/python -m data_gen.run "$@"; }
# The networks are so small that two processes of one thread are much faster than one process of two threads.
train() {
  if .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    step .venv/bin/python -m tasks.run "configs/demo/$1.yaml" --output "runs/demo/$1"
  else
    step env OMP_NUM_THREADS=1 .venv/bin/python -m torch.distributed.run --nproc-per-node 2 \
      -m tasks.run "configs/demo/$1.yaml" --output "runs/demo/$1"
  fi
}

step bash scripts/setup.sh
make_clips configs/data/procedural.yaml                                               # talking people
make_clips configs/data/procedural.yaml first_seed=900000 people=8 folder=data/procedural/held_out
train i2p                        # one picture -> tri-plane
train motion_adapter             # PNCC -> residual plane
train htbsr                      # torso, background, super-resolution
make_clips configs/data/speech.yaml                                                   # talk without pictures
make_clips configs/data/speech.yaml first_seed=900000 clips=20 folder=data/speech/held_out
train syncnet                    # lip-sync expert
train a2m                        # speech -> expression
step .venv/bin/python -m scripts.export_checkpoint --output checkpoints/demo \
  --portrait runs/demo/htbsr --audio2motion runs/demo/a2m --syncnet runs/demo/syncnet
step .venv/bin/python -m scripts.plot_curves runs/demo/{i2p,motion_adapter,htbsr,syncnet,a2m} --output configs/demo/curves.png
