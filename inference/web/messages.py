"""What goes over the WebSocket of a session: sound and controls in, frames and news out."""

import io
import json
import struct
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from inference.session import SessionConfig
from inference.web.studio import check_background
from modules.media.picture_writer import png_info
from modules.media.rates import FRAME_RATE
from modules.media.video_writer import PROVENANCE

HEADER = struct.Struct("<4sId")  # kind, number of the first frame, its time in seconds; 16 bytes
JPEG, PNG, MP4 = b"JPEG", b"PNG ", b"MP4 "
MOST_IDLE = 25 * 60  # frames that one message may ask for
_LOWEST_RATE, _HIGHEST_RATE = 8000, 192_000
_JPEG_QUALITY = 85


class Unreadable(ValueError):
    """A message that is none of the protocol."""


@dataclass(frozen=True, kw_only=True)
class LiveOptions(SessionConfig):
    """How a live session hears, moves and answers.

    Attributes:
        rate, channels, samples: of the sound that comes: little-endian, channels interleaved.
        frames: what comes back: a picture for each frame, or fragments of a video with the sound.
        background: "photo", or a colour such as "#204060".
    """

    rate: int = 16_000
    channels: Literal[1, 2] = 1
    samples: Literal["int16", "float32"] = "int16"
    frames: Literal["jpeg", "png", "mp4"] = "jpeg"
    background: str = "photo"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _LOWEST_RATE <= self.rate <= _HIGHEST_RATE:
            raise ValueError(f"rate is {self.rate}; give samples a second from {_LOWEST_RATE} to {_HIGHEST_RATE}")
        check_background(self.background)


@dataclass(frozen=True)
class Control:
    """What a text of the client asks for; `frames` is for idle alone."""

    kind: Literal["finish", "interrupt", "idle", "end"]
    frames: int = 0


def read_control(text: str) -> Control:
    """{"type": "finish"}, {"type": "interrupt"}, {"type": "idle", "frames": 50} or {"type": "end"}.

    Raises:
        Unreadable: anything else.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable('the text is no JSON; send {"type": "finish"}, interrupt, idle or end') from error
    kind = message.get("type") if isinstance(message, dict) else None
    if kind not in get_args(Control.__annotations__["kind"]):
        raise Unreadable("the text asks for nothing known; its type must be finish, interrupt, idle or end")
    frames = message.get("frames", 0)
    if kind == "idle" and (type(frames) is not int or not 1 <= frames <= MOST_IDLE):
        raise Unreadable(f"idle needs frames, a whole number from 1 to {MOST_IDLE}")
    return Control(kind, frames if kind == "idle" else 0)


def read_sound(data: bytes, options: LiveOptions) -> np.ndarray:
    """Samples [n] float32 in [-1, 1], the mean of the channels.

    Raises:
        Unreadable: not a whole number of samples, or samples that are no numbers.
    """
    kind = np.dtype("<i2" if options.samples == "int16" else "<f4")
    if len(data) % (kind.itemsize * options.channels):
        raise Unreadable(
            f"{len(data)} bytes are no whole number of {options.samples} samples of {options.channels} channels"
        )
    values = np.frombuffer(data, kind)
    samples = values.astype(np.float32) / 2**15 if options.samples == "int16" else values.astype(np.float32)
    if not np.isfinite(samples).all():
        raise Unreadable("the sound holds samples that are no numbers")
    samples = np.clip(samples, -1, 1)
    return samples if options.channels == 1 else samples.reshape(-1, 2).mean(axis=1, dtype=np.float32)


def header(kind: bytes, frame: int) -> bytes:
    """The 16 bytes before a picture or a fragment."""
    return HEADER.pack(kind, frame, frame / FRAME_RATE)


def encoded(frame: np.ndarray, kind: bytes) -> bytes:
    """A frame uint8 [S, S, 3] as JPEG or PNG, which says that it is synthetic."""
    file, picture = io.BytesIO(), Image.fromarray(frame)
    if kind == JPEG:
        picture.save(file, "JPEG", quality=_JPEG_QUALITY, comment=PROVENANCE.encode())
    else:
        picture.save(file, "PNG", compress_level=1, pnginfo=png_info())
    return file.getvalue()
