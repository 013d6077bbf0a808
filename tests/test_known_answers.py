"""Which metric must move under which disturbance of a video, by how much, and which must not.

The truth is a procedural person of whom every number is known; each row of the table is one thing done to the video.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.fitting import fit_clip
from modules.metrics.identity import csim, identity_drift
from modules.metrics.image import detail, frame_psnr, l1, ssim
from modules.metrics.lips import opening_correlation
from modules.metrics.motion import aed, akd, apd, landmark_errors, mediapipe_68, temporal_jitter
from modules.metrics.series import ClipSeries
from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.head import EXPRESSIONS, expression_index, procedural_model
from modules.procedural.person import sample_person
from tests.conftest import ROOT

FRAMES, SIZE, LATE = 24, 64, 3
UPPER_FACE = ("blink_left", "blink_right", "brows_up", "brows_down", "gaze_x", "gaze_y", "squint", "eyes_wide")


class Video(NamedTuple):
    """frames [T, 3, S, S] in [0, 1], and the facts of each."""

    frames: Tensor
    series: ClipSeries


def series_of(face: FaceCoefficients, size: int = SIZE) -> ClipSeries:
    """The true facts of a procedural face; its identity coefficients stand for the vectors of a recognition network."""
    points = procedural_model().landmarks(face.identity, face.expression, 478)
    seen = size * project(pose_points(points, face.euler, face.translation))
    return ClipSeries.of(seen, size, face, identity_vectors=face.identity.expand(len(face), -1))


def video(person: int, motion: FaceCoefficients) -> Video:
    clip = render_clip(procedural_model(), sample_person(person), motion, SIZE)
    return Video((clip.frames + 1) / 2, series_of(clip.coefficients))


@cache
def motion() -> FaceCoefficients:
    return sample_motion(5, FRAMES + LATE)


@cache
def truth() -> Video:
    return video(1, motion())


def late(clip: Video) -> Video:
    """The video as if it came LATE frames late."""
    index = (torch.arange(len(clip.frames)) - LATE).clamp(min=0)
    series = replace(
        clip.series,
        **{
            name: getattr(clip.series, name)[index]
            for name in ("landmarks", "expression", "euler", "translation", "mouth_opening", "eye_opening")
        },
    )
    return Video(clip.frames[index], series)


def scaled_expression(factor: float) -> Video:
    return video(1, motion().replace(expression=factor * motion().expression))


def frozen_mouth() -> Video:
    expression = motion().expression.clone()
    mouth = [expression_index(name) for name in EXPRESSIONS if name not in UPPER_FACE]
    expression[:, mouth] = expression[:1, mouth]
    return video(1, motion().replace(expression=expression))


def blurred(clip: Video) -> Video:
    return clip._replace(frames=F.avg_pool2d(clip.frames, 5, 1, 2, count_include_pad=False))


def jittered(clip: Video) -> Video:
    """Every other frame is one pixel to the right."""
    odd = torch.arange(len(clip.frames)) % 2 == 1
    frames = torch.where(odd[:, None, None, None], clip.frames.roll(1, 3), clip.frames)
    landmarks = clip.series.landmarks + odd[:, None, None] * torch.tensor([1.0, 0.0])
    return Video(frames, replace(clip.series, landmarks=landmarks))


DISTURBANCES: dict[str, Callable[[], Video]] = {
    "identical": truth,
    "3 frames late": lambda: late(truth()),
    "identity swapped": lambda: video(2, motion()),
    "expression x 1.5": lambda: scaled_expression(1.5),
    "mouth frozen": frozen_mouth,
    "blurred": lambda: blurred(truth()),
    "jittered": lambda: jittered(truth()),
    "colours x 0.9": lambda: truth()._replace(frames=0.9 * truth().frames),
}


def measure(made: Video, true: Video) -> dict[str, float]:
    errors = landmark_errors(made.series, true.series)
    vectors = made.series.identity_vectors, true.series.identity_vectors
    return {
        "l1": float(l1(made.frames, true.frames).mean()),
        "psnr": float(frame_psnr(made.frames, true.frames).mean()),
        "ssim": float(ssim(made.frames, true.frames).mean()),
        "detail": float(detail(made.frames, true.frames).mean()),
        "csim": float(csim(*vectors).mean()),
        "drift": identity_drift(vectors[0]),
        "aed": aed(made.series, true.series),
        "apd": apd(made.series, true.series),
        "akd": akd(mediapipe_68(made.series.landmarks), mediapipe_68(true.series.landmarks), SIZE),
        "jitter": temporal_jitter(made.series, true.series),
        "lip shape": errors.lip_shape,
        "mouth gap": errors.mouth_gap,
        "eye gap": errors.eye_gap,
        "lips": opening_correlation(made.series.mouth_opening, true.series.mouth_opening),
    }


# Between which bounds a metric lies under a disturbance; a metric that is not named must not move at all.
# fmt: off
MOVES: dict[str, dict[str, tuple[float, float]]] = {
    "identical": {},
    "3 frames late": {
        "l1": (0.002, 0.02), "psnr": (25, 45), "ssim": (0.9, 0.99), "detail": (0.95, 1.05), "aed": (0.006, 0.03),
        "apd": (0.003, 0.01), "akd": (0.3, 1.2), "jitter": (0.7, 0.99), "lip shape": (1.5, 6), "mouth gap": (3, 12),
        "eye gap": (0.5, 2), "lips": (-0.5, 0.5)},
    "identity swapped": {
        "l1": (0.05, 0.4), "psnr": (5, 16), "ssim": (0, 0.7), "detail": (0.3, 3), "csim": (-1, 0.3), "akd": (1.5, 5),
        "jitter": (0.9, 1.1), "lip shape": (2, 8), "mouth gap": (0.1, 1), "eye gap": (0.05, 1), "lips": (0.99, 1)},
    "expression x 1.5": {
        "l1": (0.0005, 0.006), "psnr": (30, 50), "ssim": (0.97, 0.999), "detail": (0.95, 1.05), "aed": (0.008, 0.02),
        "akd": (0.1, 0.5), "jitter": (1.3, 1.5), "lip shape": (0.8, 3), "mouth gap": (2, 6), "eye gap": (0.3, 1.5),
        "lips": (0.99, 1)},
    "mouth frozen": {
        "l1": (0.0005, 0.006), "psnr": (30, 50), "ssim": (0.97, 0.999), "detail": (0.9, 1.05), "aed": (0.006, 0.02),
        "akd": (0.2, 0.9), "jitter": (0, 0.3), "lip shape": (1.5, 6), "mouth gap": (3, 12), "lips": (-0.6, 0.6)},
    "blurred": {"l1": (0.015, 0.05), "psnr": (20, 30), "ssim": (0.7, 0.93), "detail": (0.05, 0.3)},
    "jittered": {  # one of 64 pixels, to the right, in 13 of 27 frames: 256 / 64 * 13 / 27 / 2 axes
        "l1": (0.005, 0.03), "psnr": (50, 80), "ssim": (0.8, 0.97), "akd": (0.96, 0.97), "jitter": (10, 60)},
    "colours x 0.9": {"l1": (0.03, 0.1), "psnr": (20, 30), "ssim": (0.97, 0.999), "detail": (0.899, 0.901)},
}
# fmt: on


@pytest.mark.parametrize("name", DISTURBANCES)
def test_what_must_move_moves_and_nothing_else(name: str) -> None:
    still, found = measure(truth(), truth()), measure(DISTURBANCES[name](), truth())
    for metric, value in found.items():
        if metric in MOVES[name]:
            low, high = MOVES[name][metric]
            assert low <= value <= high, f"{name}: {metric} is {value:.4f}, not between {low} and {high}"
            assert value != still[metric], f"{name}: {metric} does not move"
        else:
            assert value == pytest.approx(still[metric], abs=1e-3), f"{name}: {metric} moves to {value:.4f}"


def test_the_document_shows_this_table() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.partition("| metric | ")[2].splitlines()]
    names, rows = lines[0], lines[2 : lines.index([""])]
    assert names == list(DISTURBANCES) and len(rows) == 14
    for metric, *cells in rows:
        for name, value in zip(names[1:], cells[1:], strict=True):
            low, high = MOVES[name].get(metric, (0, 0))
            assert (value == "·") == (metric not in MOVES[name]), f"{name}: {metric}"
            assert value == "·" or low - 0.001 <= float(value) <= high + 0.001, f"{name}: {metric}"


def test_without_a_disturbance_every_metric_has_its_best_value() -> None:
    best = {"psnr": 100, **dict.fromkeys(("ssim", "detail", "csim", "jitter", "lips"), 1)}
    for metric, value in measure(truth(), truth()).items():
        assert value == pytest.approx(best.get(metric, 0), abs=1e-4), metric


def test_a_known_delay_of_the_sound_is_taken_out() -> None:
    opening = truth().series.mouth_opening
    assert opening_correlation(late(truth()).series.mouth_opening, opening, LATE) > 0.999


def test_a_face_that_turns_into_another_one_drifts() -> None:
    people = [sample_person(seed).identity for seed in (1, 2)]
    share = torch.linspace(0, 1, FRAMES)[:, None]
    assert identity_drift((1 - share) * people[0] + share * people[1]) > 0.3


def test_distances_of_fits_are_near_those_of_the_truth() -> None:
    """AED, APD and AKD from landmark fits, of two motions of one person, against the coefficients that made them."""
    model, person = procedural_model(), sample_person(3).identity[None]
    faces = [sample_motion(seed, 12).replace(identity=person) for seed in (7, 8)]
    true = [series_of(face, 512) for face in faces]
    fitted = [series_of(fit_clip(model, series.landmarks / 512), 512) for series in true]
    assert apd(*fitted, translation=False) == pytest.approx(apd(*true, translation=False), rel=0.1)
    assert apd(*fitted) == pytest.approx(apd(*true), rel=0.25)
    assert aed(*fitted) == pytest.approx(aed(*true), rel=0.4)
    points = [[mediapipe_68(series.landmarks) for series in pair] for pair in (fitted, true)]
    assert akd(*points[0], 512) == pytest.approx(akd(*points[1], 512), rel=0.05)
    # what noise of the landmarks makes of one motion is far less than another motion is
    noise = 0.3 * torch.randn(true[0].landmarks.shape, generator=torch.Generator().manual_seed(0))
    noisy = series_of(fit_clip(model, (true[0].landmarks + noise) / 512), 512)
    assert 0.001 < aed(noisy, fitted[0]) < 0.3 * aed(*fitted) and apd(noisy, fitted[0]) < 0.05 * apd(*fitted)
