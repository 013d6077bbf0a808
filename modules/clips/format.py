"""The prepared clip on disk: written whole or not at all, read frame by frame or as a whole.

A clip is a folder, or such a folder in a shard (modules/clips/shards.py):
    video.mp4         H.264, 25 frames a second, every 5th a key frame, so that two random frames decode fast
    masks.mkv         FFV1 (lossless), one class number 0..5 a pixel
    background.png    the scene without the person
    clip.npz          identity [1, 80], expression [T, 64], euler [T, 3], translation [T, 3], face_model, landmarks;
                      from version 2 on also version, fps, source and licence; then also person, video, sound_late
    audio.wav         optional, 16 kHz mono, as long as the video
    speech_KIND.npz   optional, KIND mel, whisper or hubert: features [Tx, A] and f0 [Tx] at 50 Hz, and its tracker
                      pitch; without it Praat's method
    field_NAME.npy    optional, [T, ...]: what modules/clips/fields.py declares
    pncc_N.npy        optional, uint8 [T + 1, 3, N, N]: the PNCC of every frame, then that of the neutral face
Images of head, torso and person are composed from video and mask when they are read. A clip for the speech stages may
have no pictures: then the first three files are missing.
"""

import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from platform import node
from tokenize import TokenError
from typing import get_args
from zipfile import BadZipFile

import av
import numpy as np
import soundfile
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from modules.audio.features import AudioFeatures, FeatureKind, PitchKind
from modules.clips.shards import has_file, map_array, not_packed, on_disk, open_file, packed_clips
from modules.clips.summary import read_summary, tracker
from modules.face3d.coefficients import FaceCoefficients
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.system.errors import UserError
from modules.system.files import whole_file

CLIP_VERSION = 2  # 1 had no version, fps, source and licence; it is read as well
LARGEST_SIDE = 4096  # pixels a side of pictures and PNCCs
SILENCE = 1e-3  # root mean square below which a sound counts as silent: -60 dB of full scale
KEY_EVERY = 5  # frames from one key frame to the next
# What the readers of videos, pictures, sounds and arrays raise.
# fmt: off
_DAMAGE = (OSError, ValueError, LookupError, TypeError, EOFError, SyntaxError, RuntimeError, MemoryError, BadZipFile,
           FFmpegError, TokenError, zlib.error, struct.error)
# fmt: on
_FACE = ("identity", "expression", "euler", "translation")  # arrays of the coefficients
_VIDEO_OPTIONS = {"crf": "12", "g": str(KEY_EVERY), "bf": "0", "preset": "fast"}

_OF_VIDEO = re.compile(r"(?<!^person)_\d{6}$")  # first frame, at the end of a folder's name

Inpainter = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]


class CannotWrite(UserError):
    """The folder of the clips cannot be written: no fault of one clip, so a run should stop."""


@dataclass(frozen=True, kw_only=True)
class ClipContent:
    """A clip as `write_clip` takes it.

    Attributes:
        frames: T pictures uint8 [H, W, 3]; any iterable, read once and in step with `classes`. None: a clip without
            pictures, which has no `classes` and no `background`.
        classes: T class maps uint8 [H, W].
        background: uint8 [H, W, 3], or a function of all pictures and class maps that makes it (`inpaint_background`);
            it gets sequences that decode a frame of the written files when it is asked for.
        face: coefficients of the T frames, identity one row.
        face_model: name in the table of modules/face_models.py.
        landmarks: [T, L, 2] picture fractions, L = 478 or 68, or 0 without pictures.
        audio: [N] float32 at 16 kHz, or None.
        speech: features of the sound at 50 Hz by kind ("mel", "whisper", "hubert").
        pncc: uint8 [T + 1, 3, N, N], of every frame, then of the neutral face; or None.
        source: where the clip comes from: file name and seconds.
        licence: under which terms it may be used, or who allowed it.
        person: name of whom it shows, if the data gives names; no two people have the same.
        video: name of the video of which it is a part; no two videos have the same.
        sound_late: frames by which the sound was found to be late before it was moved to the lips; NaN: not known.
    """

    frames: Iterable[np.ndarray] | None
    classes: Iterable[np.ndarray] = ()
    background: np.ndarray | Inpainter | None = None
    face: FaceCoefficients
    face_model: str
    landmarks: np.ndarray
    audio: np.ndarray | None = None
    speech: Mapping[str, AudioFeatures] = field(default_factory=dict)
    pncc: np.ndarray | None = None
    source: str = ""
    licence: str = ""
    person: str = ""
    video: str = ""
    sound_late: float = float("nan")


