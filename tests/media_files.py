"""Sound and video files as people have them, made by code: with gaps, jumps, odd rates, channels and formats."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.plane import AudioPlane

MILLISECOND = Fraction(1, 1000)


def sound_frame(samples: np.ndarray, rate: int, time: float, format: str, layout: str) -> av.AudioFrame:
    """Samples [n, C] of the type of `format` as a frame at `time` seconds; planar formats of any number of channels."""
    frame = av.AudioFrame(format=format, layout=layout, samples=len(samples))
    if frame.format.is_planar:
        for index in range(samples.shape[1]):
            AudioPlane(frame, index).update(np.ascontiguousarray(samples[:, index]).tobytes())
    else:
        AudioPlane(frame, 0).update(np.ascontiguousarray(samples).tobytes())
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(time * rate)
    return frame


def write_sound(
    path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le", format: str = "s16", layout: str = "mono"
) -> Path:
    """Samples [n, C], of the type of `format`, as a file of sound alone."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate, layout=layout)
        container.mux(track.encode(sound_frame(samples, rate, 0.0, format, layout)))
        container.mux(track.encode())
    return path


def clicks(seconds: float, rate: int = 16_000, every: float = 0.5, first: float = 0.25) -> np.ndarray:
    """Bursts of 10 ms at 1 kHz, one `every` seconds: [n, 1] int16."""
    time = np.arange(round(seconds * rate)) / rate
    burst = (time >= first) & ((time - first) % every < 0.01)
    return (20_000 * np.sin(2 * np.pi * 1000 * time) * burst).astype(np.int16)[:, None]


def click_times(samples: np.ndarray, rate: int) -> list[float]:
    """Seconds at which bursts begin in samples [n] or [n, C]."""
    loud = np.flatnonzero(np.abs(samples.reshape(len(samples), -1)).max(axis=1) > 0.1) / rate
    return [float(t) for t, gap in zip(loud, np.diff(loud, prepend=-1.0), strict=True) if gap > 0.1]


def write_film(
    path: Path,
    pictures: Sequence[tuple[float, np.ndarray]],
    sound: Iterable[tuple[float, np.ndarray]] = (),
    rate: int = 16_000,
    codecs: tuple[str, str] = ("mpeg4", "pcm_s16le"),
    options: dict[str, str] | None = None,
) -> Path:
    """A film of pictures uint8 [H, W, 3] and pieces of mono int16 sound [n, 1], each at its time in seconds.

    Packets are interleaved by time. `codecs`: of pictures and sound.
    """
    sound = list(sound)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codecs[0], rate=1000)
        video.height, video.width = pictures[0][1].shape[:2]
        video.pix_fmt, video.codec_context.time_base = "yuv420p", MILLISECOND
        video.codec_context.gop_size = 10
        audio = container.add_stream(codecs[1], rate=rate, layout="mono") if sound else None
        packets = []
        for time, picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), MILLISECOND
            packets += video.encode(frame)
        packets += video.encode()
        if audio is not None:
            kind = audio.codec_context.format.name
            for time, samples in sound:
                values = samples if kind.startswith("s16") else (samples / 2**15).astype(np.float32)
                packets += audio.encode(sound_frame(values, rate, time, kind, "mono"))
            packets += audio.encode()
        for packet in sorted(packets, key=lambda p: float((p.pts if p.dts is None else p.dts) * p.time_base)):
            container.mux(packet)
    return path


def pieces(samples: np.ndarray, rate: int = 16_000, seconds: float = 0.02) -> list[tuple[float, np.ndarray]]:
    """Samples cut into packets, with their times."""
    size = round(seconds * rate)
    return [(i / rate, samples[i : i + size]) for i in range(0, len(samples), size)]
