"""Open a video or sound file of any kind, and find its tracks; what cannot be opened is refused in one line."""

import logging
from functools import cache
from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Disposition

from modules.system.errors import UserError

STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def open_media(path: Path) -> av.container.InputContainer:
    """The file as a container of streams, to be used in a `with`.

    Raises:
        UserError: no such file, a folder, an empty file, or nothing that FFmpeg reads.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a video or audio file")
    if not path.exists():
        raise UserError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; give a video or audio file")
    try:
        return av.open(str(path), metadata_errors="replace")  # titles in any encoding
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path.name} cannot be read as video or audio ({reason}); give an MP4, MOV, WebM, WAV or MP3 file"
        ) from error


def sound_track(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first sound track that this FFmpeg can decode."""
    return next((stream for stream in container.streams.audio if stream.codec_context is not None), None)


def picture_track(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first track of moving pictures that this FFmpeg can decode; the cover of a song is none."""
    return next((s for s in container.streams.video if s.codec_context is not None and not s.disposition & STILL), None)


@cache
def say_once(path: Path, message: str) -> None:
    """Log what the user should know about a file, which may be read several times; by default on stderr."""
    logging.getLogger(__name__).warning("note: %s: %s", path.name, message)
