"""Measure a checkpoint of the procedural world on people that no training saw, and on speech.

    python -m scripts.evaluate_demo --checkpoint checkpoints/demo --people 20

Prints PSNR of the photo's own view and of views turned by 20 degrees, how well the mouth detected on the video follows
the mouth that drives it, and how well the mouth follows the loudness of speech files.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

from inference.motion import Motion
from inference.pipeline import TalkingPortrait
from inference.portrait import FRONTAL_DISTANCE, Portrait
from modules.analysis.landmarks import find_faces
from modules.audio.features import read_audio
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.media.pixels import to_pixels, to_tensor
from modules.media.rates import FRAME_RATE
from modules.metrics.image import psnr
from modules.metrics.lips import frame_loudness
from modules.metrics.series import mouth_opening
from modules.procedural.clips import sample_motion
from modules.procedural.person import HELD_OUT_SEED, sample_person
from modules.procedural.render import render
from modules.procedural.speech import synthesize
from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs, named_file

TURN = math.radians(20)
SETTLED = 8  # frames after which smoothing no longer sees the start of a turn


def turned(yaw: float) -> Motion:
    """A head that has turned by `yaw` radians after the first frame."""
    euler = torch.zeros(SETTLED, 3)
    euler[1:, 1] = yaw
    return Motion(torch.zeros(SETTLED, 64), euler, torch.zeros(SETTLED, 3), torch.zeros(SETTLED, 1), "procedural")


def view_quality(pipeline: TalkingPortrait, seed: int) -> dict[str, float]:
    """PSNR of the photo's own view and the mean of both turned views, full pictures."""
    portrait, person = pipeline.procedural_portrait(seed), sample_person(seed)
    result = {}
    for name, yaws in (("same", (0.0,)), ("turned", (-TURN, TURN))):
        scores = []
        for yaw in yaws:
            prediction = list(pipeline.frames(portrait, turned(yaw), batch=SETTLED))[-1]
            face = FaceCoefficients(
                portrait.identity,
                torch.zeros(1, 64),
                torch.tensor([[0.0, yaw, 0.0]]),
                torch.tensor([[0.0, 0.0, FRONTAL_DISTANCE]]),
            )
            target = to_pixels(render(pipeline.face_model, person, face, pipeline.size).image)
            scores.append(float(psnr(to_tensor(prediction), to_tensor(target))))
        result[name] = sum(scores) / len(scores)
    return result


def detected_landmarks(frame: np.ndarray) -> np.ndarray:
    """Landmarks of the largest face, [478, 2] fractions; NaN if there is none."""
    faces = find_faces(frame, 1)
    return faces[0] if len(faces) else np.full((478, 2), np.nan)


def mouth_following(pipeline: TalkingPortrait, seed: int, frames: int) -> tuple[float, float]:
    """Correlation of the driving mouth (of the mesh) with the mouth detected on the video, and the share of frames in
    which a face is detected."""
    portrait = pipeline.procedural_portrait(seed)
    speech = synthesize(seed + 1, frames / FRAME_RATE).expression[:frames]
    driver = sample_motion(seed + 1, frames, speech_motion=speech)
    still = torch.zeros(frames, 3)
    motion = Motion(driver.expression, still, still, torch.zeros(frames, 1), "procedural")
    model = pipeline.face_model
    points = model.landmarks(portrait.identity, driver.expression, 478)
    driving = mouth_opening(project(pose_points(points, still, still + portrait.translation))).numpy()
    traced = np.stack([detected_landmarks(frame) for frame in pipeline.frames(portrait, motion)])
    detected = mouth_opening(torch.from_numpy(traced)).numpy()
    seen = np.isfinite(detected)
    return float(np.corrcoef(driving[seen], detected[seen])[0, 1]), float(seen.mean())


def speech_following(pipeline: TalkingPortrait, portrait: Portrait, path: Path) -> dict[str, float]:
    """Correlation of mouth opening with loudness, and opening in the quietest tenth as a share of the 90 % quantile."""
    motion = pipeline.motion_from_speech(path, torch.Generator().manual_seed(0))
    points = pipeline.face_model.landmarks(portrait.identity, motion.expression, 478)
    opening = mouth_opening(points[..., :2]).numpy()
    loud = frame_loudness(read_audio(path), len(motion)).numpy()
    rest = np.quantile(opening, 0.02)
    quiet = opening[loud <= np.quantile(loud, 0.1)].mean() - rest
    return {
        "correlation": float(np.corrcoef(opening, loud)[0, 1]),
        "quiet": float(quiet / (np.quantile(opening, 0.9) - rest)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.evaluate_demo", description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/demo"))
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--driven-people", type=int, default=4, help="people whose mouth is followed (0: none)")
    parser.add_argument("--frames", type=int, default=75, help="length of the driven clips")
    parser.add_argument("--speech", type=Path, nargs="*", default=[Path("checkpoints/demo/speech.wav")])
    parser.add_argument("--json", type=Path, help="also write all figures here")
    options = parser.parse_args(arguments)

    def body() -> None:
        keep_inputs({"--json": options.json}, {f"the speech {path}": path for path in options.speech})
        pipeline = TalkingPortrait.load(options.checkpoint)
        if pipeline.face_model.name != "procedural" or options.people < 1:
            raise UserError("give a checkpoint of the procedural face model and at least one person")
        seeds = range(HELD_OUT_SEED + 100, HELD_OUT_SEED + 100 + options.people)
        views = [view_quality(pipeline, seed) for seed in seeds]
        for name, title in (("same", "own view"), ("turned", "turned by 20 degrees")):
            scores = [view[name] for view in views]
            print(f"PSNR, {title}: mean {np.mean(scores):.2f} dB, worst {min(scores):.2f} ({len(scores)} people)")
        driven = [mouth_following(pipeline, seed, options.frames) for seed in seeds[: options.driven_people]]
        if driven:
            scores, seen = zip(*driven)
            print(
                f"driven mouth, correlation: mean {np.mean(scores):.3f}, worst {min(scores):.3f} ({len(scores)} "
                f"people, a face in {100 * np.mean(seen):.0f} % of the frames)"
            )
        portrait = pipeline.procedural_portrait(seeds[0])
        following = {path.name: speech_following(pipeline, portrait, path) for path in options.speech}
        for name, score in following.items():
            print(f"speech {name}: correlation {score['correlation']:.2f}, open in silence {score['quiet']:.2f}")
        if options.json:
            with named_file(options.json) as part:
                part.write_text(json.dumps({"views": views, "driven": driven, "speech": following}, indent=1))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
