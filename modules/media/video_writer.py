"""Write frames and sound to video files, one frame at a time, with PyAV alone; `video_reader` reads them."""

import secrets
import weakref
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from modules.media.audio import Sound
from modules.media.colour import SCALING
from modules.media.content_credentials import Seal
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError

PROVENANCE = (
    "Synthetic video made with Real3D-Portrait: not a recording of the person shown. "
    "AI-generated; digitalSourceType=trainedAlgorithmicMedia"
)
H264 = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")  # in order of preference
LAST_RESORT = "mpeg4"
ALPHA = {".webm": ("libvpx-vp9", "yuva420p"), ".mov": ("prores_ks", "yuva444p10le")}
QUALITY = {
    "libx264": {"crf": "17", "preset": "medium"},
    "libvpx-vp9": {"crf": "24", "b": "0", "cpu-used": "4"},
    "prores_ks": {"profile": "4444"},
    "mpeg4": {"q": "3"},
}
CONTAINERS = {".mp4": ("mp4", "aac"), ".mov": ("mov", "aac"), ".webm": ("webm", "libopus")}
SOUND_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "libopus": (48000,)}


def video_encoder() -> str:
    """Name of the encoder that .mp4 files are written with.

    Raises:
        UserError: this build of PyAV has none.
    """
    for name in (*H264, LAST_RESORT):
        if _can_encode(name):
            return name
    raise UserError("this PyAV has no H.264 encoder; install that of PyPI: pip install --force-reinstall av")


def alpha_encoders() -> dict[str, str | None]:
    """For each file ending that can hold transparency, the encoder, or None if this PyAV lacks it."""
    return {suffix: name if _can_encode(name) else None for suffix, (name, _) in ALPHA.items()}


def _can_encode(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except (av.codec.codec.UnknownCodecError, FFmpegError):
        return False
    return True


def prepare_pictures(stream: av.VideoStream, size: tuple[int, int], pixel_format: str) -> None:
    """Give a new stream the size (W, H) of its frames, an odd side one more, and the colours of `encodable`."""
    stream.width, stream.height = (side + side % 2 for side in size)
    stream.pix_fmt = pixel_format
    context = stream.codec_context
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def encodable(frame: np.ndarray, pixel_format: str) -> av.VideoFrame:
    """A frame uint8 [H, W, 3] RGB, or [H, W, 4] RGBA, in the colours of HD video; odd sides get one more pixel."""
    height, width, channels = frame.shape
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    layout = "rgba" if channels == 4 else "rgb24"
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=layout).reformat(
        format=pixel_format,
        interpolation=SCALING,
        src_color_range=ColorRange.JPEG,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        dst_color_primaries=ColorPrimaries.BT709,
        dst_color_trc=ColorTrc.BT709,
        threads=1,
    )


