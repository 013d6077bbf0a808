"""Six classes for every pixel of a portrait, and the part images made from them (data_gen.md 3 and 4).

Classes: 0 background, 1 hair, 2 body skin (neck), 3 face skin, 4 clothes, 5 others. They come from MediaPipe's
6-class model where that file is present, otherwise from its person and hair models, the landmarks and skin colour.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from modules.analysis.landmarks import CHIN, FACE_OVAL, FOREHEAD, LEFT_SIDE, RIGHT_SIDE
from modules.analysis.mediapipe_models import confidences, hair_confidence, person_confidence
from modules.assets import locate

MULTICLASS_MODEL = "selfie_multiclass_256x256.tflite"
BACKGROUND, HAIR, BODY, FACE, CLOTHES, OTHERS = range(6)
PARTS = {
    "head": (HAIR, FACE, OTHERS),
    "torso": (BODY, CLOTHES),
    "person": (HAIR, BODY, FACE, CLOTHES, OTHERS),
    "torso_with_background": (BACKGROUND, BODY, CLOTHES),
    "background": (BACKGROUND,),
}
COLOURS = np.array([(255, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 0, 0), (0, 255, 0)], np.uint8)
EYES_AND_LIPS = (            # outlines inside the face whose colour is not that of skin
    (33, 160, 158, 133, 153, 144), (263, 387, 385, 362, 380, 373),
    (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181))
SAME_TONE = 3.0              # spreads of the face's colour within which skin of the neck lies
DARKEST, BRIGHTEST = 0.3, 1.5      # brightness of the neck relative to the face


def part_mask(classes: np.ndarray, part: str) -> np.ndarray:
    """Where a class map (any shape) shows a part of `PARTS`: bool of the same shape."""
    return np.isin(classes, PARTS[part])


def part_image(picture: np.ndarray, classes: np.ndarray, part: str) -> np.ndarray:
    """The picture [H, W, 3] uint8 with everything but a part of `PARTS` black."""
    return np.where(part_mask(classes, part)[..., None], picture, 0).astype(np.uint8)


def class_colours(classes: np.ndarray) -> np.ndarray:
    """Class map [H, W] -> its colour code [H, W, 3] uint8 RGB, as the original stores it."""
    return COLOURS[classes]


def segment(picture: np.ndarray, landmarks: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Classes of a portrait.

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
        classes = classes_from_person_and_hair(picture, landmarks, person_confidence(picture), hair_confidence(picture))
    if alpha is not None:
        classes[alpha < 128] = BACKGROUND
    return classes


@dataclass(frozen=True)
class FaceFrame:
    """A face's own axes: `across` and `up` [H, W] in pixels from the middle of its oval; its height and width."""

    across: np.ndarray
    up: np.ndarray
    height: float
    width: float
    chin: float
    oval: np.ndarray


def face_frame(points: np.ndarray, shape: tuple[int, int]) -> FaceFrame:
    """Axes of the face with landmarks [478, 2] in pixels, over a picture of shape (H, W); `oval` is a bool mask."""
    hull = cv2.convexHull(points[list(FACE_OVAL)].astype(np.float32))
    oval = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(oval, np.rint(hull).astype(np.int32), 1)
    middle = points[list(FACE_OVAL)].mean(0)
    axis = points[FOREHEAD] - points[CHIN]
    height = float(np.linalg.norm(axis))
    axis = axis / height
    rows, columns = np.indices(shape, dtype=np.float32)
    x, y = columns - middle[0], rows - middle[1]
    return FaceFrame(
        across=-x * axis[1] + y * axis[0], up=x * axis[0] + y * axis[1], height=height,
        width=float(np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE])),
        chin=float((points[CHIN] - middle) @ axis), oval=oval.astype(bool))


