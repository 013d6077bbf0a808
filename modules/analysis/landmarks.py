"""Face landmarks of a photo or a clip; refusals say what is wrong (docs/spec/face3d.md#5).

Landmarks are MediaPipe's 478 points as fractions of the picture, x to the right, y down.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from modules.analysis.mediapipe_models import LANDMARKS, FaceFinder, hair_confidence, person_confidence
from modules.face3d.landmark_sets import (
    BRIDGE,
    CHIN,
    EYES,
    FACE_OVAL,
    FOREHEAD,
    LEFT_SIDE,
    LOWER_FACE,
    MOUTH,
    RIGHT_SIDE,
)
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError

MAX_FACES = 5
MIN_FACE_WIDTH = 64  # pixels
SIMILAR_SIZE = 0.6  # of a second face, relative to the largest, that makes the choice the user's
MAX_OUTSIDE = 0.05  # share of landmarks beyond the border of the picture
MAX_ROLL = 60.0  # degrees
MIN_PERSON, MAX_HAIR = 0.6, 0.125  # mean probabilities inside the face oval
MAX_COVER = 13.0  # CIELAB chroma by which cheeks and chin may differ from the bridge of the nose
TILES_A_SIDE = (2, 4)  # tiles of the shorter side when no face is found in the whole picture


def detect(
    picture: np.ndarray, name: str = "the picture", face_index: int | None = None, option: str = "--face"
) -> np.ndarray:
    """Landmarks of the one face of a photo.

    Args:
        picture: [H, W, 3] uint8 RGB.
        name: what messages call it.
        face_index: which face, counted from the left, when there are several; None: the largest, if it
            stands out.
        option: what messages call `face_index`.
    Returns:
        [478, 2] float64, fractions of the picture.
    Raises:
        UserError: no face, several of similar size, cut by the border, too small, lying on its side, not
            human, or covered; or a model file is missing.
    """
    with FaceFinder(MAX_FACES) as finder:
        faces = find_in_tiles(finder, picture)
    landmarks = _choose(faces, picture, name, face_index, option)
    _check_position(landmarks, picture, name)
    _check_looks(landmarks, picture, name)
    return landmarks


def find_faces(picture: np.ndarray, max_faces: int = MAX_FACES) -> np.ndarray:
    """All faces of a picture [H, W, 3] uint8, without the checks of `detect`: [N, 478, 2] fractions, N may be 0."""
    with FaceFinder(max_faces) as finder:
        return finder.find(picture)


def find_in_tiles(finder: FaceFinder, picture: np.ndarray) -> np.ndarray:
    """Faces of the whole picture or, if it seems to have none, of overlapping tiles: [N, 478, 2] fractions.

    The detector misses faces that are lower than a tenth of what it looks at.
    """
    faces = finder.find(picture)
    size = np.array(picture.shape[1::-1], np.float64)
    for count in TILES_A_SIDE:
        side = int(size.min()) // count
        if len(faces) or side < MIN_FACE_WIDTH:
            break
        candidates = []
        for left, top in _tile_corners(picture.shape, side):
            part = finder.find(picture[top : top + side, left : left + side])
            candidates.extend((face * side + (left, top)) / size for face in part)
        faces = _distinct(candidates)
    return faces


def _tile_corners(shape: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    """Left and top of tiles that overlap by half and cover the picture."""
    rows, columns = (
        np.unique(np.append(np.arange(0, length - side, side // 2), length - side)) for length in shape[:2]
    )
    return [(int(left), int(top)) for top in rows for left in columns]


def _distinct(faces: list[np.ndarray]) -> np.ndarray:
    """One of each face that several tiles found: the largest."""
    kept: list[np.ndarray] = []
    for face in sorted(faces, key=lambda points: -float(np.prod(np.ptp(points, axis=0)))):
        near = (np.abs(face.mean(0) - other.mean(0)) < np.ptp(other, axis=0) / 2 for other in kept)
        if not any(both.all() for both in near):
            kept.append(face)
    return np.array(kept, np.float64).reshape(len(kept), LANDMARKS, 2)


def _choose(faces: np.ndarray, picture: np.ndarray, name: str, face_index: int | None, option: str) -> np.ndarray:
    if len(faces) == 0:
        raise UserError(f"no face found in {name}; use a photo whose face is at least {MIN_FACE_WIDTH} pixels wide")
    if face_index is not None:
        if not 0 <= face_index < len(faces):
            raise UserError(
                f"{name} shows {len(faces)} face(s); {option} {face_index} is not one of "
                f"0 (leftmost) to {len(faces) - 1}"
            )
        return faces[np.argsort(faces[:, :, 0].mean(1))[face_index]]
    sizes = np.sqrt(np.prod(np.ptp(faces * picture.shape[1::-1], axis=1), axis=-1))
    similar = int((sizes > SIMILAR_SIZE * sizes.max()).sum())
    if similar > 1:
        raise UserError(
            f"{name} shows {similar} faces of similar size; crop it to one face, "
            f"or choose one with {option} (0 is the leftmost)"
        )
    return faces[int(sizes.argmax())]


def _check_position(landmarks: np.ndarray, picture: np.ndarray, name: str) -> None:
    outside = ((landmarks < 0) | (landmarks > 1)).any(-1).mean()
    if outside > MAX_OUTSIDE:
        raise UserError(f"the face in {name} is cut off by the border; use a photo that shows the whole face")
    points = landmarks * picture.shape[1::-1]
    width = float(np.ptp(points, axis=0).min())
    if width < MIN_FACE_WIDTH:
        raise UserError(
            f"the face in {name} is only {width:.0f} pixels wide; "
            f"use a photo whose face is at least {MIN_FACE_WIDTH} pixels wide"
        )
    up = points[FOREHEAD] - points[CHIN]
    roll = float(np.degrees(np.arctan2(up[0], -up[1])))
    if abs(roll) > MAX_ROLL:
        raise UserError(
            f"the face in {name} lies on its side or is upside down ({roll:.0f} degrees); turn the picture upright"
        )


def _check_looks(landmarks: np.ndarray, picture: np.ndarray, name: str) -> None:
    part, points = _around(landmarks, picture)
    oval = np.zeros(part.shape[:2], np.uint8)
    cv2.fillConvexPoly(oval, cv2.convexHull(np.rint(points[list(FACE_OVAL)]).astype(np.int32)), 1)
    inside = oval.astype(bool)
    person, hair = person_confidence(part)[inside].mean(), hair_confidence(part)[inside].mean()
    if person < MIN_PERSON:
        raise UserError(f"what looks like a face in {name} does not seem to be a person's; use a photo of a person")
    if hair > MAX_HAIR:
        raise UserError(f"the face in {name} is covered by hair, fur or cloth; use a photo that shows the whole face")
    if _cover(part, points) > MAX_COVER:
        raise UserError(
            f"the lower face in {name} is covered (mask, scarf, hand?); use a photo that shows the whole face"
        )


def _around(landmarks: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture within three face sizes, as segmenters see 256 pixels only; the landmarks in its pixels."""
    size = np.array(picture.shape[1::-1])
    points = landmarks * size
    middle, half = (points.min(0) + points.max(0)) / 2, 1.5 * float(np.ptp(points, axis=0).max())
    left, top = np.maximum(middle - half, 0).astype(int)
    right, bottom = np.minimum(middle + half, size).astype(int)
    return np.ascontiguousarray(picture[top:bottom, left:right]), points - (left, top)


