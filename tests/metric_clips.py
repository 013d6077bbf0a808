"""Clip series of procedural people whose every number is known."""

from modules.face3d.coefficients import pose_points, project
from modules.metrics.series import ClipSeries
from modules.procedural.clips import sample_motion
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person


def series_of(frames: int = 50, size: int = 512, motion_seed: int = 0, person_seed: int = 0) -> ClipSeries:
    """The true landmarks and coefficients of a procedural person who chats, blinks and turns the head."""
    face = sample_motion(motion_seed, frames).replace(identity=sample_person(person_seed).identity[None])
    points = procedural_model().landmarks(face.identity, face.expression, 478)
    seen = project(pose_points(points, face.euler, face.translation))
    return ClipSeries.of(size * seen, size, face)
