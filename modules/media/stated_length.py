"""How long a track surely is; most lengths that files state are guesses, or that of another track."""

import struct
from pathlib import Path

import av

from modules.media.container import say_once
from modules.system.errors import UserError

PLACEHOLDER = 2**30  # bytes; writers that cannot know the length state such numbers: 2e9, 0x7FFFF000, 0xFFFFFFFF

PCM = (1, 3, 6, 7, 0xFFFE)  # integers, floats, A-law, mu-law, extensible


def stated_seconds(path: Path, container: av.container.InputContainer, track: av.stream.Stream) -> float | None:
    """Length of a track where the header counts its samples: WAV files and MP4, MOV that are not in fragments.

    None for all others: the length of raw AAC and MP3 is guessed from the bit rate, that of MKV and WebM is the
    longest track's.
    """
    if container.format.name == "wav":
        return _wav_seconds(path)
    if container.format.name.startswith("mov") and track.frames and track.duration:
        return float(track.duration * track.time_base)
    return None


def check_length(path: Path, seconds: float, stated: float | None) -> None:
    """Say that a file is truncated if `seconds` are clearly less than it states for sure.

    Raises:
        UserError: they are less than half.
    """
    if stated is None or seconds >= 0.9 * stated - 0.1:
        return
    if seconds < 0.5 * stated:
        raise UserError(f"{path} is truncated: {seconds:.1f} s of {stated:.1f} s can be read; copy it again")
    say_once(path, f"truncated, {seconds:.1f} s of {stated:.1f} s can be read")


def _wav_seconds(path: Path) -> float | None:
    """Size of the data chunk over the rate of the format chunk; FFmpeg cuts that to the file's size."""
    with path.open("rb") as file:
        head = file.read(65536)
    if head[:4] != b"RIFF":
        return None
    position, bytes_a_second = 12, 0  # 0 until the format is known, and for formats without a fixed rate
    while position + 8 <= len(head):
        name, size = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
        if name == b"fmt ":
            kind, _, rate, _, frame = struct.unpack_from("<HHIIH", head.ljust(position + 22), position + 8)
            bytes_a_second = rate * frame if kind in PCM else 0
        if name == b"data":
            invented = size == 0 or (size >= PLACEHOLDER and path.stat().st_size < size / 2)
            return None if invented or not bytes_a_second else size / bytes_a_second
        position += 8 + size + size % 2
    return None
