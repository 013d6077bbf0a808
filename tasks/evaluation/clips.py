"""The true clips: which are used, their squares, their frames, and their sound in step with the pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from modules.analysis.crop import Box, clip_crop, crop_landmarks, crop_picture, photo_crop
from modules.analysis.landmarks import detect
from modules.analysis.mediapipe_models import FaceFinder
from modules.media.audio import read_sound
from modules.media.images import read_picture
from modules.media.rates import FRAME_RATE
from modules.media.video_reader import open_video
from modules.system.errors import UserError
from modules.system.files import whole_file
from tasks.evaluation.phones import ENDING
from tasks.evaluation.settings import EvaluationConfig

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
PHOTOS = (".png", ".jpg", ".jpeg", ".webp")
LOOK_EVERY = 5  # frames between those in which the face is looked for to lay the square


@dataclass(frozen=True)
class Source:
    """The photo of a case.

    Attributes:
        frame: [H, W, 3] uint8, uncut; `box`: its square around the face.
        picture: [S, S, 3] uint8, the square.
        landmarks: [478, 2], fractions of the square.
    """

    frame: np.ndarray
    box: Box
    picture: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class TrueClip:
    """A clip at 25 frames a second, cut to a square of S pixels.

    Attributes:
        shape: (H, W) of its frames in the file.
        box: the square that is cut out.
        count: T, frames that are used.
        rate: frames a second in the file.
    """

    path: Path
    shape: tuple[int, int]
    box: Box
    size: int
    count: int
    rate: float

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def frames(self) -> Iterator[np.ndarray]:
        """The T squares, uint8 [S, S, 3], decoded as they are consumed."""
        _, frames = open_video(self.path)
        return (crop_picture(frame, self.box, self.size) for frame in islice(frames, self.count))

    def first(self) -> Source:
        """The first frame as a photo.

        Raises:
            UserError: it shows no usable face.
        """
        frame = next(open_video(self.path)[1])
        return _source(frame, self.box, detect(frame, self.path.name), self.size)


def list_videos(folder: Path) -> tuple[dict[str, Path], int]:
    """Videos of a folder by name, sorted, and the number of its other files.

    Raises:
        UserError: no folder, no video in it, or two of one name.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give a folder of videos ({', '.join(VIDEOS)})")
    found: dict[str, Path] = {}
    others = 0
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        if path.suffix.lower() not in VIDEOS:
            others += not path.name.endswith(ENDING)
        elif path.stem in found:
            raise UserError(f"{folder} has two videos called {path.stem}; rename one")
        else:
            found[path.stem] = path
    if not found:
        raise UserError(f"there is no video in {folder}; it must hold files that end in {', '.join(VIDEOS)}")
    return found, others


def open_clip(path: Path, config: EvaluationConfig) -> TrueClip:
    """Look through a clip: its square, and how many frames are used.

    Raises:
        UserError: no usable face in the first frame, fewer than `min_frames` frames, or a damaged file.
    """
    info, frames = open_video(path)
    shape, rows, count = (info.height, info.width), [], 0
    with FaceFinder() as finder:
        for count, frame in enumerate(islice(frames, config.frames), start=1):
            shape = frame.shape[:2]
            if count == 1:
                rows.append(detect(frame, path.name))
            elif config.crop == "face" and count % LOOK_EVERY == 1:
                rows.extend(finder.find(frame)[:1])
    if count < config.min_frames:
        raise UserError(
            f"{path.name} has {count} frames at {FRAME_RATE} a second, fewer than min_frames={config.min_frames}; set "
            f"min_frames={count}, or give longer clips"
        )
    box = clip_crop(shape, np.array(rows)) if config.crop == "face" else central_square(shape)
    return TrueClip(path, shape, box, config.size, count, info.rate)


def open_photo(path: Path, size: int) -> Source:
    """A photo of one face, cut as inference cuts it.

    Raises:
        UserError: no picture, or no usable face.
    """
    picture = read_picture(path)
    landmarks = detect(picture, path.name)
    return _source(picture, photo_crop(picture, landmarks), landmarks, size)


def central_square(shape: tuple[int, int]) -> Box:
    """The largest square in the middle of a picture of (H, W)."""
    side = min(shape)
    top, left = ((length - side) // 2 for length in shape)
    return Box(left, top, left + side, top + side)


def write_sound(clip: Path, frames: int, path: Path) -> bool:
    """The sound from the first picture on, cut or continued with silence to `frames`, as a mono WAV; False: no sound.

    Raises:
        UserError: the sound is damaged.
    """
    sound = read_sound(clip, optional=True)
    if sound is None:
        return False
    wave = sound.samples().mean(axis=1, dtype=np.float32)
    length = round(frames * sound.rate / FRAME_RATE)
    wave = np.pad(wave[:length], (0, max(0, length - len(wave))))
    with whole_file(path) as part:
        soundfile.write(part, np.nan_to_num(wave), sound.rate, format="WAV", subtype="PCM_16")
    return True


def _source(frame: np.ndarray, box: Box, landmarks: np.ndarray, size: int) -> Source:
    inside = crop_landmarks(landmarks, frame.shape[:2], box)
    return Source(frame, box, crop_picture(frame, box, size), inside)
