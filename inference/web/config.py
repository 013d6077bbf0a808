"""What the server allows: sizes, lengths, numbers and times."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The limits; whatever goes beyond one is refused in a line that names it.

    Attributes:
        photo_bytes, media_bytes: of one upload.
        stored_bytes: of all files that the server holds.
        upload_seconds: that one upload may take.
        photo_pixels: of an uploaded photo.
        clip_pixels: of a frame of an uploaded clip.
        speech_seconds: of speech or of a clip that becomes a video.
        layers_seconds: of a video that is given with its layers, which are large.
        session_seconds: of video that a live session may give.
        look_ahead: seconds; the most that a session may ask for.
        portraits, media, videos, sessions: held at once.
        waiting: pieces of work that wait for their turn before new ones are refused.
        requests_per_minute: of one address.
        idle_seconds: after which what nobody has used is forgotten.
        slow_seconds: that a reader may take for one message.
        queued_seconds: of sound that a session holds unheard; what comes beyond it waits on the line.
        message_bytes: of one message of a WebSocket.
        connections: at once.
    """

    photo_bytes: int = 25_000_000
    media_bytes: int = 200_000_000
    stored_bytes: int = 2_000_000_000
    upload_seconds: float = 120.0
    photo_pixels: int = 60_000_000
    clip_pixels: int = 9_000_000
    speech_seconds: float = 120.0
    layers_seconds: float = 20.0
    session_seconds: float = 3600.0
    look_ahead: float = 2.0
    portraits: int = 24
    media: int = 64
    videos: int = 32
    sessions: int = 4
    waiting: int = 128
    requests_per_minute: int = 600
    idle_seconds: float = 600.0
    slow_seconds: float = 20.0
    queued_seconds: float = 10.0
    message_bytes: int = 1_048_576
    connections: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf or (value == 0 and field.name != "look_ahead"):
                raise ValueError(f"{field.name} is {value}; it must be positive")
