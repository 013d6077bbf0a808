"""Six classes for every pixel of a portrait, and the images of its parts (docs/spec/data_gen.md#3 and #4).

Classes: 0 background, 1 hair, 2 body skin (neck), 3 face skin, 4 clothes, 5 others. They come from
MediaPipe's 6-class model where that file is present, otherwise from its person and hair models, the landmarks
and skin colour.
"""

import math
from dataclasses import dataclass

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
LARGE_FACE = 120.0  # pixels from chin to forehead, above which half of the pixels a side show its parts as well
_AROUND = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
_OVERVIEW = 1 / 8  # of a picture's sides, at which it is told whether it is monochrome


def shows_part(classes: np.ndarray, part: str) -> np.ndarray:
    """True where a class map (uint8, any shape) has a class of the part `part` of `PARTS`: bool of the same shape."""
    table = np.isin(np.arange(256), PARTS[part]).view(np.uint8)
    return cv2.LUT(classes.reshape(-1, 1), table).view(bool).reshape(classes.shape)


def part_image(picture: np.ndarray, classes: np.ndarray, part: str) -> np.ndarray:
    """The picture [H, W, 3] uint8, black wherever `classes` [H, W] is not of the part `part` of `PARTS`."""
    return np.where(shows_part(classes, part)[..., None], picture, 0).astype(np.uint8)


def has_multiclass_model() -> bool:
    """Whether MediaPipe's 6-class model is on this machine."""
    return locate(MULTICLASS_MODEL) is not None


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
    if has_multiclass_model():
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
        across: [H, W] float32, distance to the line from chin to forehead, signed.
        below: [H, W] float32, how far down from the chin; negative above it.
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
    rows, columns = np.indices(shape, sparse=True)  # [H, 1], [1, W]
    return FaceFrame(
        across=_sum((rows - middle[1]) * up[0], (middle[0] - columns) * up[1]),
        below=_sum((chin[1] - rows) * up[1], (chin[0] - columns) * up[0]),
        height=height,
        width=float(np.linalg.norm(points[LEFT_SIDE] - points[RIGHT_SIDE])),
        oval=_polygon(points[list(FACE_OVAL)], shape),
        points=points,
    )


