"""Six classes for every pixel of a portrait, and the images of its parts (docs/spec/data_gen.md#3 and #4).

Classes: 0 background, 1 hair, 2 body skin (neck), 3 face skin, 4 clothes, 5 others. They come from
MediaPipe's 6-class model where that file is present, otherwise from its person and hair models, the landmarks
and skin colour.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from modules.analysis.crop import Box, crop_picture
from modules.analysis.mediapipe_models import confidences, hair_confidence, person_confidence
from modules.analysis.segmentation_classes import (
    BACKGROUND,
    BODY_SKIN,
    CLOTHES,
    FACE_SKIN,
    HAIR,
    HEAD_CLASSES,
    TORSO_CLASSES,
)
from modules.face3d.landmark_sets import CHIN, FACE_OVAL, FOREHEAD, LEFT_SIDE, RIGHT_SIDE
from modules.system.assets import locate

MULTICLASS_MODEL = "selfie_multiclass_256x256.tflite"
ANALYSIS_SIZE = 512  # pixels a side at which a face's square is divided into classes
PARTS = {
    "head": HEAD_CLASSES,
    "torso": TORSO_CLASSES,
    "person": (*HEAD_CLASSES, *TORSO_CLASSES),
    "torso_with_background": (BACKGROUND, *TORSO_CLASSES),
    "background": (BACKGROUND,),
}
EYES_AND_LIPS = (  # outlines inside the face whose colour is not that of skin
    (33, 160, 158, 133, 153, 144),
    (263, 387, 385, 362, 380, 373),
    (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
)
SAME_TONE = 3.0  # spreads of the face's colour within which skin of the neck lies
THROAT_TONE = 7.0  # spreads within which the throat counts as skin in shadow
ONE_TONE = 0.004  # spread of chromaticity below which a picture is monochrome
DARKEST, BRIGHTEST = 0.3, 1.5  # brightness of the neck relative to the face


def shows_part(classes: np.ndarray, part: str) -> np.ndarray:
    """True where a class map (uint8, any shape) has a class of the part `part` of `PARTS`: bool of the same shape."""
    return np.isin(classes, PARTS[part])


def part_image(picture: np.ndarray, classes: np.ndarray, part: str) -> np.ndarray:
    """The picture [H, W, 3] uint8, black wherever `classes` [H, W] is not of the part `part` of `PARTS`."""
    return np.where(shows_part(classes, part)[..., None], picture, 0).astype(np.uint8)


def segment(picture: np.ndarray, landmarks: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """The class of every pixel of a portrait.

    Args:
        picture: [H, W, 3] uint8 RGB, one face that fills at least a twentieth of it.
        landmarks: [478, 2], fractions of the picture.
        alpha: [H, W] uint8; pixels below 128 are background whatever the models say.
    Returns:
        [H, W] uint8 in 0..5.
    Raises:
        UserError: a model file is missing.
    """
    multiclass: Path | None = locate(MULTICLASS_MODEL)
    if multiclass is not None:
        classes = confidences(picture, MULTICLASS_MODEL).argmax(0).astype(np.uint8)
    else:
        person, hair = person_confidence(picture), hair_confidence(picture)
        classes = classes_from_person_and_hair(picture, landmarks, person, hair)
    if alpha is not None:
        classes[alpha < 128] = BACKGROUND
    return classes


def segment_crop(picture: np.ndarray, box: Box, landmarks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The square `box` of a picture, uint8 [size, size, 3], and its classes (`segment`), uint8 [size, size].

    Classes are computed at `ANALYSIS_SIZE`, whatever `size` is.

    Args:
        picture: [H, W, 3] uint8 RGB.
        box: a square in its pixels.
        landmarks: [478, 2], fractions of the square.
        size: pixels a side of both results.
    """
    classes = segment(crop_picture(picture, box, ANALYSIS_SIZE), landmarks)
    classes = cv2.resize(classes, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return crop_picture(picture, box, size), classes


@dataclass(frozen=True)
class FaceFrame:
    """A face's own axes over the picture, in pixels.

    Attributes:
        across: [H, W], distance to the line from chin to forehead, signed.
        below: [H, W], how far down from the chin; negative above it.
        height, width: chin to forehead, side to side.
        oval: [H, W] bool, the face.
        points: [478, 2], the landmarks.
    """

    across: np.ndarray
    below: np.ndarray
    height: float
    width: float
    oval: np.ndarray
    points: np.ndarray


def face_frame(points: np.ndarray, shape: tuple[int, int]) -> FaceFrame:
    """Axes of the face with landmarks [478, 2] in pixels, over a picture of shape (H, W)."""
    chin, middle = points[CHIN], points[list(FACE_OVAL)].mean(0)
    height = float(np.linalg.norm(points[FOREHEAD] - chin))
    up = (points[FOREHEAD] - chin) / height
    rows, columns = np.indices(shape, dtype=np.float32)
    return FaceFrame(
        across=(rows - middle[1]) * up[0] - (columns - middle[0]) * up[1],
        below=(chin[0] - columns) * up[0] + (chin[1] - rows) * up[1],
        height=height,
        width=float(np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE])),
        oval=_polygon(points[list(FACE_OVAL)], shape),
        points=points,
    )


