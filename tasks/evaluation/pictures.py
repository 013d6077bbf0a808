"""Kept videos side by side: a contact sheet of all cases, and a video of each."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.system.errors import UserError
from tasks.evaluation.results import video_path

TILE, LABEL = 192, 16  # pixels a side of a picture of the sheet; height of a line of text
VIDEO_TILE = 256  # pixels a side of a picture of the videos
MOMENTS = (0.25, 0.5, 0.75)  # shares of a clip that the sheet shows
MOST_ROWS = 8  # cases of the sheet


def contact_sheet(output: Path, methods: Sequence[str], cases: Sequence[str]) -> Image.Image:
    """Three moments of each case, a row each; a column for every method, black where it has no video."""
    cases = cases[:MOST_ROWS]
    height = LABEL + len(cases) * (LABEL + len(MOMENTS) * TILE)
    sheet = Image.new("RGB", (len(methods) * TILE, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, method in enumerate(methods):
        draw.text((column * TILE + 4, 2), method, fill="black")
    for row, case in enumerate(cases):
        top = LABEL + row * (LABEL + len(MOMENTS) * TILE)
        draw.text((4, top + 2), case, fill="black")
        for column, method in enumerate(methods):
            for number, picture in enumerate(moments(video_path(output, method, case))):
                place = (column * TILE, top + LABEL + number * TILE)
                sheet.paste(Image.fromarray(cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA)), place)
    return sheet


def moments(path: Path) -> list[np.ndarray]:
    """The frames of a video at `MOMENTS`; black ones if it cannot be read."""
    try:
        frames = sum(1 for _ in open_video(path)[1])
        chosen = [int(share * frames) for share in MOMENTS]
        return [frame for number, frame in enumerate(open_video(path)[1]) if number in chosen]
    except UserError:
        return [np.zeros((TILE, TILE, 3), np.uint8)] * len(MOMENTS)


def side_by_side_path(output: Path, case: str) -> Path:
    """The side-by-side video of a case."""
    return output / "side_by_side" / f"{case}.mp4"


def write_side_by_side(output: Path, methods: Sequence[str], case: str) -> None:
    """All methods of a case in one video with the sound of the true clip, names above; not if it is newer than all.

    Raises:
        UserError: it cannot be written.
    """
    present = [method for method in methods if video_path(output, method, case).is_file()]
    paths = [video_path(output, method, case) for method in present]
    target = side_by_side_path(output, case)
    if target.is_file() and target.stat().st_mtime > max(path.stat().st_mtime for path in paths):
        return
    streams = [_tiles(path) for path in paths]
    names = _labels(present)
    sound = read_sound(paths[0], optional=True)
    with VideoWriter(target, (VIDEO_TILE * len(paths), VIDEO_TILE + names.shape[0]), sound=sound) as video:
        for row in zip(*streams, strict=False):
            video.write(np.concatenate([names, np.concatenate(row, axis=1)]))


def _tiles(path: Path) -> Iterator[np.ndarray]:
    frames = islice(open_video(path)[1], None)
    return (cv2.resize(frame, (VIDEO_TILE, VIDEO_TILE), interpolation=cv2.INTER_AREA) for frame in frames)


def _labels(names: Sequence[str]) -> np.ndarray:
    """The names in a white line, each above its picture: uint8 [16, 256 N, 3]."""
    line = Image.new("RGB", (VIDEO_TILE * len(names), LABEL), "white")
    for column, name in enumerate(names):
        ImageDraw.Draw(line).text((column * VIDEO_TILE + 4, 2), name, fill="black")
    return np.array(line)
