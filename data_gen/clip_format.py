"""The prepared clip on disk: writing it whole or not at all, reading single frames and everything.

A clip is a folder:
    video.mp4        H.264, 25 frames a second, a key frame every `GROUP` frames, so that two random frames decode fast
    masks.mkv        FFV1 (lossless), one class number 0..5 a pixel
    background.png   the scene without the person
    clip.npz         identity [1, 80], expression [T, 64], euler [T, 3], translation [T, 3], face_model, landmarks
    audio.wav        optional, 16 kHz mono
    pncc_N.npy       optional, uint8 [T + 1, 3, N, N]: the PNCC of every frame, then that of the neutral face
Head, torso and person pictures are composed from video and mask when they are read.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from modules.errors import UserError
from modules.face3d.coefficients import FaceCoefficients

FRAME_RATE = 25
GROUP = 5                   # frames from one key frame to the next
SAMPLE_RATE = 16_000
HEAD_CLASSES = (1, 3, 5)
TORSO_CLASSES = (2, 4)
_VIDEO_OPTIONS = {"crf": "12", "g": str(GROUP), "bf": "0", "preset": "fast"}


@dataclass(frozen=True, kw_only=True)
class ClipContent:
    """A clip in memory, as `write_clip` takes it.

    Attributes:
        frames: T pictures uint8 [H, W, 3]; any iterable, read once.
        classes: T class maps uint8 [H, W].
        background: uint8 [H, W, 3].
        face: coefficients of the T frames, identity one row.
        face_model: "procedural", "ict" or "bfm".
        landmarks: [T, L, 2] picture fractions, L = 478 or 68.
        audio: [N] float32 at 16 kHz, or None.
        pncc: uint8 [T + 1, 3, N, N], or None.
    """

    frames: Iterable[np.ndarray]
    classes: Iterable[np.ndarray]
    background: np.ndarray
    face: FaceCoefficients
    face_model: str
    landmarks: np.ndarray
    audio: np.ndarray | None = None
    pncc: np.ndarray | None = None


def write_clip(folder: Path, content: ClipContent) -> None:
    """Write a clip; `folder` appears complete or not at all, also when several processes write the same one."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        frames = _encode(part / "video.mp4", content.frames, "libx264", ("rgb24", "yuv420p"), _VIDEO_OPTIONS)
        masks = _encode(part / "masks.mkv", content.classes, "ffv1", ("gray", "gray"), {"g": "1"})
        if not frames == masks == len(content.face):
            raise ValueError(f"{folder.name}: {frames} frames, {masks} masks and {len(content.face)} coefficients")
        Image.fromarray(content.background).save(part / "background.png")
        face = {name: getattr(content.face, name).float().numpy()
                for name in ("identity", "expression", "euler", "translation")}
        np.savez(part / "clip.npz", face_model=content.face_model, landmarks=content.landmarks.astype(np.float32),
                 **face)
        if content.audio is not None:
            soundfile.write(part / "audio.wav", content.audio, SAMPLE_RATE)
        if content.pncc is not None:
            np.save(part / f"pncc_{content.pncc.shape[-1]}.npy", content.pncc)
        if not folder.exists():
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class Clip:
    """A prepared clip; opening it reads the coefficients only, pictures are decoded on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with np.load(folder / "clip.npz", allow_pickle=False) as arrays:
                content = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} is no prepared clip ({error}); "
                            "make clips with python -m data_gen.run") from error
        self.face = FaceCoefficients.load(folder / "clip.npz")
        self.face_model = str(content["face_model"])
        self.landmarks: np.ndarray = content["landmarks"]       # [T, L, 2] picture fractions

    def __len__(self) -> int:
        return len(self.face)

    @property
    def name(self) -> str:
        return self.folder.name

    def frames(self, indices: Iterable[int]) -> np.ndarray:
        """Pictures uint8 [N, H, W, 3] of single frames, in the order of `indices`."""
        return _decode(self.folder / "video.mp4", list(indices), "rgb24")

    def classes(self, indices: Iterable[int]) -> np.ndarray:
        """Class maps uint8 [N, H, W] of single frames."""
        return _decode(self.folder / "masks.mkv", list(indices), "gray")

    def all_frames(self) -> Iterator[np.ndarray]:
        """Every picture uint8 [H, W, 3] in order, in constant memory."""
        return _decode_all(self.folder / "video.mp4", "rgb24")

    def all_classes(self) -> Iterator[np.ndarray]:
        """Every class map uint8 [H, W] in order."""
        return _decode_all(self.folder / "masks.mkv", "gray")

    @cached_property
    def background(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        with Image.open(self.folder / "background.png") as picture:
            return np.asarray(picture.convert("RGB"))

    def audio(self) -> np.ndarray | None:
        """[N] float32 at 16 kHz, None for a silent clip."""
        path = self.folder / "audio.wav"
        return soundfile.read(path, dtype="float32")[0] if path.is_file() else None

    def stored_pncc(self, size: int) -> np.ndarray | None:
        """uint8 [T + 1, 3, size, size], mapped from disk; None if they were not prepared at this size."""
        path = self.folder / f"pncc_{size}.npy"
        return np.load(path, mmap_mode="r") if path.is_file() else None


def list_clips(folder: Path) -> list[Path]:
    """The clips of a data set, sorted by name.

    Raises:
        UserError: there is none.
    """
    clips = sorted(path.parent for path in folder.glob("*/clip.npz") if not path.parent.name.startswith("."))
    if not clips:
        raise UserError(f"no prepared clips in {folder}; make some with python -m data_gen.run configs/data/NAME.yaml")
    return clips


def compose(picture: np.ndarray, classes: np.ndarray, parts: tuple[int, ...]) -> np.ndarray:
    """The pixels of a picture [..., H, W, 3] whose class [..., H, W] is among `parts`, black elsewhere."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(parts)] = 1
    return picture * table[classes][..., None]


def _encode(path: Path, pictures: Iterable[np.ndarray], codec: str, formats: tuple[str, str],
            options: dict[str, str]) -> int:
    """Write a video and return its number of frames; `formats`: of the arrays, of the stream."""
    count = 0
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=FRAME_RATE, options=options)
        stream.pix_fmt = formats[1]
        for picture in pictures:
            if count == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=formats[0])
            container.mux(stream.encode(frame))
            count += 1
        if count:
            container.mux(stream.encode())
    return count


def _decode(path: Path, indices: list[int], pixel_format: str) -> np.ndarray:
    found: dict[int, np.ndarray] = {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for index in sorted(set(indices)):
            container.seek(round(index / FRAME_RATE / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(float(frame.pts * stream.time_base) * FRAME_RATE) == index:
                    found[index] = frame.to_ndarray(format=pixel_format)
                    break
            else:
                raise UserError(f"{path} has no frame {index}; prepare the clip again")
    return np.stack([found[index] for index in indices])


def _decode_all(path: Path, pixel_format: str) -> Iterator[np.ndarray]:
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format=pixel_format)
