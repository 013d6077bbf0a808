"""Face landmarks of a photo or a clip; refusals say what is wrong (docs/spec/face3d.md#5).

Landmarks are MediaPipe's 478 points as fractions of the picture, x to the right, y down.
"""

from collections.abc import Iterable
from contextlib import ExitStack

import numpy as np

from modules.analysis.looks import measure_looks
from modules.analysis.mediapipe_models import LANDMARKS, FaceFinder
from modules.analysis.tracking import METHODS, Find, LandmarkMethod, same_face
from modules.face3d.landmark_sets import CHIN, EYES, FOREHEAD, MOUTH
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError, note

MAX_FACES = 5
MIN_FACE_WIDTH = 64  # pixels
SIMILAR_SIZE = 0.6  # of a second face, relative to the largest, that makes the choice the user's
MAX_OUTSIDE = 0.05  # share of landmarks beyond the border of the picture
MAX_ROLL = 60.0  # degrees
LOOKS, LOOKS_STEP = 5, 5  # frames of a clip that must all look unusable before it is refused, and from one to the next
TILES_A_SIDE = (2, 4)  # tiles of the shorter side when no face is found in the whole picture


def detect(
    picture: np.ndarray, name: str = "the picture", face_index: int | None = None, anyway: bool = False
) -> np.ndarray:
    """Landmarks of the one face of a photo.

    Args:
        picture: [H, W, 3] uint8 RGB.
        name: what messages call it.
        face_index: which face, counted from the left, when there are several; None: the largest, if it
            stands out.
        anyway: a face that is covered or does not seem to be a person's is mentioned, not refused.
    Returns:
        [478, 2] float64, fractions of the picture.
    Raises:
        UserError: no face, several of similar size, cut by the border, too small, lying on its side, not
            human, or covered; or a model file is missing.
    """
    landmarks = _locate(picture, name, face_index)
    _object(measure_looks(picture, landmarks).complaint(name), anyway)
    return landmarks


def _locate(picture: np.ndarray, name: str, face_index: int | None = None, option: str = "--face") -> np.ndarray:
    """`detect` without a look at what the face is."""
    with FaceFinder(MAX_FACES) as finder:
        faces = find_in_tiles(finder, picture)
    landmarks = _choose(faces, picture, name, face_index, option)
    _check_position(landmarks, picture, name)
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


def _object(complaint: str | None, anyway: bool) -> None:
    """Refuse with a complaint, or with `anyway` only mention it."""
    if complaint and not anyway:
        raise UserError(f"{complaint}; use another that shows the whole face, or go on with --anyway")
    if complaint:
        note(f"{complaint}; the result will not look like the person")


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
    anyway: bool = False,
    method: LandmarkMethod = "both",
    find: Find | None = None,
) -> np.ndarray:
    """Landmarks of one face of a clip; holds one frame at a time.

    Every frame passes a detector and a tracker (`combine`); one without a face repeats the last landmarks.

    Args:
        frames: uint8 [H, W, 3], 25 a second; their size may change.
        name: what messages call it.
        step_ms: milliseconds between frames that the tracker is given; longer smooths less (official scripts: 80
            and 800).
        face_index: the face to follow, counted from the left of the first frame that shows any; None: the only one.
        anyway: a face that is covered or does not seem to be a person's is mentioned, not refused.
        method: `corrected` asks the detector in each third frame alone (modules/analysis/tracking.py).
        find: the detector, if the caller has one; None: one is opened.
    Returns:
        [T, 478, 2] float64, fractions of the frame.
    Raises:
        UserError: no frames, no face in the first second, or what `detect` refuses: where the face is in the first
            frame that has one, what it looks like if it does so in several frames.
    """
    rows: list[np.ndarray] = []
    image = video = followed = shape = None
    count, most = 0, 1 if face_index is None else MAX_FACES
    looks = _ClipLooks(name, anyway)
    with ExitStack() as models:
        detect = find or models.enter_context(FaceFinder(most)).find
        both = METHODS[method](detect, models.enter_context(FaceFinder(most, track=True)), step_ms)
        for count, frame in enumerate(frames, start=1):
            faces, tracked = both.find(frame, count - 1, cut=shape is not None and frame.shape != shape)
            shape = frame.shape
            if image is None and video is None and (len(faces) or len(tracked)):
                followed = _locate(frame, name, face_index, "--driving-face")
            if face_index is not None and followed is not None:
                faces, tracked = same_face(faces, followed), same_face(tracked, followed)
            if followed is not None and (len(faces) or not rows):
                looks.see(frame, faces[0] if len(faces) else followed, count - 1)
            image = faces[0] if len(faces) else image
            video = tracked[0] if len(tracked) else video
            if image is not None or video is not None:
                rows.append(combine(video if image is None else image, image if video is None else video))
                followed = rows[-1]
            elif count == FRAME_RATE:
                break
    looks.end()
    if not count:
        raise UserError(f"{name} has no frames")
    if not rows:
        raise UserError(
            f"no face found in the first second of {name}; begin it with the face in view, "
            "at least a tenth of the picture high"
        )
    return both.finish(np.array([rows[0]] * (count - len(rows)) + rows))


class _ClipLooks:
    """Looks at frames of a clip until one shows a whole face; `LOOKS` that do not are an objection."""

    def __init__(self, name: str, anyway: bool) -> None:
        self._name, self._anyway = name, anyway
        self._complaints: list[str] = []
        self._next: int | None = 0  # the frame to look at; None: no more

    def see(self, frame: np.ndarray, landmarks: np.ndarray, number: int) -> None:
        if self._next is None or number < self._next:
            return
        complaint = measure_looks(frame, landmarks).complaint(f"frame {number} of {self._name}")
        if complaint is None:
            self._next, self._complaints = None, []
            return
        self._complaints.append(complaint)
        self._next = number + LOOKS_STEP
        if len(self._complaints) == LOOKS:
            self.end()

    def end(self) -> None:
        """Raise or mention the first objection, if no frame has shown a whole face."""
        self._next = None
        _object(next(iter(self._complaints), None), self._anyway)
        self._complaints = []
