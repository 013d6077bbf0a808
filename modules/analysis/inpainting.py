"""Inpainting (paper, HTB-SR): the torso continued upwards behind the head, and the background behind the person.

The torso rule is the one that the released torso model was trained on (docs/spec/data_gen.md#5); its lengths are
pixels of a 512 picture and scale with the picture unless `scale` is given. The background (docs/spec/data_gen.md#6) is
either the original's rule ("nearest": rays behind a person who does not move) or a smooth continuation ("smooth").
"""

from collections.abc import Sequence
from typing import Literal, get_args

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from modules.analysis.segmentation import shows_part
from modules.analysis.segmentation_classes import BODY_SKIN, CLOTHES

BackgroundMethod = Literal["smooth", "nearest"]  # how the scene goes on behind the person (`inpaint_background`)
_REFERENCE_SIZE = 512
CLOTH_ROWS = 9  # rows filled per column, the pixel itself included
NECK_ROWS = 53
NECK_DILATION = 3  # rows up and down
NECK_INSET = 4  # rows that the start lies below the dilated top
FADE = 0.98  # darkening per row
BLUR_KERNEL, BLUR_SIGMA = 5, 4.0
SURE_DISTANCE = 10.0  # pixels from the person beyond which background is trusted


def inpaint_torso(
    picture: np.ndarray, classes: np.ndarray, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The torso without the head, neck and clothes continued upwards.

    Args:
        picture: [H, W, 3] uint8.
        classes: [H, W] uint8, the six classes.
        scale: factor on all lengths; None: longer side / 512; 1 is the official code's at any size.
    Returns:
        Picture [H, W, 3] uint8, 0 outside the torso, and its mask [H, W] bool.
    """
    filled, mask = fill_torso(picture, classes, scale)
    return masked(filled, mask), mask


def fill_torso(picture: np.ndarray, classes: np.ndarray, scale: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """`inpaint_torso` with the background left in the picture (head pixels that are not filled are 0).

    The official "torso with background" is this picture with the mask `mask | (classes == 0)`.

    Args:
        picture, classes, scale: as for `inpaint_torso`.
    Returns:
        Picture [H, W, 3] uint8 and the mask of the torso [H, W] bool.
    """
    scale = max(picture.shape[:2]) / _REFERENCE_SIZE if scale is None else scale
    head = shows_part(classes, "head")
    result = masked(picture, ~head)
    cloth, neck = classes == CLOTHES, _dilate_vertically(classes == BODY_SKIN, _rows(NECK_DILATION, scale))

    rows, columns = _tops_under_head(cloth, head)
    cloth_filled = _fill_upwards(result, picture, rows, columns, CLOTH_ROWS, scale)

    rows, columns = _tops_under_head(neck, head)
    rows = rows + np.minimum(neck.sum(0)[columns] - 1, _rows(NECK_INSET, scale))
    neck_filled = _fill_upwards(result, picture, rows, columns, NECK_ROWS, scale)

    _blur(result, neck_filled, scale)
    return result, neck | cloth | cloth_filled | neck_filled


def masked(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture [H, W, 3] uint8 where `mask` [H, W] is True, else 0."""
    return cv2.bitwise_and(picture, picture, mask=np.ascontiguousarray(mask).view(np.uint8))


def _blur(picture: np.ndarray, where: np.ndarray, scale: float) -> None:
    """Blur a picture [H, W, 3] in place where `where` [H, W] is True, as if all of it were blurred."""
    kernel = 2 * _rows(BLUR_KERNEL // 2, scale) + 1
    left, top, width, height = cv2.boundingRect(where.view(np.uint8))
    rows, columns = (
        slice(max(first - kernel, 0), last + kernel) for first, last in ((top, top + height), (left, left + width))
    )
    part, inside = picture[rows, columns], where[rows, columns]
    if inside.any():
        blurred = cv2.GaussianBlur(
            part, (kernel, kernel), BLUR_SIGMA * scale, borderType=cv2.BORDER_REFLECT_101 | cv2.BORDER_ISOLATED
        )
        cv2.copyTo(blurred, inside.view(np.uint8), part)


def _rows(length: float, scale: float) -> int:
    return max(int(round(length * scale)), 1)


def _dilate_vertically(mask: np.ndarray, rows: int) -> np.ndarray:
    column = np.ones((2 * rows + 1, 1), np.uint8)
    dilated = cv2.dilate(mask.astype(np.uint8), column, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return dilated.astype(bool)


def _tops_under_head(mask: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the topmost pixels of `mask` in their columns that have head right above them."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    part = np.ascontiguousarray(mask[top : top + height, left : left + width].T)
    columns = np.flatnonzero(part.any(1))
    rows = part[columns].argmax(1) + top if len(columns) else columns
    columns += left
    under = (rows > 0) & head[rows - 1, columns]
    return rows[under], columns[under]


def _fill_upwards(
    result: np.ndarray, picture: np.ndarray, rows: np.ndarray, columns: np.ndarray, count: int, scale: float
) -> np.ndarray:
    """Write picture[row, column] * 0.98^j into `result`, j rows above each start; returns what was written.

    At another scale the fade per row is such that the last row is as dark as at 512.
    """
    written = np.zeros(result.shape[:2], bool)
    steps = np.arange(_rows(count, scale))
    targets = rows[:, None] - steps  # [columns, steps]
    colours = (picture[rows, columns][:, None] * (FADE ** (steps / scale))[None, :, None]).astype(np.uint8)
    inside = targets >= 0
    places = (targets * result.shape[1] + columns[:, None])[inside]
    result.reshape(-1, 3)[places] = colours[inside]
    written.reshape(-1)[places] = True
    return written


def inpaint_background(
    frames: Sequence[np.ndarray],
    classes: Sequence[np.ndarray],
    method: BackgroundMethod = "smooth",
    scale: float | None = None,
) -> np.ndarray:
    """The scene without the person, from one picture or a clip of a still camera.

    Args:
        frames: T pictures [H, W, 3] uint8 (an array [T, H, W, 3], or anything indexable that decodes on
            demand).
        classes: T class maps [H, W] uint8.
        method: "smooth" continues the background gently behind the person; "nearest" is the official
            rule: every unseen pixel takes the colour of the nearest trusted one.
        scale: factor on the distance from the person that is trusted; None: longer side / 512.
    Returns:
        [H, W, 3] uint8. Where the person hides everything, the mean colour of the picture's border.
    """
    if method not in get_args(BackgroundMethod):
        raise ValueError(f"method is {method!r}; choose {' or '.join(get_args(BackgroundMethod))}")
    colours, distance = _farthest_colours(frames, classes)
    scale = max(colours.shape[:2]) / _REFERENCE_SIZE if scale is None else scale
    sure = distance > SURE_DISTANCE * scale
    if not sure.any() and distance.any():
        sure = distance >= np.quantile(distance[distance > 0], 0.5)
    if not sure.any():
        border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
        return np.broadcast_to(border.mean(0).round().astype(np.uint8), colours.shape).copy()
    return _nearest_fill(colours, sure) if method == "nearest" else smooth_fill(colours, sure)


def _farthest_colours(frames: Sequence[np.ndarray], classes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel the colour [H, W, 3] of the sampled frame with the farthest person; that distance [H, W]."""
    count = len(frames)
    step = 5 if count < 100 else 20 if count < 10000 else count // 500
    chosen = range(0, count, step) if count > step else (0,)
    colours, best = None, None
    for index in chosen:
        distance = _distance_to(classes[index] != 0)
        if colours is None:
            colours, best = np.array(frames[index]), distance
            continue
        farther = distance > best
        colours[farther] = frames[index][farther]
        best = np.where(farther, distance, best)
    return colours, best


def _distance_to(person: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the nearest pixel of the person; the diagonal if there is no person.

    It is exact, so that equal distances are equal: OpenCV's, where it is Intel's (small pictures, or one thread), is
    off by the last bit, and not the same twice.
    """
    if not person.any():
        return np.full(person.shape, np.hypot(*person.shape), np.float32)
    distance = cv2.distanceTransform((~person).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.sqrt(np.rint(distance.astype(np.float64) ** 2)).astype(np.float32)  # squares are whole numbers


def _nearest_fill(colours: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Every pixel takes the colour of the nearest sure pixel."""
    rows, columns = distance_transform_edt(~sure, return_distances=False, return_indices=True)
    return np.ascontiguousarray(colours[rows, columns])


def smooth_fill(colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue the known pixels into the unknown ones without edges: a harmonic surface from coarse to fine.

    Args:
        colours: [H, W, 3] uint8.
        known: [H, W] bool, at least one True.
    Returns:
        [H, W, 3] uint8, equal to `colours` where known.
    """
    filled = continue_colours(colours.astype(np.float32), known.astype(np.float32))
    return np.where(known[..., None], colours, np.rint(filled).clip(0, 255)).astype(np.uint8)


def continue_colours(colours: np.ndarray, known: np.ndarray, sweeps: int = 60) -> np.ndarray:
    """Push-pull: solve at half the size, enlarge, relax unknown pixels towards their neighbours' mean.

    Args:
        colours: [H, W, 3] float32.
        known: [H, W] float32, 0 where the colours are not known.
        sweeps: relaxations at each size; more are smoother.
    Returns:
        [H, W, 3] float32, equal to `colours` where known.
    """
    height, width = known.shape
    if min(height, width) <= 4 or known.all():
        mean = (colours * known[..., None]).sum((0, 1)) / max(float(known.sum()), 1e-6)
        return np.where(known[..., None] > 0, colours, mean)
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(colours * known[..., None], half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(weight, 1e-6)[..., None]
    coarse = continue_colours(small, (weight > 0).astype(np.float32), sweeps)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    result = np.where(known[..., None] > 0, colours, coarse)
    kernel = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4
    unknown = (known == 0)[..., None]
    for _ in range(sweeps):
        around = cv2.filter2D(result, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        result = np.where(unknown, around, result)
    return result
