"""How right fits are where the truth is known: rendered people, whose landmarks a real detector finds.

python -m pytest -m slow -s tests/test_procedural_fits.py        prints the figures of each person
"""

from pathlib import Path

import pytest
import torch

from modules.analysis.landmarks import detect_clip
from modules.face3d.fitting import fit_clip
from modules.face_models import load_face_model
from modules.media.pixels import to_pixels
from modules.metrics.motion import landmark_error
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.head import expression_index
from modules.procedural.person import sample_person
from modules.procedural.speech import synthesize

FRAMES, SIZE = 60, 384
ACTIONS = [expression_index(name) for name in ("jaw_open", "blink_left", "blink_right")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [900001, 900002, 900003, 900004])
def test_fits_of_what_a_detector_finds_are_near_the_truth(seed: int, assets: Path):
    """Pitch has an offset of up to 8 degrees and jaws are smoothed: the detector's mouths and brows lie elsewhere than
    those of the procedural head. On its own landmarks 1.5 degrees and 0.9 hold (tests/modules/face3d)."""
    model, speech = load_face_model("procedural"), synthesize(seed, (FRAMES + 0.5) / 25)
    with torch.no_grad():
        motion = sample_motion(seed, FRAMES, speech_motion=speech.expression)
        clip = render_clip(model, sample_person(seed), motion, SIZE)
    frames, face = to_pixels(clip.frames), clip.coefficients
    landmarks = torch.from_numpy(detect_clip(list(frames), method="corrected", anyway=True)).float()
    fit = fit_clip(model, landmarks)
    turns = torch.rad2deg(fit.euler - face.euler)  # [T, 3]: pitch, yaw, roll
    change = (turns - turns.mean(dim=0)).abs().mean(dim=0)
    error = float(landmark_error(model, fit, landmarks).median())
    pairs = (torch.stack([fit.expression[:, action], face.expression[:, action]]) for action in ACTIONS)
    alike = [float(torch.corrcoef(pair)[0, 1]) for pair in pairs]
    print(f"\n{seed}: degrees {turns.abs().mean(dim=0)}, about their mean {change}, landmarks {error:.4f}, {alike}")
    assert turns.abs().mean(dim=0)[1:].max() < 1.5 and change[0] < 2.5
    assert error < 0.01 and alike[0] > 0.55 and min(alike[1:]) > 0.85