def _cover(picture: np.ndarray, points: np.ndarray) -> float:
    """Chroma distance from the bridge of the nose to the most similar of cheeks and chin; 0 if all is grey."""
    radius = max(0.035 * float(np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE])), 1.0)
    chroma = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:]
    rows, columns = np.indices(picture.shape[:2], sparse=True)

    def colour(index: int) -> np.ndarray | None:
        near = np.hypot(columns - points[index, 0], rows - points[index, 1]) <= radius
        return np.median(chroma[near], axis=0) if near.any() else None

    bridge = [c for c in map(colour, BRIDGE) if c is not None]
    lower = [c for c in map(colour, LOWER_FACE) if c is not None]
    if not bridge or not lower:
        return 0.0
    middle = np.median(bridge, axis=0)
    return min(float(np.linalg.norm(other - middle)) for other in lower)


def combine(image: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Steady points from the tracker (`video`), eyes and mouth from single pictures (`image`): [..., 478, 2] each."""
    combined = np.array(video)
    chosen = list(EYES + MOUTH)
    combined[..., chosen, :] = image[..., chosen, :]
    return combined


def detect_clip(
    frames: Iterable[np.ndarray],
    name: str = "the clip",
    step_ms: int = 1000 // FRAME_RATE,
    face_index: int | None = None,
) -> np.ndarray:
    """Landmarks of one face of a clip; holds one frame at a time.

    Every frame passes a single-picture detector and a tracker (`combine`); a frame without a face repeats the
    last landmarks.

    Args:
        frames: uint8 [H, W, 3], 25 a second; their size may change.
        name: what messages call it.
        step_ms: milliseconds between frames that the tracker is given; longer smooths less (official scripts: 80
            and 800).
        face_index: the face to follow, counted from the left of the first frame that shows any; None: the only one.
    Returns:
        [T, 478, 2] float64, fractions of the frame.
    Raises:
        UserError: no frames, no face in the first second, or what `detect` refuses, in the first frame
            with a face.
    """
    rows: list[np.ndarray] = []
    image = video = followed = shape = None
    count, most = 0, 1 if face_index is None else MAX_FACES
    with FaceFinder(most) as finder, FaceFinder(most, track=True) as tracker:
        for count, frame in enumerate(frames, start=1):
            faces, tracked = finder.find(frame), tracker.find(frame, (count - 1) * step_ms)
            if shape is not None and frame.shape != shape:
                tracked = faces  # the tracker looked where the face was in a picture of another shape
            shape = frame.shape
            if image is None and video is None and (len(faces) or len(tracked)):
                followed = detect(frame, name, face_index, "--driving-face")
            if face_index is not None and followed is not None:
                faces, tracked = _same_face(faces, followed), _same_face(tracked, followed)
            image = faces[0] if len(faces) else image
            video = tracked[0] if len(tracked) else video
            if image is not None or video is not None:
                rows.append(combine(video if image is None else image, image if video is None else video))
                followed = rows[-1]
            elif count == FRAME_RATE:
                break
    if not count:
        raise UserError(f"{name} has no frames")
    if not rows:
        raise UserError(
            f"no face found in the first second of {name}; begin it with the face in view, "
            "at least a tenth of the picture high"
        )
    return np.array([rows[0]] * (count - len(rows)) + rows)


def _same_face(faces: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Of faces [N, 478, 2] the one that was at `before` [478, 2] a frame ago: [1, 478, 2], or [0, 478, 2] if none."""
    if not len(faces):
        return faces
    distances = np.abs(faces.mean(1) - before.mean(0)) / np.ptp(before, axis=0)  # in sizes of the face, [N, 2]
    nearest = int(distances.max(1).argmin())
    return faces[nearest : nearest + 1] if distances[nearest].max() < 0.5 else faces[:0]
