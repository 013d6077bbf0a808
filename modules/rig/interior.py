"""What lies behind the holes of the face: the photo's own eyes and mouth, and a painted mouth where it shows none."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modules.face3d.landmark_sets import CHIN, INNER_LIP_MIDDLES, LIPS
from modules.rig.config import REFERENCE
from modules.rig.filters import blur, fill, grow, polygon, resized, shrink, soft
from modules.rig.landmark_mesh import LEFT_EYE_RING, MOUTH_RING, RIGHT_EYE_RING

_OUTER_LIPS = LIPS[20:]
_BRIGHT = 0.75  # of what is expected of teeth: as bright must be what a mouth shows to be taken for them
_UNDER_LIPS = 0.04  # of the mouth's width, by which the own interior goes on under the lips
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
class PaintedMouth:
    """Throat, tongue and two arches of teeth in the head's axes, for mouths that the photo does not show.

    Attributes:
        teeth, tongue: [3] colours in [0, 1].
        bite: [3] dm, where the teeth of the head meet; jaw: [3] dm, its chin without expression.
        least_gap: dm between the lips of the photo up to which its own mouth shows nothing that can be used.
    """

    teeth: Tensor
    tongue: Tensor
    bite: Tensor
    jaw: Tensor
    least_gap: float

    @classmethod
    def of_photo(cls, picture: np.ndarray, places: np.ndarray, oval: np.ndarray, neutral: Tensor) -> "PaintedMouth":
        """Teeth as white as the eyes, or as in the photo; the tongue is of the colour of the lips.

        Args:
            picture: [REFERENCE, REFERENCE, 3], 0 to 255; oval: [REFERENCE, REFERENCE] bool, the face.
            places: [478, 2] fractions.
            neutral: [478, 3] dm, landmarks of the head without expression.
        """
        picture = np.asarray(picture, np.float32)
        rings = [polygon(places[list(ring)], REFERENCE) for ring in (RIGHT_EYE_RING, LEFT_EYE_RING)]
        mouth = polygon(places[list(MOUTH_RING)], REFERENCE)
        skin = np.median(picture[oval], axis=0)
        light = float(np.clip(skin.mean() / 150, 0.3, 1.1))
        eyes = picture[rings[0] | rings[1]]
        white = _brightest(eyes if len(eyes) else skin[None], 0.7) + 8
        chroma = 0.6 * white / white.mean() + 0.4 * ((skin + 8) / (skin.mean() + 8)) ** 0.4
        teeth = 205 * light * chroma / chroma.mean()
        within, least_gap = picture[shrink(mouth, 3)], _DARK_GAP
        if len(within) > 150:
            shown = _brightest(within, 0.85)
            if shown.mean() > _BRIGHT * teeth.mean() and shown.min() > 0.65 * shown.max():
                teeth, least_gap = shown, _SHOWN_GAP
        lips = picture[polygon(places[list(_OUTER_LIPS)], REFERENCE) & ~mouth]
        lip = np.median(lips, axis=0) if len(lips) else skin * (0.8, 0.6, 0.6)
        tongue = 0.6 * lip + 0.2 * np.array([150.0, 70.0, 72.0]) * light
        bite = neutral[list(INNER_LIP_MIDDLES)].mean(0) - neutral.new_tensor([0.0, 0.025, 0.0])
        colours = (torch.from_numpy(np.asarray(colour / 255, np.float32)) for colour in (teeth, tongue))
        return cls(*colours, bite=bite, jaw=neutral[CHIN], least_gap=least_gap)

    def paint(self, places: Tensor, chin: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
        """Colours [N, 3] at places of the mouth.

        Args:
            places: [N, 2] dm across and up, in the head's axes.
            chin: [N, 2] dm, how far the chin has moved since the neutral face.
            top, bottom: [N] dm, heights of the upper and lower lip's edges.
        """
        x, y = places.unbind(-1)
        (bite_x, bite_y), gap = self.bite[:2], top - bottom
        low = (top - y) / gap.clamp(min=1e-3)
        lit = _edge(low - 0.45, 0.5) * _arch(x - bite_x, 0.33).sqrt() * ((0.45 + gap).clamp(max=1) - 0.2)
        colour = self.tongue * (0.3 + 1.1 * lit)[:, None]
        lower_arch = 0.6 * _arch(x - bite_x - chin[:, 0], 0.27)
        lower_edge = torch.minimum(bite_y - 0.03 + chin[:, 1], bottom + 0.02)
        colour = self._teeth(colour, _edge(lower_edge - y, 0.03), lower_arch)
        gaps = 1 - 0.12 * torch.exp(-(((((x - bite_x).abs() + 0.0425) % 0.08 - 0.0425).abs() / 0.008) ** 2))
        upper_arch = _arch(x - bite_x, 0.29) * gaps * (0.78 + 0.22 * soft((top - y) / 0.1))
        upper_edge = bite_y + 0.02 * (1 - _arch(x - bite_x, 0.3))
        return self._teeth(colour, _edge(y - upper_edge, 0.02), upper_arch)

    def _teeth(self, colour: Tensor, cover: Tensor, shade: Tensor) -> Tensor:
        cover = (cover * (shade > 0))[:, None]
        return colour + cover * (shade[:, None] * self.teeth - colour)


def _brightest(pixels: np.ndarray, share: float) -> np.ndarray:
    """The mean colour [3] of the brightest of pixels [N, 3], from the quantile `share` on."""
    light = pixels.mean(1)
    return pixels[light >= np.quantile(light, share)].mean(0)


def _edge(x: Tensor, width: float) -> Tensor:
    """0 to 1 around x = 0."""
    return soft(x / width + 0.5)


def _arch(x: Tensor, half: float) -> Tensor:
    """1 in the middle, 0 at +-half and beyond."""
    return (1 - (x / half) ** 2).clamp(min=0).sqrt()