def classes_from_person_and_hair(
    picture: np.ndarray, landmarks: np.ndarray, person: np.ndarray, hair: np.ndarray
) -> np.ndarray:
    """Classes without the 6-class model.

    Args:
        picture: [H, W, 3] uint8.
        landmarks: [478, 2], fractions of the picture.
        person, hair: [H, W], probabilities in [0, 1].
    Returns:
        [H, W] uint8: 0..4 (hats count as hair or face).
    """
    shape = picture.shape[:2]
    frame = face_frame(landmarks * (shape[1], shape[0]), shape)
    is_person = (person > 0.5) | frame.oval
    is_hair = (hair > 0.5) & is_person
    skull = (_skull(frame) | _ears(frame)) & is_person
    near = (np.abs(frame.across) < 1.6 * frame.width) & (np.abs(frame.below + 0.9 * frame.height) < 2.1 * frame.height)
    long_hair = _touching(is_hair & near, frame.oval | skull)
    fringe = _dilate(long_hair, 0.08 * frame.height) & is_person & (frame.below < -0.05 * frame.height)
    head = frame.oval | skull | long_hair | fringe
    torso, scraps = _torso(is_person & ~head, frame)
    strands = scraps & _dilate(head, 0.08 * frame.height)
    neck = _neck(picture, frame, torso, is_hair)

    classes = np.zeros(shape, np.uint8)
    classes[torso] = CLOTHES
    classes[neck] = BODY_SKIN
    classes[head] = FACE_SKIN
    classes[(head & is_hair) | ((fringe | strands) & ~frame.oval & ~skull)] = HAIR
    return classes


def _skull(frame: FaceFrame) -> np.ndarray:
    """Ellipse that brings in ears, bald scalps and hats, above a line that spares neck and shoulders."""
    middle = -float(np.mean(frame.below[frame.oval]))  # of the oval, above the chin
    ellipse = (frame.across / (0.8 * frame.width)) ** 2 + (
        (frame.below + middle + 0.35 * frame.height) / frame.height
    ) ** 2 < 1
    line = -0.12 * frame.height - 0.35 * frame.height * np.abs(frame.across) / frame.width
    return ellipse & (frame.below < line)


def _ears(frame: FaceFrame) -> np.ndarray:
    """Ellipses outside both sides of the face, for ears that a lifted head shows low."""
    ears = np.zeros(frame.oval.shape, bool)
    for side, other in ((LEFT_SIDE, RIGHT_SIDE), (RIGHT_SIDE, LEFT_SIDE)):
        outwards = (frame.points[side] - frame.points[other]) / frame.width
        column, row = (frame.points[side] + 0.06 * frame.width * outwards).round().astype(int)
        if not (0 <= row < ears.shape[0] and 0 <= column < ears.shape[1]):
            continue
        across, below = frame.across - frame.across[row, column], frame.below - frame.below[row, column]
        ears |= (across / (0.17 * frame.width)) ** 2 + (below / (0.2 * frame.height)) ** 2 < 1
    return ears


