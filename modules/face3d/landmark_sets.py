"""Named sets of landmarks: of MediaPipe's 478 points, and of the 68 points in iBUG order.

See docs/spec/face3d.md#5.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# The 68 points, each as the number of the nearest of the 478.
# fmt: off
LANDMARKS_68 = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356, 70, 63, 105, 66, 107,
    336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387,
    263, 373, 380, 61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178)
# fmt: on

# ---- of the 478 (the first 468 are the face, the rest the irises)

# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
    149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
# fmt: on
FOREHEAD, CHIN, LEFT_SIDE, RIGHT_SIDE = 10, 152, 234, 454
BRIDGE = (168, 6, 197)  # of the nose
LOWER_FACE = (4, 50, 280, 205, 425, 200)  # tip of the nose, upper and lower cheeks, chin
MIDDLE_FACE = (117, 346, 205, 425, 168, 4)  # hull from under the eyes to the mouth
# fmt: off
EYES = (
    33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7, 263, 466, 388, 387, 386, 385,
    384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
# fmt: on
UPPER_LIDS = (161, 160, 159, 158, 157, 388, 387, 386, 385, 384)
# fmt: off
LIPS = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,    # inner
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)    # outer
MOUTH = LIPS + (                                      # and between inner and outer
    76, 62, 184, 183, 74, 72, 73, 41, 38, 11, 12, 302, 268, 303, 271, 304, 272, 408, 407, 292, 306,
    325, 307, 319, 320, 403, 404, 316, 315, 15, 16, 86, 85, 179, 180, 89, 90, 96, 77)
# fmt: on
INNER_LIP_MIDDLES, OUTER_LIP_MIDDLES = (13, 14), (0, 17)  # upper, lower
MOUTH_CORNERS = (61, 291)
EYE_CORNERS = (33, 263)  # the outer ones
LID_MIDDLES = ((159, 145), (386, 374))  # upper, lower of either eye

# ---- of the 68

MOUTH_68 = slice(48, 68)
OUTER_LIPS_68 = slice(48, 60)
OUTER_LIP_MIDDLES_68 = (51, 57)
EYE_CORNERS_68 = (36, 45)
LID_PAIRS_68 = ((41, 37), (40, 38), (47, 43), (46, 44))


def landmark_weights(count: int, weights: Iterable[tuple[Iterable[int], float]]) -> Tensor:
    """Weight of each landmark: 1 for all but those of the sets; of two sets that share a point the later counts.

    Args:
        count: L, the number of landmarks.
        weights: (numbers of the landmarks, their weight) for each set.
    Returns:
        [L] float64.
    """
    values = torch.ones(count, dtype=torch.float64)
    for points, weight in weights:
        values[list(points)] = weight
    return values