def write_clip(folder: Path, content: ClipContent) -> None:
    """Write a clip; `folder` appears complete or not at all, also when several processes write the same one.

    Raises:
        CannotWrite: the disk is full, or the folder is gone.
        ValueError: the parts are not equally long.
    """
    part = folder.with_name(f".{folder.name}.{node()}.{os.getpid()}.part")  # of a process of any machine
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write_parts(part, content)
        if not folder.exists():
            part.rename(folder)
    except (OSError, FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotWrite(f"{folder} cannot be written ({reason}); free some space or set another folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_parts(part: Path, content: ClipContent) -> None:
    if content.frames is not None:
        _write_pictures(part, content)
    face = {name: getattr(content.face, name).float().numpy() for name in _FACE}
    np.savez(
        part / "clip.npz",
        version=CLIP_VERSION,
        fps=FRAME_RATE,
        source=content.source,
        licence=content.licence,
        person=content.person,
        video=content.video,
        sound_late=content.sound_late,
        face_model=content.face_model,
        landmarks=content.landmarks.astype(np.float32),
        **face,
    )
    if content.audio is not None:
        soundfile.write(part / "audio.wav", content.audio, SAMPLE_RATE)
    for kind, features in content.speech.items():
        write_speech(part, kind, features)
    if content.pncc is not None:
        np.save(_pncc_file(part, content.pncc.shape[-1]), content.pncc)


def _write_pictures(part: Path, content: ClipContent) -> None:
    frames, masks = _encode_pairs(part, content)
    if not frames == masks == len(content.face):
        raise ValueError(f"{frames} frames, {masks} masks and {len(content.face)} coefficients in {content.source}")
    background = content.background
    if callable(background):
        background = background(
            _Decoded(part / "video.mp4", frames, "rgb24"), _Decoded(part / "masks.mkv", frames, "gray")
        )
    Image.fromarray(background).save(part / "background.png")


def write_speech(folder: Path, kind: str, audio: AudioFeatures) -> None:
    """Store the features of a clip's sound, [Tx, A] and f0 [Tx], in its folder, whole or not at all."""
    with whole_file(not_packed(speech_file(folder, kind))) as part, part.open("wb") as file:
        np.savez(file, features=audio.features.cpu().numpy(), f0=audio.f0.cpu().numpy(), pitch=audio.pitch)


def speech_file(folder: Path, kind: str) -> Path:
    """Path of a clip's speech features of a kind ("mel", "whisper", "hubert"), whether it has them or not."""
    return folder / f"speech_{kind}.npz"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What fails while a file of a clip is read is one line that names it."""
    try:
        yield
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path.parent} is no prepared clip: {path.name} is missing or damaged ({reason}); delete the folder and "
            "make it again with python -m data_gen.run"
        ) from error


@contextmanager
def _arrays(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The arrays of a file (.npz) of a clip."""
    with _reading(path), open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


class Clip:
    """A prepared clip; opening it reads the coefficients only, pictures are decoded on demand.

    Attributes:
        face: coefficients of the T frames, identity one row.
        face_model: name in the table of modules/face_models.py.
        source, licence: as in `ClipContent`; empty in clips of version 1.
        sound_late: as there; NaN in clips that were made before it was measured.
    Raises:
        UserError: no clip, or one of a later format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _arrays(folder / "clip.npz") as arrays:
            content = {name: arrays[name] for name in arrays.files if name != "landmarks"}
            self.face_model = str(content["face_model"])
            version, rate = int(content.get("version", 1)), int(content.get("fps", FRAME_RATE))
        if version > CLIP_VERSION or rate != FRAME_RATE:
            raise UserError(
                f"{folder} has clip format {version} with {rate} frames a second; this program reads up to "
                f"{CLIP_VERSION} with {FRAME_RATE}; update it"
            )
        self.source, self.licence = str(content.get("source", "")), str(content.get("licence", ""))
        self.sound_late = float(content.get("sound_late", "nan"))
        with _reading(folder / "clip.npz"):
            self.face = FaceCoefficients(*(torch.from_numpy(content[name].astype(np.float32)) for name in _FACE))

    def __len__(self) -> int:
        return len(self.face)

    @property
    def name(self) -> str:
        """Name of the clip's folder."""
        return self.folder.name

    @property
    def video(self) -> Path:
        """The file of the pictures or its shard, resolved; a clip of speech alone has none, which is a UserError."""
        return on_disk(_existing(self.folder / "video.mp4")).resolve()

    def frames(self, indices: Iterable[int]) -> np.ndarray:
        """Pictures uint8 [N, H, W, 3] of single frames, in the order of `indices`."""
        return _decode(self.folder / "video.mp4", list(indices), "rgb24")

    def classes(self, indices: Iterable[int]) -> np.ndarray:
        """Class maps uint8 [N, H, W] in 0..5 of single frames, in the order of `indices`."""
        return _decode(self.folder / "masks.mkv", list(indices), "gray")

    def all_frames(self) -> Iterator[np.ndarray]:
        """Every picture, uint8 [H, W, 3], in order, in constant memory."""
        return _decode_all(self.folder / "video.mp4", "rgb24", len(self))

    def all_classes(self) -> Iterator[np.ndarray]:
        """Every class map, uint8 [H, W] in 0..5, in order."""
        return _decode_all(self.folder / "masks.mkv", "gray", len(self))

    @property
    def landmarks(self) -> np.ndarray:
        """Landmarks [T, L, 2] float32, picture fractions; read anew each time."""
        with _arrays(self.folder / "clip.npz") as arrays:
            return arrays["landmarks"]

    @cached_property
    def background(self) -> np.ndarray:
        """The scene without the person, uint8 [H, W, 3]."""
        path = self.folder / "background.png"
        with _reading(path), open_file(path) as file, Image.open(file) as picture:
            return np.asarray(picture.convert("RGB"))

    def audio(self) -> np.ndarray | None:
        """Sound [N] float32 in [-1, 1] at 16 kHz, None for a silent clip."""
        path = self.folder / "audio.wav"
        if not has_file(path):
            return None
        with _reading(path), open_file(path) as file:
            return soundfile.read(file, dtype="float32")[0]

    def audio_length(self) -> int:
        """N, samples of the sound at 16 kHz; 0 for a silent clip."""
        path = self.folder / "audio.wav"
        if not has_file(path):
            return 0
        with _reading(path), open_file(path) as file:
            return soundfile.info(file).frames

    def speech(self, kind: str) -> AudioFeatures | None:
        """Stored features of a kind of the sound, [Tx, A] and f0 [Tx] at 50 Hz; None if there are none."""
        path = speech_file(self.folder, kind)
        if not has_file(path):
            return None
        with _arrays(path) as arrays:
            return AudioFeatures(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["f0"]), _tracker(arrays))

    def stored_speech(self, kind: str) -> tuple[int, PitchKind] | None:
        """Tx, frames at 50 Hz of the stored features of a kind, and the tracker of their pitch; None without any."""
        path = speech_file(self.folder, kind)
        if not has_file(path):
            return None
        with _arrays(path) as arrays:
            return len(arrays["f0"]), _tracker(arrays)

    def stored_pncc(self, size: int) -> np.ndarray | None:
        """PNCCs uint8 [T + 1, 3, size, size], mapped from disk; None if they were not prepared at this size."""
        path = _pncc_file(self.folder, size)
        with _reading(path):
            stored = map_array(path) if has_file(path) else None
            if stored is not None and (stored.shape, stored.dtype) != ((len(self) + 1, 3, size, size), np.uint8):
                raise ValueError(f"shape {stored.shape}, type {stored.dtype}")
            return stored


def _tracker(arrays: Mapping[str, np.ndarray]) -> PitchKind:
    return tracker(str(arrays["pitch"]) if "pitch" in arrays else "praat")


def has_stored_pncc(folder: Path, size: int) -> bool:
    """Whether the clip has PNCCs of `size` pixels a side (`Clip.stored_pncc`)."""
    return has_file(_pncc_file(folder, size))


def check_sides(size: int, pncc_size: int) -> None:
    """Refuse sizes of pictures and PNCCs that nothing could draw: ValueError, for configs."""
    if max(size, pncc_size) > LARGEST_SIDE:
        raise ValueError(f"size {size} and pncc_size {pncc_size} may be {LARGEST_SIDE} at most")


def is_heard(wave: np.ndarray) -> bool:
    """Whether a sound [N] in [-1, 1] is more than silence."""
    return len(wave) > 0 and bool(np.sqrt(np.mean(wave.astype(np.float64) ** 2)) > SILENCE)


def has_sound(folder: Path) -> bool:
    """Whether a clip has a sound that is not silent throughout, or features of one."""
    if (summary := read_summary(folder)) is not None:
        return summary.heard
    path = folder / "audio.wav"
    if not has_file(path):
        return any(has_file(speech_file(folder, kind)) for kind in get_args(FeatureKind))
    with _reading(path), open_file(path) as file:
        return is_heard(soundfile.read(file, dtype="float32")[0])


def _pncc_file(folder: Path, size: int) -> Path:
    return folder / f"pncc_{size}.npy"


def list_clips(folder: Path) -> list[Path]:
    """The clips of a data set, sorted by name: folders, and those in shards (modules/clips/shards.py).

    Raises:
        UserError: there is none, or a shard is damaged.
    """
    alone = (path.parent for path in folder.glob("*/clip.npz") if not path.parent.name.startswith("."))
    by_name = {clip.name: clip for clip in (*packed_clips(folder), *alone)}
    clips = [by_name[name] for name in sorted(by_name)]
    if not clips:
        raise UserError(f"no prepared clips in {folder}; make some with python -m data_gen.run configs/data/NAME.yaml")
    return clips


def person_of(folder: Path) -> str:
    """Whom a clip shows, as far as is known: the person that it names, else its video.

    Clips of earlier versions name neither; the names of their folders are those of the video and the first frame, or,
    in the procedural world, of the person.

    Raises:
        UserError: no clip.
    """
    if (summary := read_summary(folder)) is not None:
        return summary.person
    with _arrays(folder / "clip.npz") as arrays:
        names = [str(arrays[key]) for key in ("person", "video") if key in arrays.files]
    return next(filter(None, names), None) or _OF_VIDEO.sub("", folder.name)


def _encode_pairs(part: Path, content: ClipContent) -> tuple[int, int]:
    """Write both videos in step; the numbers of pictures and of class maps, which differ if one ends first."""
    count = 0
    classes = iter(content.classes)
    with (
        _encoder(part / "video.mp4", "libx264", ("rgb24", "yuv420p"), _VIDEO_OPTIONS) as add_frame,
        _encoder(part / "masks.mkv", "ffv1", ("gray", "gray"), {"g": "1"}) as add_classes,
    ):
        for count, picture in enumerate(content.frames, start=1):
            add_frame(picture)
            mask = next(classes, None)
            if mask is None:
                return count, count - 1
            add_classes(mask)
    return count, count + (next(classes, None) is not None)


@contextmanager
def _encoder(
    path: Path, codec: str, formats: tuple[str, str], options: dict[str, str]
) -> Iterator[Callable[[np.ndarray], None]]:
    """A video file and the function that appends a picture; `formats`: of the arrays, of the stream.

    The same pictures are the same bytes on any machine: H.264 depends on the number of threads, Matroska has a number
    drawn by lot unless it is told not to.
    """
    with av.open(path, "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=FRAME_RATE, options=options)
        stream.codec_context.thread_count = 1
        stream.pix_fmt = formats[1]

        def add(picture: np.ndarray) -> None:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=formats[0])
            container.mux(stream.encode(frame))

        yield add
        if stream.codec_context.is_open:
            container.mux(stream.encode())


class _Decoded(Sequence):
    """The pictures of a video file, each decoded when it is asked for."""

    def __init__(self, path: Path, count: int, pixel_format: str) -> None:
        self._path, self._count, self._format = path, count, pixel_format

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        return _decode(self._path, [range(self._count)[index]], self._format)[0]


def _existing(path: Path) -> Path:
    if not has_file(path):
        raise UserError(
            f"{path.parent} has no {path.name}: it holds speech alone; train the image stages on other clips, or make "
            "it again with python -m data_gen.run"
        )
    return path


@contextmanager
def _open_video(path: Path) -> Iterator[InputContainer]:
    """A video of a clip; without it, or when it is damaged, one line says what to do."""
    with (
        _reading(_existing(path)),
        open_file(path) as file,
        av.open(file, options={"probesize": "32"}, stream_options=[{"skip_frame": "all"}]) as container,
    ):
        yield container  # FFmpeg decodes no picture to learn what our videos are: a tenth of the time of opening one


def _decode(path: Path, indices: list[int], pixel_format: str) -> np.ndarray:
    decoded: dict[int, np.ndarray] = {}
    converter = VideoReformatter()  # one for all: preparing it takes longer than converting a picture
    with _open_video(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for index in sorted(set(indices)):
            container.seek(round(index / FRAME_RATE / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(float(frame.pts * stream.time_base) * FRAME_RATE) == index:
                    decoded[index] = converter.reformat(frame, format=pixel_format, threads=1).to_ndarray()
                    break
            else:
                raise UserError(f"{path} has no frame {index}; prepare the clip again")
    return np.stack([decoded[index] for index in indices])


def _decode_all(path: Path, pixel_format: str, expected: int) -> Iterator[np.ndarray]:
    count = 0
    with _open_video(path) as container:
        for frame in container.decode(video=0):
            count += 1
            yield frame.to_ndarray(format=pixel_format)
        if count != expected:
            raise ValueError(f"{count} frames instead of {expected}")
