"""What lies behind the holes of the face: the photo's own eyes and mouth, and a painted mouth where it shows none."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.face3d.landmark_sets import INNER_LIP_MIDDLES, LIPS
from modules.rig.config import REFERENCE
from modules.rig.filters import blur, fill, grow, look_up, polygon, resized, shrink, soft
from modules.rig.landmark_mesh import LEFT_EYE_RING, MOUTH_RING, RIGHT_EYE_RING
from modules.rig.teeth import ABOVE, HALF_WIDTH, PICTURE_ROWS, PIXELS, TEXEL, picture_of

_OUTER_LIPS = LIPS[20:]
_BRIGHT = 0.75  # of what is expected of teeth: as bright must be what a mouth shows to be taken for them
_UNDER_LIPS = 0.04  # of the mouth's width, by which the own interior goes on under the lips
# The rest was settled with clips of real people in view.
_EDGE_UNDER_LIPS = 0.015  # dm below the line where lips meet, the edge of the upper teeth
_OVERBITE = 0.015  # dm by which it covers the lower ones
_LOWER_SHOWN = 0.05  # dm of the lower teeth that stand above the lip at most,
_WIDE, _LESS_SHOWN = 0.15, 0.1  # and by how much less for each dm that the lips are wider apart than this
_BACK, _DARKER = 0.7, 0.55  # of the tongue's light that the back has behind shut lips, and how much less each dm apart
_REACH, _LIT_BELOW = 0.035, 0.02  # dm, how far the shade of the upper lip reaches, and how much less the lower one's
_LIP_SHADE, _CHEEK_SHADE = 0.22, 0.65  # of the light that is lost at the lips, at the corners
_GUMS = 0.85  # of the lips' light is the gums'
_TEETH, _SKIN_LIGHT = 220, 155  # of 255, teeth and skin in usual light
_ADAPTED = 0.4  # power of the skin's light that teeth have: skin is darker for two reasons, its colour and the light
_SKIN, _TOOTH = np.array([1.3, 1.0, 0.85]), np.array([1.12, 1.0, 0.86])  # colours in white light
_SHOWN_GAP, _DARK_GAP = 0.02, 0.07  # dm, `PaintedMouth.least_gap` of mouths that show teeth, and that do not


def eyes_texture(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The eyes of the photo, continued outwards under the lids.

    Args:
        picture: [S, S, 3] uint8; places: [478, 2] fractions.
    Returns:
        [S, S, 3] float32 in [0, 1].
    """
    rings = [polygon(places[list(ring)], REFERENCE) for ring in (RIGHT_EYE_RING, LEFT_EYE_RING)]
    return _outwards(picture, shrink(rings[0] | rings[1], 3))


