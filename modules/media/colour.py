"""Colours of pictures and video frames, whatever space their file names, as sRGB.

A file names its space by three numbers of ITU-T H.273: primaries, transfer and matrix. What has no number follows the
usual rule: BT.709 from 720 lines, BT.601 below. HDR is tone-mapped: diffuse white (203 cd/m2 in ITU-R BT.2408) becomes
a little less than white, and what is brighter is squeezed into what is left.
"""

from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image, ImageFilter

from modules.system.errors import UserError

BT709, UNSPECIFIED, BT2020, P3_DCI, P3 = 1, 2, 9, 11, 12  # primaries
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18  # transfers
GAMMAS = {4: 2.2, 5: 2.8}  # transfers that are a plain power; the others are shown as sRGB is
MATRICES = {0: 5, 1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # H.273 -> what FFmpeg's scaler knows; 0 is RGB, which needs none
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND  # to gbrp; to rgb24 it darkens by a level or two
HD_LINES, HD_COLUMNS = 720, 1280
DOLBY_VISION = ("DOVI_RPU_BUFFER", "DOVI_METADATA")

WHITE_D65 = (0.3127, 0.3290)
SRGB_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
WIDE_PRIMARIES = {  # of red, green, blue; those of BT.601 differ from sRGB's by a few levels and are shown as these
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    P3_DCI: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
DIFFUSE_WHITE = 203.0  # cd/m2, ITU-R BT.2408
HIGHLIGHTS = 1000.0  # cd/m2 that highlights of HDR are taken to reach; brighter ones are white
KNEE = 0.8  # of diffuse white; darker colours are not changed by tone mapping
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
NODES = 65  # a side of the cube between which colours are interpolated

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def frame_to_rgb(frame: av.VideoFrame, width: int | None = None) -> np.ndarray:
    """A decoded frame as sRGB: uint8 [H, W, 3], in the columns `width` (as many as it has if None).

    Raises:
        UserError: its colours are coded in a way that cannot be undone (Dolby Vision profile 5, ICtCp).
    """
    primaries, transfer, matrix = int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)
    if matrix == UNSPECIFIED:
        is_hd = frame.height >= HD_LINES or frame.width >= HD_COLUMNS
        matrix = BT2020 if primaries == BT2020 else BT709 if is_hd else 5
    undefined = transfer == UNSPECIFIED and any(data.type.name in DOLBY_VISION for data in frame.side_data)
    if matrix not in MATRICES or undefined:
        raise UserError(
            "its colours are those of Dolby Vision or of another HDR system that cannot be read; "
            "save it again as ordinary (SDR) video"
        )
    full = frame.format.name.startswith("yuvj") or int(frame.color_range) == ColorRange.JPEG
    pixels = frame.reformat(
        width=width,
        format="gbrp",
        interpolation=SCALING,
        src_colorspace=MATRICES[matrix],
        dst_colorspace=MATRICES[matrix],
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        threads=1,  # or each reader keeps one for every core of the machine
    ).to_ndarray()
    space = Space.of_codes(primaries, transfer)
    return pixels if space == Space() else np.array(space_to_srgb(Image.fromarray(pixels), space))


@dataclass(frozen=True)
class Space:
    """What the numbers of a picture mean: light = curve(value), of these primaries and this white (CIE x, y).

    Attributes:
        transfer: number in H.273, or None for `gamma`.
        gamma: light is value ** gamma.
    """

    primaries: Primaries = SRGB_PRIMARIES
    white: tuple[float, float] = WHITE_D65
    transfer: int | None = SRGB
    gamma: float = 1.0

    @classmethod
    def of_codes(cls, primaries: int, transfer: int) -> "Space":
        """The space of two numbers of H.273; those that are unknown, or shown as sRGB is, mean sRGB."""
        return cls(
            WIDE_PRIMARIES.get(primaries, SRGB_PRIMARIES),
            transfer=transfer if transfer in (PQ, HLG, LINEAR) else None if transfer in GAMMAS else SRGB,
            gamma=GAMMAS.get(transfer, 1.0),
        )

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    def light(self, values: np.ndarray) -> np.ndarray:
        """[..., 3] in [0, 1] -> light, float64; (diffuse) white is 1."""
        if self.transfer == PQ:  # SMPTE ST 2084
            m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
            root = values ** (1 / m2)
            return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * 10000 / DIFFUSE_WHITE
        if self.transfer == HLG:  # ARIB STD-B67, then the gamma of a display (BT.2100, table 5)
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
            luminance = scene @ _to_xyz(self.primaries, self.white)[1]
            return scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2 * HIGHLIGHTS / DIFFUSE_WHITE
        if self.transfer == SRGB:
            return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return values if self.transfer == LINEAR else values**self.gamma

    def to_srgb(self, values: np.ndarray) -> np.ndarray:
        """[..., 3] in [0, 1] -> sRGB in [0, 1]; what lies outside is clipped, HDR is tone-mapped."""
        light = self.light(values) @ (_XYZ_TO_SRGB @ _adaptation(self.white) @ _to_xyz(self.primaries, self.white)).T
        if self.is_hdr:
            light = _squeezed(light)  # each of red, green and blue, so that very bright colours become paler
        light = np.clip(light, 0, 1)
        return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def space_to_srgb(picture: Image.Image, space: Space) -> Image.Image:
    """An RGB picture of 8 bits whose numbers are those of a space, as sRGB."""
    if space.primaries == SRGB_PRIMARIES and space.white == WHITE_D65 and not space.is_hdr:
        curve = space.to_srgb(np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1))[:, 0]
        return picture.point(np.rint(curve * 255).astype(int).tolist() * 3)
    return picture.filter(_table(space))


@lru_cache(maxsize=8)
def _table(space: Space) -> ImageFilter.Color3DLUT:
    grid = np.linspace(0, 1, NODES)
    blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")  # red changes fastest
    colours = space.to_srgb(np.stack([red, green, blue], axis=-1))
    return ImageFilter.Color3DLUT(NODES, colours.reshape(-1).astype(np.float32))


def _squeezed(light: np.ndarray) -> np.ndarray:
    """Light below `KNEE` as it is; above it a hyperbola of the same slope that reaches 1 at `HIGHLIGHTS`."""
    room, reach = 1 - KNEE, HIGHLIGHTS / DIFFUSE_WHITE - KNEE
    over = np.clip(light - KNEE, 0, reach)
    bend = 1 / room - 1 / reach
    return np.where(light < KNEE, light, KNEE + over / (1 + bend * over))


def _to_xyz(primaries: Primaries, white: tuple[float, float]) -> np.ndarray:
    """[3, 3]: light of red, green and blue -> CIE XYZ, with Y = 1 for white."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _white_xyz(white))


def _white_xyz(white: tuple[float, float]) -> np.ndarray:
    x, y = white
    return np.array((x / y, 1, (1 - x - y) / y))


def _adaptation(white: tuple[float, float]) -> np.ndarray:
    """[3, 3]: XYZ under a white -> XYZ under D65 (Bradford)."""
    ratio = (BRADFORD @ _white_xyz(WHITE_D65)) / (BRADFORD @ _white_xyz(white))
    return np.linalg.inv(BRADFORD) @ np.diag(ratio) @ BRADFORD


_XYZ_TO_SRGB = np.linalg.inv(_to_xyz(SRGB_PRIMARIES, WHITE_D65))