def _sum(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[H, 1] + [1, W] -> [H, W] float32."""
    return rows.astype(np.float32) + columns.astype(np.float32)


def classes_from_person_and_hair(
    picture: np.ndarray, landmarks: np.ndarray, person: np.ndarray, hair: np.ndarray
) -> np.ndarray:
    """Classes without the 6-class model; of a large face at half the size, with the outline of the person at the whole.

    Args:
        picture: [H, W, 3] uint8.
        landmarks: [478, 2], fractions of the picture.
        person, hair: [H, W], probabilities in [0, 1].
    Returns:
        [H, W] uint8: 0..4 (hats count as hair or face).
    """
    height, width = picture.shape[:2]
    points = landmarks * (width, height)
    if np.linalg.norm(points[FOREHEAD] - points[CHIN]) < LARGE_FACE:
        return _classes(picture, face_frame(points, (height, width)), person > 0.5, hair > 0.5)
    size = ((width + 1) // 2, (height + 1) // 2)
    small, *halves = (cv2.resize(array, size, interpolation=cv2.INTER_AREA) for array in (picture, person, hair))
    coarse = _classes(small, face_frame(points / 2, small.shape[:2]), *(half > 0.5 for half in halves))
    oval = _polygon(points[list(FACE_OVAL)], (height, width))
    return _refined(coarse, (person > 0.5) | oval, (hair > 0.5) & ~oval)


def _refined(coarse: np.ndarray, person: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Classes [H / 2, W / 2] at twice the size: within the person [H, W] each pixel takes the class of the nearest."""
    height, width = person.shape
    classes = coarse.repeat(2, axis=0)[:height].repeat(2, axis=1)[:, :width] * person.view(np.uint8)
    classes[(classes == FACE_SKIN) & hair] = HAIR
    rows, columns = np.nonzero(person & (classes == BACKGROUND))
    for down, right in _AROUND:  # pixels of the outline
        there = coarse[(rows // 2 + down).clip(0, len(coarse) - 1), (columns // 2 + right).clip(0, coarse.shape[1] - 1)]
        classes[rows, columns] = there
        left = there == BACKGROUND
        rows, columns = rows[left], columns[left]
    return classes


def _classes(picture: np.ndarray, frame: FaceFrame, person: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Classes [H, W] of a picture with masks [H, W] of the person and of hair."""
    is_person = person | frame.oval
    is_hair = hair & is_person
    skull = (_skull(frame) | _ears(frame)) & is_person
    near = (np.abs(frame.across) < 1.6 * frame.width) & (np.abs(frame.below + 0.9 * frame.height) < 2.1 * frame.height)
    long_hair = _touching(is_hair & near, frame.oval | skull)
    fringe = _dilate(long_hair, 0.08 * frame.height) & is_person & (frame.below < -0.05 * frame.height)
    head = frame.oval | skull | long_hair | fringe
    torso, scraps = _torso(is_person & ~head, frame)
    strands = scraps & _dilate(head, 0.08 * frame.height)
    neck = _neck(picture, frame, torso, is_hair)

    classes = np.zeros(person.shape, np.uint8)
    classes[torso] = CLOTHES
    classes[neck] = BODY_SKIN
    classes[head] = FACE_SKIN
    classes[(head & is_hair) | ((fringe | strands) & ~frame.oval & ~skull)] = HAIR
    return classes


def _skull(frame: FaceFrame) -> np.ndarray:
    """Ellipse that brings in ears, bald scalps and hats, above a line that spares neck and shoulders."""
    middle = -float(np.mean(frame.below[frame.oval]))  # of the oval, above the chin
    near = _extent(frame.oval, margin=math.ceil(max(frame.height, 0.8 * frame.width)))
    across, below = frame.across[near], frame.below[near]
    ellipse = (across / (0.8 * frame.width)) ** 2 + ((below + middle + 0.35 * frame.height) / frame.height) ** 2 < 1
    line = -0.12 * frame.height - 0.35 * frame.height * np.abs(across) / frame.width
    skull = np.zeros(frame.oval.shape, bool)
    skull[near] = ellipse & (below < line)
    return skull


def _ears(frame: FaceFrame) -> np.ndarray:
    """Ellipses outside both sides of the face, for ears that a lifted head shows low."""
    ears = np.zeros(frame.oval.shape, bool)
    for side, other in ((LEFT_SIDE, RIGHT_SIDE), (RIGHT_SIDE, LEFT_SIDE)):
        outwards = (frame.points[side] - frame.points[other]) / frame.width
        column, row = (frame.points[side] + 0.06 * frame.width * outwards).round().astype(int)
        if not (0 <= row < ears.shape[0] and 0 <= column < ears.shape[1]):
            continue
        reach = math.ceil(0.2 * max(frame.width, frame.height))
        part = (slice(max(row - reach, 0), row + reach + 1), slice(max(column - reach, 0), column + reach + 1))
        across, below = (axis[part] - axis[row, column] for axis in (frame.across, frame.below))
        ears[part] |= (across / (0.17 * frame.width)) ** 2 + (below / (0.2 * frame.height)) ** 2 < 1
    return ears


def _torso(rest: np.ndarray, frame: FaceFrame) -> tuple[np.ndarray, np.ndarray]:
    """Split the person without the head into the torso and scraps (tiny pieces, or pieces above the chin)."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(rest.astype(np.uint8), connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] > 0.05 * frame.height * frame.width
    low = rest & (frame.below > 0.1 * frame.height)
    low[-1] |= rest[-1] & (frame.below[-1] > -0.2 * frame.height)  # the chin may reach the picture's lower edge
    low = _labels_in(labels, low, len(statistics))
    torso = rest & (large & low)[labels]
    return torso, rest & ~torso


def _neck(picture: np.ndarray, frame: FaceFrame, torso: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """The part of the torso below the chin that has the colour of the face or of the throat."""
    reach = _neck_reach(torso, frame)
    face = frame.oval & ~hair & (frame.below < -0.35 * frame.height)
    for outline in EYES_AND_LIPS:
        face &= ~_polygon(frame.points[list(outline)], face.shape)
    throat = torso & (np.abs(frame.across) < 0.25 * frame.width) & (np.abs(frame.below) < 0.15 * frame.height)
    skin = _same_tone(picture, reach & ~hair, face, throat, max(frame.height / 60, 0.6))
    size = frame.height / 40
    skin = _dilate(_erode(skin, size), 2 * size) & reach
    skin = _touching(skin, frame.oval | (throat & _dilate(frame.oval, 0.1 * frame.height)))
    return skin | (reach & _between(frame.oval, skin, 0.4 * frame.height))


def _neck_reach(torso: np.ndarray, frame: FaceFrame) -> np.ndarray:
    """Where the neck may be: the torso below the chin, wider farther down; [H, W] bool."""
    width = max(frame.width, 0.85 * frame.height)  # a turned face is narrow, its neck is not
    reach = torso & (frame.below < 1.2 * frame.height)
    if reach.any():
        part = _extent(reach, margin=0)
        sides = 0.55 * width + 0.6 * np.maximum(frame.below[part] - 0.3 * frame.height, 0)
        reach[part] &= np.abs(frame.across[part]) < sides
    return reach


def _same_tone(picture: np.ndarray, where: np.ndarray, face: np.ndarray, throat: np.ndarray, blur: float) -> np.ndarray:
    """Pixels of `where` with the chromaticity of the face, or of the throat if that is skin, however shaded: [H, W].

    `blur`: sigma in pixels of what is smoothed away before.
    """
    result = np.zeros(face.shape, bool)
    if not face.any() or not where.any():
        return result
    rows, columns = _extent(face | where | throat, margin=int(4 * blur) + 1)  # more than the kernel's radius
    smooth = cv2.GaussianBlur(picture[rows, columns], (0, 0), blur)
    tone, brightness = _tones(smooth, where[rows, columns])
    face_tone, face_brightness = _tones(smooth, face[rows, columns])
    middle, usual = np.median(face_tone, axis=0), np.median(face_brightness)
    spread = np.maximum(1.4826 * np.median(np.abs(face_tone - middle), axis=0), 0.008)
    light = brightness / usual
    alike = _near(tone, middle, SAME_TONE * spread)
    if throat.any():
        shadow, dark = (np.median(values, axis=0) for values in _tones(smooth, throat[rows, columns]))
        if (np.abs(shadow - middle) < THROAT_TONE * spread).all() and dark / usual > DARKEST / 2:
            alike |= _near(tone, shadow, SAME_TONE * spread)
    if _is_one_tone(picture):
        alike &= np.abs(light - 1) < 0.35  # grey or sepia: only brightness tells
    else:
        alike &= (light > DARKEST) & (light < BRIGHTEST)
    result[where] = alike
    return result


def _tones(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of red and green [N, 2], and brightness [N], of the N pixels of [H, W, 3] uint8 where the mask is True."""
    pixels = picture.reshape(-1, 3)[np.flatnonzero(mask)]
    red, green, blue = pixels.T.astype(np.float32) + 4.0
    brightness = red + green + blue
    return np.stack([red / brightness, green / brightness], axis=1), brightness


def _near(tone: np.ndarray, middle: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Which of [N, 2] are within `reach` [2] of `middle` [2]."""
    red, green = (np.abs(tone[:, i] - middle[i]) < reach[i] for i in (0, 1))
    return red & green


def _is_one_tone(picture: np.ndarray) -> bool:
    """Whether a picture is grey or sepia."""
    small = cv2.resize(picture, None, fx=_OVERVIEW, fy=_OVERVIEW, interpolation=cv2.INTER_AREA)
    tone, _ = _tones(small, np.ones(small.shape[:2], bool))
    return bool(np.median(np.abs(tone - np.median(tone, axis=0))) < ONE_TONE)


def _extent(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the True pixels of a mask, which has some, and `margin` pixels around them."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (
        slice(max(top - margin, 0), top + height + margin),
        slice(max(left - margin, 0), left + width + margin),
    )


def _between(above: np.ndarray, below: np.ndarray, reach: float) -> np.ndarray:
    """Pixels between `above` and `below` in their column, in gaps of at most `reach` rows."""
    result = np.zeros(above.shape, bool)
    if not above.any():
        return result
    part = (slice(None), _extent(above, margin=0)[1])
    rows = np.arange(len(above), dtype=np.float32)[:, None]
    last = np.maximum.accumulate(np.where(above[part], rows, -np.float32(np.inf)), axis=0)
    following = np.minimum.accumulate(np.where(below[part], rows, np.float32(np.inf))[::-1], axis=0)[::-1]
    result[part] = following - last <= reach
    return result


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected components of `mask` that touch `seed`."""
    either = mask | seed
    result = np.zeros_like(mask)
    part = _extent(either, margin=0)
    count, labels = cv2.connectedComponents(either[part].view(np.uint8), connectivity=4)
    result[part] = mask[part] & _labels_in(labels, seed[part], count)[labels]
    return result


def _labels_in(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` labels are in [H, W] where the mask is True, but not 0: [count] bool."""
    found = np.zeros(count, bool)
    found[labels[mask]] = True
    found[0] = False
    return found


def _polygon(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Convex hull of points [N, 2] (x, y), filled: [H, W] bool."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, np.rint(cv2.convexHull(points.astype(np.float32))).astype(np.int32), 1)
    return mask.astype(bool)


def _dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within `radius`, rounded to whole pixels, of the mask's; by distance, as large discs are slow kernels."""
    if not mask.any():
        return np.zeros_like(mask)
    around = max(round(radius), 1) + 0.5
    part = _extent(mask, margin=math.ceil(around))
    result = np.zeros_like(mask)
    result[part] = _distance_to(mask[part]) < around
    return result


def _erode(mask: np.ndarray, radius: float) -> np.ndarray:
    """Pixels of the mask that are farther than `radius`, rounded to whole pixels, from all others."""
    if mask.all() or not mask.any():
        return mask.copy()
    result = np.zeros_like(mask)
    part = _extent(mask, margin=1)
    result[part] = _distance_to(~mask[part]) > max(round(radius), 1) + 0.5
    return result


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest True one, [H, W] float32."""
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