def _outwards(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A picture uint8 [S, S, 3] continued from where `known` [REFERENCE, REFERENCE] is: float32 in [0, 1]."""
    size = len(picture)
    if not known.any():
        return picture.astype(np.float32) / 255
    outwards = resized(fill(resized(picture, REFERENCE), known), size)
    own = resized(known.astype(np.float32), size)[..., None]
    return ((own * picture + (1 - own) * outwards) / 255).astype(np.float32)


def without_holes(colours: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A photo in whose eyes the colours of the lids go on, and in whose mouth those of the lips: where lids or lips
    meet nothing shines through.

    Args:
        colours: [S, S, 3], 0 to 255; places: [478, 2] fractions.
    Returns:
        [S, S, 3] float32.
    """
    right, left, mouth = (
        polygon(places[list(ring)], REFERENCE) for ring in (RIGHT_EYE_RING, LEFT_EYE_RING, MOUTH_RING)
    )
    holes = shrink(right | left, 3) | mouth
    inwards = resized(fill(resized(colours, REFERENCE), ~(holes | grow(mouth, 3))), len(colours))
    inside = resized(holes.astype(np.float32), len(colours))[..., None]
    return (inside * inwards + (1 - inside) * colours).astype(np.float32)


def opening_texture(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What the photo's open mouth shows, continued outwards under the lips.

    Args:
        picture: [S, S, 3] uint8; places: [478, 2] fractions.
    Returns:
        [S, S, 4] float32 in [0, 1], colours and how far they are to be used: 1 in the opening and a little beyond.
    """
    ring = places[list(MOUTH_RING)]
    mouth = polygon(ring, REFERENCE)
    reach = _UNDER_LIPS * float(np.ptp(ring[:, 0])) * REFERENCE
    share = blur(grow(mouth, 2 * round(reach) + 1), max(reach / 2, 0.8))
    colours = _outwards(picture, shrink(mouth, 3))
    return np.concatenate([colours, resized(share, len(picture))[..., None]], axis=2).astype(np.float32)


@dataclass(frozen=True)
class Opening:
    """The mouths of B frames, dm in the head's axes.

    Attributes:
        chin: [B, 2], how far the chin has moved since the neutral face.
        right, left: [B, 2], corners of the mouth.
        lips: [B, 2], heights of the middle of the upper and of the lower lip's edge.
    """

    chin: Tensor
    right: Tensor
    left: Tensor
    lips: Tensor

    def rims(self) -> Tensor:
        """Parabolas through corners and middles of the lips: [7, B], the middle of the mouth and one over half its
        width; how far the left corner is higher than the middle between both; for the upper and for the lower lip the
        height in the middle, and how far it is below the middle between the corners."""
        middle, half = ((self.left + self.right) / 2).T, ((self.left - self.right) / 2).T
        top, bottom = self.lips.T
        across = 1 / half[0].clamp(min=1e-3)
        return torch.stack([middle[0], across, half[1], top, middle[1] - top, bottom, middle[1] - bottom])


@dataclass(frozen=True)
class PaintedMouth:
    """Throat, tongue and two arches of teeth in the head's axes, for mouths that the photo does not show.

    Attributes:
        teeth, tongue: [3] colours in [0, 1].
        rows: [L, H, W, 4], pictures of the teeth and the tongue, see `picture_of`.
        bite: [3] dm, the edge of the upper teeth in the middle.
        least_gap: dm between the lips of the photo up to which its own mouth shows nothing that can be used.
    """

    teeth: Tensor
    tongue: Tensor
    rows: Tensor
    bite: Tensor
    least_gap: float

    @classmethod
    def of_photo(cls, picture: np.ndarray, places: np.ndarray, oval: np.ndarray, neutral: Tensor) -> "PaintedMouth":
        """Teeth as in the photo, or of the light of the eyes and the skin; the tongue is of the colour of the lips.

        Args:
            picture: [REFERENCE, REFERENCE, 3], 0 to 255; oval: [REFERENCE, REFERENCE] bool, the face.
            places: [478, 2] fractions.
            neutral: [478, 3] dm, landmarks of the head without expression.
        """
        picture = np.asarray(picture, np.float32)
        mouth = polygon(places[list(MOUTH_RING)], REFERENCE)
        skin = np.median(picture[oval], axis=0)
        teeth, least_gap = _expected_teeth(picture, places, oval), _DARK_GAP
        within = picture[shrink(mouth, 3)]
        if len(within) > 150:
            shown = _brightest(within, 0.85)
            if shown.mean() > _BRIGHT * teeth.mean() and shown.min() > 0.65 * shown.max():
                teeth, least_gap = shown, _SHOWN_GAP
        lips = picture[polygon(places[list(_OUTER_LIPS)], REFERENCE) & ~mouth]
        lip = np.median(lips, axis=0) if len(lips) else skin * (0.8, 0.6, 0.6)
        teeth, lip = teeth / 255, lip / 255
        bite = neutral[list(INNER_LIP_MIDDLES)].mean(0) - neutral.new_tensor([0.0, _EDGE_UNDER_LIPS, 0.0])
        parts = (teeth, lip, picture_of(teeth, _GUMS * lip, lip))
        tensors = (torch.from_numpy(np.asarray(part, np.float32)) for part in parts)
        return cls(*tensors, bite=bite, least_gap=least_gap)

    def paint(self, places: Tensor, frames: Tensor, opening: Opening, pixel: float) -> Tensor:
        """Colours [N, 3] at places of the mouth.

        Args:
            places: [N, 2] dm across and up, in the head's axes.
            frames: [N], to which of those of `opening` each belongs.
            pixel: dm a pixel of the frame at the mouth.
        """
        level = min(range(len(PIXELS)), key=lambda k: abs(math.log(PIXELS[k] / pixel)))
        chin, bite, bottom = opening.chin, self.bite[:2], opening.lips[:, 1] - self.bite[1]
        gap = (opening.lips[:, 0] - opening.lips[:, 1]).clamp(0, 0.5)
        shown = _LOWER_SHOWN - _LESS_SHOWN * (gap - _WIDE).clamp(min=0)
        edge = torch.minimum(chin[:, 1].clamp(max=0) - _OVERBITE, bottom + shown)
        of_frame = torch.stack([-chin[:, 0] / TEXEL, edge / TEXEL + PICTURE_ROWS, _BACK - _DARKER * gap])
        of_pixel = torch.cat([of_frame, opening.rims()]).index_select(1, frames)
        places = places.T.contiguous()
        corner = (bite + bite.new_tensor([-HALF_WIDTH, ABOVE]))[:, None]
        texels = (places - corner) * bite.new_tensor([[1 / TEXEL], [-1 / TEXEL]])
        lower = (places[1] < self.bite[1] - pixel).to(places.dtype)
        seen = look_up(self.rows[level], torch.addcmul(texels, lower, of_pixel[:2]).T)
        back = of_pixel[2] * (1 - seen[:, 3])
        return torch.addcmul(seen[:, :3], back[:, None], self.tongue) * _shade(*places, of_pixel[3:])[:, None]


def _shade(x: Tensor, y: Tensor, rims: Tensor) -> Tensor:
    """Light [N] in [0, 1] that lips and cheeks leave at places [N] dm, `rims` [7, N] as of `Opening`."""
    middle, across, rise, top, top_bend, bottom, bottom_bend = rims
    aside = (x - middle) * across
    square = aside * aside
    height = y - rise * aside
    under = torch.addcmul(top, square, top_bend) - height
    above = height - torch.addcmul(bottom, square, bottom_bend)
    near = soft(torch.minimum(under, above + _LIT_BELOW) / _REACH)
    square = square.clamp(max=1)
    return (near * _LIP_SHADE + (1 - _LIP_SHADE)) * (1 - _CHEEK_SHADE * (square * square))


def _expected_teeth(picture: np.ndarray, places: np.ndarray, oval: np.ndarray) -> np.ndarray:
    """The colour [3], 0 to 255, that teeth have in the light of the photo; never brighter than all else of the face."""
    rings = [polygon(places[list(ring)], REFERENCE) for ring in (RIGHT_EYE_RING, LEFT_EYE_RING)]
    skin = np.median(picture[oval], axis=0) + 4
    eyes = picture[rings[0] | rings[1]]
    white = _brightest(eyes if len(eyes) else skin[None], 0.92) + 4
    by_skin = skin / _SKIN * _TOOTH
    chroma = white / white.mean() + by_skin / by_skin.mean()
    brightest = max(_brightest(picture[oval], 0.995).mean(), white.mean())
    light = min(_TEETH * (skin.mean() / _SKIN_LIGHT) ** _ADAPTED, brightest)
    return np.minimum(light * chroma / chroma.mean(), 255)


def _brightest(pixels: np.ndarray, share: float) -> np.ndarray:
    """The mean colour [3] of the brightest of pixels [N, 3], from the quantile `share` on."""
    light = pixels.mean(1)
    return pixels[light >= np.quantile(light, share)].mean(0)
