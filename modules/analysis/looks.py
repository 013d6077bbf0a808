"""Whether a picture shows all of a person's face: evidence for a mask, a scarf, a hood, fur or hair over it.

Each piece of evidence is weak alone: a fringe is hair inside the face, a beard hides the chin, sunglasses hide the
bridge of the nose. What decides is the mouth, which every visible face shows in another colour than the skin or beard
around it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from modules.analysis.mediapipe_models import hair_confidence, person_confidence
from modules.face3d.landmark_sets import (
    BRIDGE,
    CHIN,
    FACE_OVAL,
    FOREHEAD,
    LEFT_SIDE,
    LIPS,
    LOWER_FACE,
    MIDDLE_FACE,
    RIGHT_SIDE,
)

LOOKED_AT_SIZE = 512  # pixels a side at which a face is looked at, with what is around it
MIN_PERSON = 0.6  # mean probability inside the face oval; portraits have 1.00, dogs 0.3
# CIELAB distance from the lips to a ring around them. Measured on 18 portraits with covers painted over them: uncovered
# 5.6 or more in colour, 4.4 in grey; masks, scarves and balaclavas below 2.6 where they have the colour of skin, else
# below 4.0.
MIN_LIPS, MIN_LIPS_OTHER_COLOUR = 3.0, 5.0
OTHER_COLOUR = 13.0  # CIELAB chroma by which a cover differs from bare skin; uncovered faces: below 8
MAX_HAIR = 0.125  # mean probability of hair inside the face oval where the face has two colours, as of animals
MAX_HAIR_IN_THE_MIDDLE = 0.45  # and from eyes to mouth, whatever the colours; sunglasses and beards: up to 0.21
LIPS_RING = (0.03, 0.1)  # face heights from the lips at which the ring begins and ends


@dataclass(frozen=True)
class Looks:
    """What a face looks like.

    Attributes:
        person, hair: mean probabilities inside the face oval.
        hair_in_the_middle: of hair, between eyes and mouth.
        lips: CIELAB distance between the lips and the ring around them.
        cover: CIELAB chroma distance from the bridge of the nose to the most similar of its tip, cheeks and
            chin; 0 in a grey picture.
    """

    person: float
    hair: float
    hair_in_the_middle: float
    lips: float
    cover: float

    @property
    def min_lips(self) -> float:
        """What `lips` must reach."""
        return MIN_LIPS_OTHER_COLOUR if self.cover > OTHER_COLOUR else MIN_LIPS

    @property
    def is_person(self) -> bool:
        return self.person >= MIN_PERSON

    def complaint(self, name: str) -> str | None:
        """Why the face of the picture `name` cannot be used, with the value and its limit; None if it can."""
        if not self.is_person:
            return (
                f"what looks like a face in {name} does not seem to be a person's "
                f"(probability {self.person:.2f}, limit {MIN_PERSON})"
            )
        if self.lips < self.min_lips:
            return (
                f"the mouth in {name} is covered (mask, scarf, hand?): its colour differs by {self.lips:.1f} "
                f"from what is around it, limit {self.min_lips:g}"
            )
        if self.hair_in_the_middle > MAX_HAIR_IN_THE_MIDDLE:
            return (
                f"the face in {name} is covered by hair or fur (share {self.hair_in_the_middle:.2f}, "
                f"limit {MAX_HAIR_IN_THE_MIDDLE})"
            )
        if self.hair > MAX_HAIR and self.cover > OTHER_COLOUR:
            return (
                f"the face in {name} is covered by hair, fur or cloth (share {self.hair:.2f}, limit {MAX_HAIR}; "
                f"another colour by {self.cover:.0f}, limit {OTHER_COLOUR:g})"
            )
        return None


def measure_looks(picture: np.ndarray, landmarks: np.ndarray) -> Looks:
    """Measure a face.

    Args:
        picture: [H, W, 3] uint8 RGB.
        landmarks: [478, 2], fractions of the picture.
    Raises:
        UserError: a model file is missing.
    """
    part, points = _around(landmarks, picture)
    oval, middle = (_polygon(points[list(names)], part.shape[:2]) for names in (FACE_OVAL, MIDDLE_FACE))
    hair = hair_confidence(part)
    lab = cv2.cvtColor(part.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return Looks(
        person=_mean(person_confidence(part), oval),
        hair=_mean(hair, oval),
        hair_in_the_middle=_mean(hair, middle),
        lips=_lips(lab, points),
        cover=_cover(lab[..., 1:], points),
    )


def _around(landmarks: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture within three face sizes, at most `LOOKED_AT_SIZE` pixels a side; the landmarks in its pixels."""
    size = np.array(picture.shape[1::-1])
    points = landmarks * size
    middle, half = (points.min(0) + points.max(0)) / 2, 1.5 * float(np.ptp(points, axis=0).max())
    left, top = np.maximum(middle - half, 0).astype(int)
    right, bottom = np.minimum(middle + half, size).astype(int)
    part, points = picture[top:bottom, left:right], points - (left, top)
    scale = LOOKED_AT_SIZE / max(part.shape[:2])
    if scale < 1:
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        points = points * scale
    return np.ascontiguousarray(part), points


def _lips(lab: np.ndarray, points: np.ndarray) -> float:
    """CIELAB distance between the lips and the ring around them."""
    lips = _polygon(points[list(LIPS)], lab.shape[:2])
    inner, outer = (_grown(lips, share * float(np.linalg.norm(points[FOREHEAD] - points[CHIN]))) for share in LIPS_RING)
    ring = outer & ~inner
    if not lips.any() or not ring.any():
        return 0.0
    return float(np.linalg.norm(np.median(lab[lips], axis=0) - np.median(lab[ring], axis=0)))


def _cover(chroma: np.ndarray, points: np.ndarray) -> float:
    radius = max(0.035 * float(np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE])), 1.0)
    rows, columns = np.indices(chroma.shape[:2], sparse=True)

    def colours(indices: tuple[int, ...]) -> list[np.ndarray]:
        discs = (np.hypot(columns - points[i, 0], rows - points[i, 1]) <= radius for i in indices)
        return [np.median(chroma[disc], axis=0) for disc in discs if disc.any()]

    bridge, lower = colours(BRIDGE), colours(LOWER_FACE)
    if not bridge or not lower:
        return 0.0
    middle = np.median(bridge, axis=0)
    return min(float(np.linalg.norm(colour - middle)) for colour in lower)


def _mean(values: np.ndarray, mask: np.ndarray) -> float:
    return float(values[mask].mean()) if mask.any() else 0.0


def _polygon(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Convex hull of points [N, 2] (x, y), filled: [H, W] bool."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return mask.astype(bool)


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    size = 2 * max(round(radius), 1) + 1
    return cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))).astype(bool)