def classes_from_person_and_hair(picture: np.ndarray, landmarks: np.ndarray, person: np.ndarray,
                                 hair: np.ndarray) -> np.ndarray:
    """Classes without the 6-class model.

    Args:
        picture: [H, W, 3] uint8.
        landmarks: [478, 2], fractions of the picture.
        person, hair: [H, W], probabilities.
    Returns:
        [H, W] uint8: 0..4 (hats count as hair or face).
    """
    shape = picture.shape[:2]
    frame = face_frame(landmarks * (shape[1], shape[0]), shape)
    is_person = (person > 0.5) | frame.oval
    is_hair = (hair > 0.5) & is_person
    skull = _skull(frame) & is_person
    near = (np.abs(frame.across) < 1.6 * frame.width) & (frame.up < 2.2 * frame.height) & (
        frame.up > frame.chin - 1.2 * frame.height)
    long_hair = _touching(is_hair & near, frame.oval | skull)
    head = frame.oval | skull | long_hair
    neck = _neck(picture, landmarks * (shape[1], shape[0]), frame, is_person & ~head, is_hair)

    classes = np.zeros(shape, np.uint8)
    classes[is_person] = CLOTHES
    classes[neck] = BODY
    classes[head] = FACE
    classes[head & is_hair] = HAIR
    return classes


def _skull(frame: FaceFrame) -> np.ndarray:
    """Ellipse that brings in ears, bald scalps and hats, above a line that spares neck and shoulders."""
    ellipse = (frame.across / (0.8 * frame.width)) ** 2 + ((frame.up - 0.35 * frame.height) / frame.height) ** 2 < 1
    above = frame.up > frame.chin + 0.12 * frame.height + 0.35 * frame.height * np.abs(frame.across) / frame.width
    return ellipse & above


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected components of `mask` that touch `seed`."""
    _, labels = cv2.connectedComponents((mask | seed).astype(np.uint8), connectivity=4)
    wanted = np.unique(labels[seed])
    return mask & np.isin(labels, wanted[wanted > 0])


def _neck(picture: np.ndarray, points: np.ndarray, frame: FaceFrame, torso: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """The part of the torso below the chin that has the colour of the face."""
    below = frame.chin - frame.up                                          # pixels below the chin
    reach = torso & (np.abs(frame.across) < 1.1 * frame.width) & (below < 1.2 * frame.height)
    smooth = cv2.GaussianBlur(picture, (0, 0), max(frame.height / 60, 0.6))
    skin = reach & ~hair & _face_tone(smooth, points, frame, hair)
    size = max(int(round(frame.height / 40)), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    skin = cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_OPEN, disc)
    skin = cv2.morphologyEx(skin, cv2.MORPH_CLOSE, disc, iterations=2).astype(bool) & reach
    throat = frame.oval | ((np.abs(frame.across) < 0.35 * frame.width) & (below > -0.2 * frame.height)
                           & (below < 0.15 * frame.height))
    return _touching(skin, throat)


def _face_tone(picture: np.ndarray, points: np.ndarray, frame: FaceFrame, hair: np.ndarray) -> np.ndarray:
    """Pixels of the face's chromaticity, however shaded: [H, W] bool."""
    sample = frame.oval & ~hair & (frame.up < 0.15 * frame.height)
    for outline in EYES_AND_LIPS:
        area = np.zeros(sample.shape, np.uint8)
        cv2.fillConvexPoly(area, cv2.convexHull(np.rint(points[list(outline)]).astype(np.int32)), 1)
        sample &= area == 0
    if not sample.any():
        return np.zeros(sample.shape, bool)
    colours = picture.astype(np.float32) + 4.0
    brightness = colours.sum(-1)
    tone = colours[..., :2] / brightness[..., None]                        # [H, W, 2] shares of red and green
    middle = np.median(tone[sample], axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(tone[sample] - middle), axis=0), 0.008)
    light = brightness / np.median(brightness[sample])
    alike = (np.abs(tone - middle) < SAME_TONE * spread).all(-1)
    return alike & (light > DARKEST) & (light < BRIGHTEST)