class VideoWriter:
    """Writes a video file frame by frame in a `with` block; the file appears whole at the end, or not at all.

    .mp4 is H.264 with AAC. With alpha, .webm is VP9 with Opus and .mov is ProRes 4444 with AAC. Colours are those
    of HD video (BT.709, limited range) whatever the size, and the file says so. The sound is cut, or continued
    with silence, to the length of the pictures. The file's `comment` says that the video is synthetic.

    Attributes:
        note: something the user should know (an unusual encoder), or None.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: int = FRAME_RATE,
        alpha: bool = False,
        sound: Sound | None = None,
        seal: Seal | None = None,
    ) -> None:
        """
        Args:
            path: the file to write; its folder is created.
            size: (W, H) of the frames; an odd side gets one more row or column.
            fps: frames a second.
            alpha: whether frames are RGBA.
            sound: the sound track; None for a silent video.
            seal: signs the file before it appears; None: nobody does.
        Raises:
            UserError: wrong file ending, the file cannot be written, or an encoder is missing.
        """
        self._path, self._size, self._fps, self._alpha = Path(path), tuple(size), fps, alpha
        self._seal = seal
        self._frames = self._samples = 0
        encoder, pixel_format = self._choose_encoder()
        self.note = (
            f"this PyAV has no H.264 encoder: {self._path.name} is MPEG-4 part 2, which browsers do not play"
            if encoder == LAST_RESORT
            else None
        )
        self._part = self._make_part()
        self._attempt(lambda: self._open(encoder, pixel_format, sound), (FFmpegError, OSError, ValueError))

    def write(self, frame: np.ndarray) -> None:
        """Append a frame: uint8 [H, W, 3] RGB, or [H, W, 4] RGBA with alpha.

        Raises:
            UserError: the disk is full or the folder is gone; no part of the file is left.
            ValueError: a frame of another type or size.
        """
        height, width, channels = frame.shape
        if frame.dtype != np.uint8 or (width, height) != self._size or channels != (4 if self._alpha else 3):
            raise ValueError(
                f"a frame must be uint8 {[*self._size[::-1], 4 if self._alpha else 3]}, "
                f"not {frame.dtype} {list(frame.shape)}"
            )
        picture = encodable(frame, self._video.pix_fmt)
        picture.pts, picture.time_base = self._frames, Fraction(1, self._fps)
        self._frames += 1
        self._attempt(lambda: self._container.mux(self._video.encode(picture)))
        self._attempt(self._write_sound)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is not None:
            self._abandon()
            return
        if self._frames == 0:
            self._abandon()
            raise UserError(f"{self._path.name} would have no frames; nothing was written")
        self._attempt(self._finish)

    def _finish(self) -> None:
        self._container.mux(self._video.encode())
        if self._sound is not None:
            self._container.mux(self._sound.encode())
        self._container.close()
        if self._seal is not None:
            self._seal(self._part, self._path.suffix)
        self._part.replace(self._path)

    def _open(self, encoder: str, pixel_format: str, sound: Sound | None) -> None:
        container = CONTAINERS[self._path.suffix.lower()][0]
        options = {} if container == "webm" else {"movflags": "+faststart"}
        self._container = av.open(str(self._part), "w", format=container, options=options)
        self._container.metadata["comment"] = PROVENANCE
        self._video = self._container.add_stream(encoder, rate=self._fps, options=dict(QUALITY.get(encoder, {})))
        prepare_pictures(self._video, self._size, pixel_format)
        self._add_sound(sound)

    def _attempt(self, step: Callable[[], None], faults: tuple[type[Exception], ...] = (FFmpegError, OSError)) -> None:
        """Do a step; whatever stops it, no part of the file is left, and `faults` become a `UserError`."""
        try:
            step()
        except faults as error:
            self._abandon()
            raise self._write_error(error) from error
        except BaseException:  # a damaged sound, Ctrl-C
            self._abandon()
            raise

    def _choose_encoder(self) -> tuple[str, str]:
        suffix = self._path.suffix.lower()
        if not self._alpha:
            if suffix != ".mp4":
                raise UserError(f"{self._path.name}: videos are written as .mp4")
            return video_encoder(), "yuv420p"
        if suffix not in ALPHA:
            raise UserError(f"{self._path.name}: transparent videos are written as {' or '.join(ALPHA)}")
        encoder, pixel_format = ALPHA[suffix]
        if not _can_encode(encoder):
            raise UserError(
                f"this PyAV cannot write transparent {suffix} files ({encoder} is missing); "
                f"use another of {', '.join(ALPHA)} or install av from PyPI"
            )
        return encoder, pixel_format

    def _make_part(self) -> Path:
        """An empty file beside the output, with a name of its own."""
        if self._path.is_dir():
            raise UserError(f"{self._path} is a folder; give the name of a file to write")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_name(f"{self._path.stem}.{secrets.token_hex(4)}.part")
            weakref.finalize(self, part.unlink, missing_ok=True)  # should a signal come before the `with` begins
            part.touch(exist_ok=False)
        except OSError as error:
            raise self._write_error(error) from error
        return part

    def _add_sound(self, sound: Sound | None) -> None:
        self._sound = None
        if sound is None:
            return
        self._blocks, self._rest = sound.blocks(), None
        first = next(self._blocks, np.zeros((1, 1), np.float32))
        self._rest, self._rate = first, sound.rate
        codec = CONTAINERS[self._path.suffix.lower()][1]
        rate = sound.rate if sound.rate in SOUND_RATES[codec] else SOUND_RATES[codec][0]
        layout = "mono" if first.shape[1] == 1 else "stereo"
        self._sound = self._container.add_stream(codec, rate=rate, layout=layout)
        self._sound.bit_rate = 128_000

    def _write_sound(self) -> None:
        """Hand over sound up to the end of the last frame."""
        if self._sound is None:
            return
        needed = self._frames * self._rate // self._fps - self._samples
        pieces = [self._rest]
        while sum(map(len, pieces)) < needed:
            pieces.append(next(self._blocks, np.zeros((needed, self._rest.shape[1]), np.float32)))
        joined = np.concatenate(pieces)
        block, self._rest = joined[:needed], joined[needed:]
        if needed == 0:
            return
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block).reshape(1, -1), format="flt", layout="mono" if block.shape[1] == 1 else "stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._samples, Fraction(1, self._rate)
        self._samples += needed
        self._container.mux(self._sound.encode(frame))

    def _abandon(self) -> None:
        with suppress(Exception):  # whatever went wrong, only the removal matters now
            self._container.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _write_error(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or str(error)
        return UserError(f"{self._path} cannot be written ({reason}); choose another place with --output")
