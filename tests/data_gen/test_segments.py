from collections import deque

import numpy as np
import pytest

from data_gen.segments import NO_FACE, RETRY, SAMPLE, SETTLING, Segment, find_segments, is_cut, merged, without_jumps
from modules.system.errors import UserError

MOVING = 8


def frames_of(*scenes: tuple[int, int, int]):
    """Frames of scenes (length, faces, grey): the corner tells the number of faces, the rest the brightness."""
    number = 0
    for length, faces, grey in scenes:
        for _ in range(length):
            frame = np.full((36, 64, 3), grey + number % 2 * MOVING, np.uint8)
            frame[0, 0] = faces
            number += 1
            yield frame


class CornerFinder:
    """As many faces as the corner says."""

    def __init__(self, max_faces: int) -> None:
        pass

    def find(self, picture):
        return np.zeros((picture[0, 0, 0], 478, 2))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    """Landmarks that hold the brightness of their frame; faces in frames as bright as 99 are refused."""

    def detect_clip(frames, name, method, find):
        rows = []
        for frame in frames:
            if not rows and frame[1, 1, 0] >= 99:
                raise UserError(f"the face in {name} is only {frame[1, 1, 0]} pixels wide; use another")
            rows.append(np.full((478, 2), frame[1, 1, 0], np.float64))
        return np.stack(rows)

    monkeypatch.setattr("data_gen.segments.FaceFinder", CornerFinder)
    monkeypatch.setattr("data_gen.segments.detect_clip", detect_clip)


def spans(*scenes, longest: int = 1000) -> list[tuple[int, int, str]]:
    result = list(find_segments(frames_of(*scenes), "a.mp4", longest))
    assert all((s.landmarks is None) == bool(s.reason) for s in result)
    assert all(s.landmarks is None or len(s.landmarks) == s.length for s in result)
    return [
        (s.start, s.length, s.reason)
        for s in merged([s for s in result if s.reason]) + [s for s in result if not s.reason]
    ]


def test_one_scene_is_one_segment():
    assert spans((33, 1, 20)) == [(0, 33, "")]


def test_a_cut_ends_a_segment_and_begins_the_next():
    assert spans((33, 1, 20), (17, 1, 80)) == [(0, 33, ""), (33, 17, "")]


def test_pictures_of_another_size_are_a_segment_of_their_own():
    frames = list(frames_of((33, 1, 20)))
    frames[12:20] = [np.repeat(frame, 2, axis=0) for frame in frames[12:20]]
    found = list(find_segments(iter(frames), "call.webm", 1000))
    assert [(s.start, s.length, s.shape) for s in found] == [(0, 12, (36, 64)), (12, 8, (72, 64)), (20, 13, (36, 64))]


def test_long_scenes_are_divided():
    assert spans((33, 1, 20), longest=15) == [(0, 15, ""), (15, 15, ""), (30, 3, "")]


def test_frames_without_a_face_are_refused_and_uncertain_ones_left_out():
    seen = spans((33, 1, 20), (24, 0, 22), (20, 1, 21))
    assert seen == [(33, 24, NO_FACE), (0, 31, ""), (57, 20, "")]  # counted at every third frame


def test_a_second_face_is_refused():
    assert spans((12, 2, 20), (20, 1, 80)) == [(0, 12, "several faces in view"), (12, 20, "")]


def test_what_detect_refuses_is_tried_again_later():
    assert spans((30, 1, 100), (20, 1, 50)) == [(0, 30, "the face in a.mp4 is only 100 pixels wide"), (30, 20, "")]
    assert RETRY < 30


def test_a_damaged_end_keeps_what_came_before():
    def damaged():
        yield from frames_of((14, 1, 20))
        raise UserError("a.mp4 is damaged after 0.6 s; cut it")

    result = list(find_segments(damaged(), "a.mp4", 1000))
    assert [(s.start, s.length, s.reason) for s in result] == [(0, 14, ""), (14, 0, "a.mp4 is damaged after 0.6 s")]


def test_an_empty_video_has_no_segment():
    assert spans() == []


def test_a_cut_is_distinguished_from_a_camera_that_moves():
    still, shaken = deque([0.5] * 20), deque([12.0] * 20)
    assert is_cut(25, still) and not is_cut(15, still) and not is_cut(40, shaken) and is_cut(60, shaken)
    assert is_cut(25, deque())


def test_a_face_that_jumps_divides_a_segment():
    points = np.random.default_rng(0).uniform(0.4, 0.5, (1, 478, 2)).repeat(40, 0)
    points += np.linspace(0, 0.1, 40)[:, None, None]  # a slow movement
    points[22:, :, 0] += 0.06  # more than half a face width
    parts = without_jumps(Segment(start=100, length=40, shape=(90, 160), landmarks=points))
    assert [(p.start, p.length) for p in parts] == [(100, 22), (122 + SETTLING, 18 - SETTLING)]
    assert np.array_equal(parts[1].landmarks, points[22 + SETTLING :])
    assert len(without_jumps(Segment(start=0, length=20, shape=(90, 160), landmarks=points[:20]))) == 1


def test_neighbours_with_one_reason_are_merged():
    refused = [
        Segment(start=50, length=5, reason="b"),
        Segment(start=0, length=SAMPLE, reason="57 pixels"),
        Segment(start=SAMPLE, length=SAMPLE, reason="58 pixels"),
        Segment(start=30, length=5, reason="b"),
    ]
    assert [(s.start, s.length) for s in merged(refused)] == [(0, 2 * SAMPLE), (30, 5), (50, 5)]
