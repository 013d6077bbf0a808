"""The decoded frames of one track of a file, on a continuous time; what is damaged is left out and counted."""

import math
from collections.abc import Iterator
from pathlib import Path

import av
from av.error import FFmpegError, InvalidDataError
from av.format import Flags

from modules.media.container import open_media, picture_track, say_once, sound_track
from modules.media.timeline import AHEAD, FAR_AHEAD, Timeline
from modules.system.errors import UserError

# Files of one bare sound: their times are not written down but guessed from sizes, wrongly where the rate changes.
TIMELESS = frozenset(
    ("aac", "ac3", "eac3", "dts", "dtshd", "truehd", "mlp", "mp3", "flac", "wav", "w64", "aiff", "au", "amr", "amrnb")
    + ("amrwb", "ape", "wv", "tta", "loas", "latm", "g722", "gsm", "sbc")
)
SEARCHABLE = frozenset(("mov", "mp4", "matroska", "webm"))  # formats with an index of key frames, and without jumps
MONO_STEREO = ("FL", "FR")  # what mono and stereo are called here
RUN_UP = 1.0  # seconds by which sound is begun earlier: decoders need some packets, and pictures may come before it
MOST_FAILURES = 50  # of reading, one after the other


def decode_sound(path: Path, after: float | None = None) -> Iterator[tuple[av.AudioFrame, tuple[str, ...]]]:
    """Frames of the first sound track, with the names of their channels. `frame.time` is None where there are no times.

    Args:
        after: seconds of the file; what is heard before them may be left out, where the format can be searched.
    Raises:
        UserError: no such file, no sound track, or the file cannot be read on.
    """
    with open_media(path) as container:
        track = sound_track(container)
        if track is None:
            raise UserError(f"{path.name} has no sound track; use a file with speech")
        names = _unusual_channels(track)
        if after is not None:
            _search(container, picture_track(container) or track, after - RUN_UP)
        for frame in _decode(path, container, track):
            if container.format.name in TIMELESS:
                frame.pts = None
            count = frame.layout.nb_channels
            plain = MONO_STEREO[:count] if count <= 2 else tuple(channel.name for channel in frame.layout.channels)
            yield frame, names if len(names) == count else plain


def _unusual_channels(track: av.AudioStream) -> tuple[str, ...]:
    """Channels that a MOV, CAF or AIFF file lists in an order of its own; else nothing.

    PyAV frees such a list with every frame, which ends the process, so the decoder is given the number alone.
    """
    layout = track.codec_context.layout
    if "channels (" not in layout.name:
        return ()
    names = tuple(channel.name for channel in layout.channels)
    del layout
    track.codec_context.layout = f"{len(names)} channels"
    return names


def decode_pictures(path: Path, after: float | None = None) -> Iterator[tuple[av.VideoFrame, av.VideoStream]]:
    """Frames of the first track of moving pictures, with that track.

    Args:
        after: seconds of the file; what is shown before them may be left out, where the format can be searched.
    Raises:
        UserError: no such file, no pictures, or the file cannot be read on.
    """
    with open_media(path) as container:
        track = picture_track(container)
        if track is None:
            raise UserError(f"{path.name} has no video in it; use a file with moving pictures")
        track.thread_type = "AUTO"
        first = None
        if after is not None:
            _search(container, track, after)
        for frame in _decode(path, container, track):
            if container.format.name == "avi":  # it has no times of showing, only of decoding
                first = frame.dts if first is None else first
                frame.pts = None if first is None or frame.dts is None else frame.dts - first
            yield frame, track


def _search(container: av.container.InputContainer, track: av.stream.Stream, time: float) -> None:
    """Go on with the key frame of a track before `time`, seconds of the file; nothing where there is no index."""
    if SEARCHABLE & set(container.format.name.split(",")):
        container.seek(math.floor(time / track.time_base), stream=track)


def first_picture_time(path: Path) -> float | None:
    """Seconds at which the first picture that can be decoded is shown; None without pictures or times."""
    with open_media(path) as container:
        if picture_track(container) is None:
            return None
    return next((frame.time for frame, _ in decode_pictures(path)), None)


def _decode(
    path: Path, container: av.container.InputContainer, track: av.stream.Stream
) -> Iterator[av.AudioFrame | av.VideoFrame]:
    damaged = 0
    flush = None
    for packet in _continuous(path, container):
        if packet.stream.index != track.index:
            continue
        if packet.size == 0:  # sent on at the end only, because it ends the decoding
            flush = packet
            continue
        try:
            frames = track.codec_context.decode(packet)
        except (FFmpegError, ValueError):
            damaged += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                damaged += 1
            else:
                yield frame
    if flush is not None:
        try:
            yield from track.codec_context.decode(flush)
        except (FFmpegError, ValueError):
            damaged += 1
    if damaged:
        kind = "sound" if track.type == "audio" else "pictures"
        say_once(path, f"{damaged} damaged piece{'s' * (damaged > 1)} of its {kind} left out")


def _continuous(path: Path, container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets of sound and pictures, on a continuous time."""
    tracks = [track for track in (picture_track(container), sound_track(container)) if track is not None]
    pictures, sound = (
        next((track.index for track in tracks if track.type == kind), None) for kind in ("video", "audio")
    )
    jumps = container.format.flags & Flags.ts_discont.value
    timeline = Timeline(pictures, sound, AHEAD if jumps else FAR_AHEAD)
    timed = container.format.name not in TIMELESS
    ends = []
    for packet in _packets(path, container, tracks):
        if packet.size == 0:
            ends.append(packet)
        elif timed:
            yield from timeline.place(packet)
        else:
            yield packet
    yield from timeline.finish()
    yield from ends


def _packets(path: Path, container: av.container.InputContainer, tracks: list[av.stream.Stream]) -> Iterator[av.Packet]:
    """All packets, past those that cannot be read."""
    failures = 0
    while failures < MOST_FAILURES:
        try:
            for packet in container.demux(tracks):
                failures = 0
                yield packet
            return
        except InvalidDataError:
            failures += 1
        except (FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path.name} cannot be read on ({reason}); copy it again") from error
