"""Write frames and sound as a stream of MP4 fragments, which a browser plays while they come (Media Source)."""

from fractions import Fraction

import av
import numpy as np

from modules.media.rates import FRAME_RATE
from modules.media.video_writer import (
    H264,
    PROVENANCE,
    SOUND_RATES,
    encodable,
    prepare_pictures,
    video_encoder,
)
from modules.system.errors import UserError

_GROUP = 12  # frames from one key frame to the next, 0.48 s; a fragment begins with each
_FRAGMENT = 160_000  # microseconds after which a fragment ends in any case
_LIVE = {"libx264": {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "profile": "main"}}
_SOUND_BITS = 96_000


class _Pipe:
    """What was written to it and not yet taken; it cannot go back, as a stream cannot."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def write(self, data: bytes) -> int:
        self._kept += data
        return len(data)

    def taken(self) -> bytes:
        """All of it, which is forgotten."""
        data = bytes(self._kept)
        self._kept.clear()
        return data


class FragmentWriter:
    """H.264 and AAC, 25 frames a second, mono: frames and their sound go in, bytes come out as soon as they can.

    Attributes:
        mime: what `MediaSource.addSourceBuffer` wants to be told.
    """

    def __init__(self, size: tuple[int, int], rate: int) -> None:
        """
        Args:
            size: (W, H) of the frames; an odd side gets one more row or column.
            rate: of the sound, samples a second.
        Raises:
            UserError: this PyAV has no encoder for H.264.
        """
        encoder = video_encoder()
        if encoder not in H264:
            raise UserError("this PyAV has no H.264 encoder; ask for jpeg frames, or install av from PyPI")
        self._pipe, self._rate, self._frames, self._samples = _Pipe(), rate, 0, 0
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": str(_FRAGMENT)}
        self._container = av.open(self._pipe, "w", format="mp4", options=flags)
        self._container.metadata["comment"] = PROVENANCE
        self._video = self._container.add_stream(encoder, rate=FRAME_RATE, options=dict(_LIVE.get(encoder, {})))
        prepare_pictures(self._video, size, "yuv420p")
        self._video.codec_context.gop_size = _GROUP
        self._video.codec_context.thread_count = 1
        rates = SOUND_RATES["aac"]
        self._sound = self._container.add_stream("aac", rate=rate if rate in rates else rates[0], layout="mono")
        self._sound.bit_rate = _SOUND_BITS
        self._container.start_encoding()
        self.mime = f'video/mp4; codecs="{_avc(self._video)}, mp4a.40.2"'

    def write(self, frames: list[np.ndarray], sound: np.ndarray) -> bytes:
        """Append frames uint8 [H, W, 3] and the sound [n] float32 from the end of the last one on.

        Returns:
            What can be sent now; maybe nothing.
        """
        for frame in frames:
            picture = encodable(frame, self._video.pix_fmt)
            picture.pts, picture.time_base = self._frames, Fraction(1, FRAME_RATE)
            self._frames += 1
            self._container.mux(self._video.encode(picture))
        if len(sound):
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound)[None], format="flt", layout="mono")
            block.sample_rate, block.pts, block.time_base = self._rate, self._samples, Fraction(1, self._rate)
            self._samples += len(sound)
            self._container.mux(self._sound.encode(block))
        return self._pipe.taken()

    def finish(self) -> bytes:
        """The rest; nothing can be appended to it."""
        if self._frames:
            self._container.mux(self._video.encode())
        if self._samples:
            self._container.mux(self._sound.encode())
        self._container.close()
        return self._pipe.taken()


def _avc(stream: av.VideoStream) -> str:
    """avc1. and profile, constraints and level, from the stream's sequence parameters."""
    data = bytes(stream.codec_context.extradata or b"")
    start = data.find(b"\x00\x00\x01\x67") + 4
    if start < 4 or len(data) < start + 3:
        raise UserError("this PyAV's H.264 encoder does not say what it makes; ask for jpeg frames")
    return "avc1." + data[start : start + 3].hex()
