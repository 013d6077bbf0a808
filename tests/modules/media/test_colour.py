from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from modules.media.colour import BT2020, HLG, P3, PQ, UNSPECIFIED, Space, frame_to_rgb, space_to_srgb
from modules.media.video_reader import open_video
from modules.system.errors import UserError
from tests.conftest import SHARED

LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue
COLOURS = np.array([(200, 60, 40), (30, 160, 70), (50, 60, 190), (128, 128, 128), (250, 250, 250), (210, 160, 130)])


def coded(colours: np.ndarray, matrix: int, full: bool = False) -> np.ndarray:
    """RGB [N, 3] of 8 bits -> Y, Cb, Cr [N, 3] of 10 bits, as BT.601, BT.709 and BT.2020 write it."""
    red, blue = LUMA[matrix]
    r, g, b = (colours / 255).T
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    scale = (1023, 0, 1023) if full else (876, 64, 896)
    return np.rint(np.stack([y * scale[0] + scale[1], cb * scale[2] + 512, cr * scale[2] + 512], axis=-1))


def frame(yuv: np.ndarray, lines: int = 48) -> av.VideoFrame:
    """Six stripes of the colours [6, 3], 10 bits, 4:4:4, `lines` high."""
    stripes = np.repeat(yuv, 16, axis=0).astype(np.uint16)  # [96, 3]
    made = av.VideoFrame(96, lines, "yuv444p10le")
    for plane, values in zip(made.planes, stripes.T, strict=True):
        rows = np.zeros((lines, plane.line_size // 2), np.uint16)
        rows[:, :96] = values
        plane.update(rows.tobytes())
    return made


def stripes(rgb: np.ndarray) -> np.ndarray:
    return rgb[rgb.shape[0] // 2, 8::16].astype(int)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [False, True])
def test_matrix_and_range_are_those_of_the_file(matrix: int, full: bool):
    made = frame(coded(COLOURS, matrix, full))
    made.colorspace, made.color_range = matrix, 2 if full else 1
    assert_allclose(stripes(frame_to_rgb(made)), COLOURS, atol=1)


@pytest.mark.parametrize("lines, matrix", [(480, 5), (720, 1)])
def test_what_is_not_said_follows_the_number_of_lines(lines: int, matrix: int):
    made = frame(coded(COLOURS, matrix), lines)
    assert int(made.colorspace) == UNSPECIFIED
    assert_allclose(stripes(frame_to_rgb(made)), COLOURS, atol=1)


def test_a_frame_is_stretched_to_the_width_that_is_asked_for():
    assert frame_to_rgb(frame(coded(COLOURS, 5)), width=192).shape == (48, 192, 3)


def hlg_signal(nits: float) -> float:
    """BT.2100 for grey on a display of 1000 cd/m2."""
    scene = (nits / 1000) ** (1 / 1.2)
    return (3 * scene) ** 0.5 if scene <= 1 / 12 else 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073


def pq_signal(nits: float) -> float:
    power = (nits / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


@pytest.mark.parametrize("transfer, signal", [(HLG, hlg_signal), (PQ, pq_signal)])
def test_grey_of_hdr_is_shown_relative_to_its_diffuse_white(transfer: int, signal):
    nits = np.array([2.0, 20.0, 100.0, 203.0, 500.0, 1000.0])
    made = frame(coded(np.repeat([[signal(n) * 255] for n in nits], 3, axis=1), 9))
    made.colorspace, made.color_range, made.color_primaries, made.color_trc = 9, 1, BT2020, transfer
    shown = stripes(frame_to_rgb(made))[:, 0]
    light = nits[:3] / 203  # what is darker than the knee is as bright as in SDR
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert_allclose(shown[:3], expected, atol=3)
    assert 225 < shown[3] < shown[4] < shown[5] and shown[5] >= 254


def test_an_hdr_clip_of_a_phone_looks_as_its_sdr_twin():
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}; set REAL3D_SHARED")
    means, saturations = [], []
    for name in ("iphone_hlg.mov", "iphone_hlg_as_sdr.mp4"):
        frames = np.array(list(open_video(folder / name)[1]), np.float32)
        means.append(frames.mean((0, 1, 2)))
        saturations.append(((frames.max(-1) - frames.min(-1)) / np.maximum(frames.max(-1), 1)).mean())
    assert_allclose(means[0], means[1], atol=4)  # measured: 1
    assert_allclose(saturations[0], saturations[1], atol=0.015)  # measured: 0.003


def test_wide_primaries_reach_srgb_and_greys_stay():
    picture = Image.fromarray(np.array([[(128, 128, 128), (200, 120, 90)]], np.uint8))
    for primaries in (P3, BT2020):
        grey, skin = np.array(space_to_srgb(picture, Space.of_codes(primaries, 1)))[0].astype(int)
        assert_allclose(grey, 128, atol=1)
        assert skin[0] > 204 and skin[2] < 88
    assert Space.of_codes(1, 1) == Space.of_codes(UNSPECIFIED, UNSPECIFIED) == Space()


def test_what_cannot_be_undone_is_refused_with_the_reason():
    made = frame(coded(COLOURS, 1))
    made.colorspace = 14  # ICtCp
    with pytest.raises(UserError, match="HDR"):
        frame_to_rgb(made)


def test_a_clip_of_tagged_601_comes_back(tmp_path: Path):
    path = tmp_path / "601.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 720, "yuv444p10le"
        stream.codec_context.colorspace, stream.codec_context.color_range = 5, 2
        made = frame(coded(COLOURS, 5, full=True), 720)
        made.colorspace, made.color_range = 5, 2
        container.mux(stream.encode(made))
        container.mux(stream.encode())
    assert_allclose(stripes(next(open_video(path)[1])), COLOURS, atol=2)
