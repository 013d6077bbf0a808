from pathlib import Path

import numpy as np
import pytest

from modules.analysis.landmarks import detect_clip
from modules.analysis.mediapipe_models import FaceFinder
from modules.analysis.tracking import DETECTED_EACH, UNSMOOTHED_MS, CorrectedTracker, Smoothing
from modules.face3d.landmark_sets import CHIN, EYE_CORNERS, EYES
from modules.media.video_reader import open_video

STEP_MS = 40


class StandIn:
    """A tracker that finds a face in each frame but in those of `lost`."""

    def __init__(self, lost: tuple[int, ...] = ()) -> None:
        self.lost, self.times = lost, []

    def find(self, picture: np.ndarray, time_ms: int) -> np.ndarray:
        self.times.append(time_ms)
        lost = time_ms // UNSMOOTHED_MS in self.lost
        return np.zeros((0, 478, 2)) if lost else np.full((1, 478, 2), 0.5) + [[[0.0, 0.001 * (time_ms % 7)]]]


class Steady:
    """A tracker that always finds the same face."""

    def __init__(self, face: np.ndarray) -> None:
        self.face = face

    def find(self, picture: np.ndarray, time_ms: int) -> np.ndarray:
        return self.face[None]


def frames_of(media: Path, name: str, count: int) -> list[np.ndarray]:
    return [frame for frame, _ in zip(open_video(media / "driving" / f"{name}.mp4")[1], range(count))]


def eye_distance(landmarks: np.ndarray) -> float:
    left, right = EYE_CORNERS
    return float(np.linalg.norm(landmarks[:, left] - landmarks[:, right], axis=-1).mean())


@pytest.mark.parametrize("columns", [512, 384])
def test_smoothing_is_that_of_the_tracker(media: Path, assets: Path, columns: int):
    frames = [np.ascontiguousarray(frame[:, 64 : 64 + columns]) for frame in frames_of(media, "talk_woman_25fps", 40)]
    size = np.array((columns, 512))
    with FaceFinder(1, track=True) as tracker:
        smoothed = np.array([tracker.find(frame, STEP_MS * k)[0] for k, frame in enumerate(frames)]) * size
    with FaceFinder(1, track=True) as tracker:
        found = [tracker.find(frame, UNSMOOTHED_MS * k)[0] * size for k, frame in enumerate(frames)]
    smooth = Smoothing(STEP_MS / 1000)
    own = np.array([smooth(points) for points in found])
    errors = np.linalg.norm(own - smoothed, axis=-1) / eye_distance(smoothed)
    assert errors.mean() < 0.001 and np.linalg.norm(np.array(found) - smoothed, axis=-1).mean() > 5 * errors.mean()


def test_a_face_at_rest_jitters_less_and_a_fast_one_hardly_lags():
    noise = np.random.default_rng(0).normal(0, 0.3, (50, 478, 2))
    shape = np.random.default_rng(1).uniform(0, 200, (478, 2))
    smooth = Smoothing(0.04)
    still = np.array([smooth(shape + jitter) for jitter in noise])
    assert np.diff(still[10:], axis=0).std() < 0.6 * np.diff(noise[10:], axis=0).std()
    smooth.forget()
    moved = np.array([smooth(shape + (20.0 * k, 0)) for k in range(20)])
    assert np.abs(moved[-1] - shape - (20.0 * 19, 0)).max() < 20


def test_the_detector_looks_at_each_third_frame_and_where_the_tracker_lost_the_face():
    asked = []

    def detect(picture: np.ndarray) -> np.ndarray:
        asked.append(picture)
        return np.full((1, 478, 2), 0.25)

    tracker = StandIn(lost=(2,))
    both = CorrectedTracker(detect, tracker, STEP_MS)
    pictures = [np.full((8, 16, 3), number, np.uint8) for number in range(3 * DETECTED_EACH)]
    found = [both.find(picture, number, cut=number == 4) for number, picture in enumerate(pictures)]
    assert [int(picture[0, 0, 0]) for picture in asked] == [0, 2, 3, 4, 6]
    assert tracker.times == [UNSMOOTHED_MS * k for k in range(9)]
    for number in (2, 4):
        for faces in found[number]:
            np.testing.assert_allclose(faces, 0.25)
    assert found[3][0][0, 0, 0] == 0.5


def test_eyes_and_mouth_go_from_one_correction_to_the_next_and_the_rest_stays():
    face = np.random.default_rng(0).uniform(0.4, 0.6, (478, 2))
    answers = iter([face + (0.03, 0), face + (0, 0.06), np.zeros((0, 478, 2))])  # in the frames 0, 3 and 6
    both = CorrectedTracker(lambda picture: next(answers).reshape(-1, 478, 2), Steady(face), STEP_MS)
    rows = np.array([both.find(np.zeros((8, 8, 3), np.uint8), number, cut=False)[0][0] for number in range(8)])
    corrected = both.finish(rows) - rows
    expected = [(0.03, 0), (0.02, 0.02), (0.01, 0.04), *[(0, 0.06)] * 5]
    np.testing.assert_allclose(corrected[:, EYES[0]], expected, atol=1e-12)
    assert not corrected[:, CHIN].any()


def test_the_face_of_somebody_else_corrects_nothing():
    face = np.random.default_rng(0).uniform(0.1, 0.3, (478, 2))
    both = CorrectedTracker(lambda picture: face[None] + 0.5, Steady(face), STEP_MS)
    rows = np.array([both.find(np.zeros((8, 8, 3), np.uint8), number, cut=False)[0][0] for number in range(4)])
    np.testing.assert_array_equal(both.finish(rows), rows)


def test_no_face_is_no_face():
    both = CorrectedTracker(lambda picture: np.zeros((0, 478, 2)), StandIn(lost=(0,)), STEP_MS)
    faces, tracked = both.find(np.zeros((8, 8, 3), np.uint8), 0, cut=False)
    assert len(faces) == len(tracked) == 0


@pytest.mark.parametrize("name", ["talk_woman_25fps", "talk_woman_head_turns_25fps"])
def test_corrected_landmarks_are_those_of_both_modes_but_for_jitter(media: Path, assets: Path, name: str):
    frames = frames_of(media, name, 40)
    both, corrected = detect_clip(frames), detect_clip(frames, method="corrected")
    errors = np.linalg.norm(both - corrected, axis=-1) / eye_distance(both)
    assert 0 < errors.mean() < 0.002 and errors[:, EYES].mean() < 0.004
