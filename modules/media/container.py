"""Open a video or sound file of any kind; what cannot be opened is refused in one line."""

from pathlib import Path

import av
from av.error import FFmpegError

from modules.system.errors import UserError


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
        return av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path.name} cannot be read as video or audio ({reason}); give an MP4, MOV, WebM, WAV or MP3 file"
        ) from error
