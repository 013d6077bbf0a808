"""Write frames as pictures, with Pillow: an animation (.gif, .webp), a folder of PNGs, or a single still.

They are written as `VideoWriter` writes videos: whole or not at all, and saying that they are synthetic.
"""

import os
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from modules.media.audio import Sound
from modules.media.content_credentials import Seal
from modules.media.endings import ANIMATIONS, LONGEST_ANIMATION, STILLS
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import PROVENANCE, VideoWriter
from modules.system.errors import UserError
from modules.system.files import named_file

_DURATION = 1000 // FRAME_RATE  # milliseconds of a frame
_DESCRIPTION = 0x010E  # the EXIF tag ImageDescription
_WEBP_QUALITY, _JPEG_QUALITY = 80, 95
_PALETTE_FRAMES = 16  # from which the colours of a .gif are taken


class PictureWriter:
    """Takes frames one by one in a `with` block; what it writes appears at the end of it, unless an error ends it.

    Args:
        path: .gif or .webp: an animation that repeats, at most `LONGEST_ANIMATION` long; .png or .jpg: the last frame
            that is written; no ending: a folder of 00000.png and so on, which must be new or empty.
        seal: signs each file before it appears; None: nobody does.
    Attributes:
        note: None; as of `VideoWriter`.
    Raises:
        UserError: the folder is not empty, or something cannot be written.
    """

    note: str | None = None

    def __init__(self, path: Path, seal: Seal | None = None) -> None:
        self._path, self._seal, self._frames = path, seal, 0
        self._kept: list[Image.Image] = []
        self._part: Path | None = None
        if not path.suffix:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise UserError(f"{path} is there and not an empty folder; give another name")
            self._part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def write(self, frame: np.ndarray) -> None:
        """Append a frame: uint8 [H, W, 3] RGB, or [H, W, 4] RGBA.

        Raises:
            UserError: an animation becomes too long, or the disk is full.
        """
        picture = Image.fromarray(frame)
        suffix = self._path.suffix.lower()
        if self._part is not None:
            try:
                self._part.mkdir(parents=True, exist_ok=True)
                path = self._part / f"{self._frames:05d}.png"
                picture.save(path, pnginfo=png_info())
                if self._seal is not None:
                    self._seal(path, path.suffix)
            except OSError as error:
                raise UserError(f"{self._path} cannot be written ({error.strerror or error})") from error
        elif suffix in ANIMATIONS:
            if self._frames >= LONGEST_ANIMATION * FRAME_RATE:
                raise UserError(
                    f"{self._path.name}: an animation has at most {LONGEST_ANIMATION:g} s; shorten it with --seconds, "
                    "or write a video (.mp4)"
                )
            self._kept.append(picture)
        else:
            self._kept = [picture]
        self._frames += 1

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._part is not None:
                shutil.rmtree(self._part, ignore_errors=True)

    def _finish(self) -> None:
        if self._frames == 0:
            raise UserError(f"{self._path.name} would have no frames; nothing was written")
        if self._part is not None:
            try:
                if self._path.exists():
                    self._path.rmdir()  # empty
                self._part.rename(self._path)
            except OSError as error:
                raise UserError(f"{self._path} cannot be written ({error.strerror or error})") from error
            return
        with named_file(self._path) as part:
            with part.open("wb") as file:
                self._save(file)
            if self._seal is not None:
                self._seal(part, self._path.suffix)

    def _save(self, file: BinaryIO) -> None:
        gif = self._path.suffix.lower() == ".gif"
        first, *others = _in_one_palette(self._kept) if gif else self._kept
        exif = Image.Exif()
        exif[_DESCRIPTION] = PROVENANCE
        moving = {"save_all": True, "append_images": others, "duration": _DURATION, "loop": 0}
        match self._path.suffix.lower():
            case ".gif":
                first.save(file, "GIF", comment=PROVENANCE.encode(), optimize=False, **moving)
            case ".webp":
                first.save(file, "WEBP", quality=_WEBP_QUALITY, method=4, exif=exif.tobytes(), **moving)
            case ".png":
                first.save(file, "PNG", pnginfo=png_info())
            case _:
                first.save(file, "JPEG", quality=_JPEG_QUALITY, exif=exif.tobytes(), comment=PROVENANCE.encode())


def _in_one_palette(pictures: list[Image.Image]) -> list[Image.Image]:
    """Pictures in 256 colours, the same for all, so that what stands still does not flicker."""
    some = pictures[:: -(-len(pictures) // _PALETTE_FRAMES)]
    joined = Image.fromarray(np.concatenate([np.asarray(picture) for picture in some]))
    palette = joined.quantize(256)
    return [picture.quantize(palette=palette) for picture in pictures]


def open_output(
    path: Path, size: tuple[int, int], alpha: bool = False, sound: Sound | None = None, seal: Seal | None = None
) -> VideoWriter | PictureWriter:
    """The writer for the ending of `path` (see modules/media/endings.py); arguments as of `VideoWriter`.

    Pictures have no sound.
    """
    if path.suffix.lower() in ("", *ANIMATIONS, *STILLS):
        return PictureWriter(path, seal)
    return VideoWriter(path, size=size, alpha=alpha, sound=sound, seal=seal)


def png_info() -> PngImagePlugin.PngInfo:
    """That a picture is synthetic, as a text in its file."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", PROVENANCE)
    return info