def _torso(rest: np.ndarray, frame: FaceFrame) -> tuple[np.ndarray, np.ndarray]:
    """Split the person without the head into the torso and scraps (tiny pieces, or pieces above the chin)."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(rest.astype(np.uint8), connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] > 0.05 * frame.height * frame.width
    low = rest & (frame.below > 0.1 * frame.height)
    low[-1] |= rest[-1] & (frame.below[-1] > -0.2 * frame.height)  # the chin may reach the picture's lower edge
    low = np.isin(np.arange(len(statistics)), np.unique(labels[low]))
    torso = rest & (large & low)[labels]
    return torso, rest & ~torso


def _neck(picture: np.ndarray, frame: FaceFrame, torso: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """The part of the torso below the chin that has the colour of the face or of the throat."""
    width = max(frame.width, 0.85 * frame.height)  # a turned face is narrow, its neck is not
    reach = (
        torso
        & (frame.below < 1.2 * frame.height)
        & (np.abs(frame.across) < 0.55 * width + 0.6 * np.maximum(frame.below - 0.3 * frame.height, 0))
    )
    face = frame.oval & ~hair & (frame.below < -0.35 * frame.height)
    for outline in EYES_AND_LIPS:
        face &= ~_polygon(frame.points[list(outline)], face.shape)
    throat = torso & (np.abs(frame.across) < 0.25 * frame.width) & (np.abs(frame.below) < 0.15 * frame.height)
    smooth = cv2.GaussianBlur(picture, (0, 0), max(frame.height / 60, 0.6))
    skin = reach & ~hair & _same_tone(smooth, face, throat)
    size = frame.height / 40
    skin = _dilate(_erode(skin, size), 2 * size) & reach
    skin = _touching(skin, frame.oval | (throat & _dilate(frame.oval, 0.1 * frame.height)))
    return skin | (reach & _between(frame.oval, skin, 0.4 * frame.height))


def _same_tone(picture: np.ndarray, face: np.ndarray, throat: np.ndarray) -> np.ndarray:
    """Pixels with the chromaticity of the face, or of the throat if that is skin, however shaded: [H, W]."""
    if not face.any():
        return np.zeros(face.shape, bool)
    colours = picture.astype(np.float32) + 4.0
    brightness = colours.sum(-1)
    tone = colours[..., :2] / brightness[..., None]  # [H, W, 2], shares of red and green
    middle = np.median(tone[face], axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(tone[face] - middle), axis=0), 0.008)
    light = brightness / np.median(brightness[face])
    alike = (np.abs(tone - middle) < SAME_TONE * spread).all(-1)
    if throat.any():
        shadow = np.median(tone[throat], axis=0)
        if (np.abs(shadow - middle) < THROAT_TONE * spread).all() and np.median(light[throat]) > DARKEST / 2:
            alike |= (np.abs(tone - shadow) < SAME_TONE * spread).all(-1)
    if np.median(np.abs(tone - np.median(tone, axis=(0, 1)))) < ONE_TONE:
        return alike & (np.abs(light - 1) < 0.35)  # grey or sepia: only brightness tells
    return alike & (light > DARKEST) & (light < BRIGHTEST)


def _between(above: np.ndarray, below: np.ndarray, reach: float) -> np.ndarray:
    """Pixels between `above` and `below` in their column, in gaps of at most `reach` rows."""
    rows = np.arange(above.shape[0])[:, None]
    last = np.maximum.accumulate(np.where(above, rows, -(10**6)), axis=0)
    following = np.minimum.accumulate(np.where(below, rows, 10**6)[::-1], axis=0)[::-1]
    return (following - last) <= reach


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected components of `mask` that touch `seed`."""
    _, labels = cv2.connectedComponents((mask | seed).astype(np.uint8), connectivity=4)
    touched = np.unique(labels[seed])
    return mask & np.isin(labels, touched[touched > 0])


def _polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Convex hull of points [N, 2] (x, y), filled: [H, W] bool."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, np.rint(cv2.convexHull(points.astype(np.float32))).astype(np.int32), 1)
    return mask.astype(bool)


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(int(round(radius)), 1) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disc(radius)).astype(bool)


def _erode(mask: np.ndarray, radius: float) -> np.ndarray:
    return cv2.erode(mask.astype(np.uint8), _disc(radius)).astype(bool)
