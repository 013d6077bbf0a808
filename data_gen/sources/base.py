"""What every source of real videos has: the settings of its clips, and the videos or parts of videos that it finds."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_gen.audio_track import FeatureSources
from data_gen.faces import FaceLimits
from data_gen.sound_offset import OffsetConfig
from modules.analysis.crop import Box
from modules.analysis.inpainting import BackgroundMethod
from modules.analysis.tracking import LandmarkMethod
from modules.audio.features import FeatureKind, PitchKind
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.format import check_sides
from modules.face_models import check_face_model
from modules.media.rates import FRAME_RATE
from modules.media.video_reader import open_video

SMALLEST_WINDOW = 16  # pixels a side; less is a mistake in a list


@dataclass(frozen=True)
class Window:
    """A published rectangle of a video's picture.

    Attributes:
        left, top, right, bottom: fractions of the picture's sides, or pixels.
        height: pixels that the picture has where the others are pixels; 0: they are fractions.
    """

    left: float
    top: float
    right: float
    bottom: float
    height: float = 0.0

    def box(self, shape: tuple[int, ...], margin: float = 0.0) -> Box:
        """The part of a picture of shape (H, W, ...) in its pixels, at most the whole.

        Args:
            margin: shares of the rectangle's sides by which it is widened in every direction.
        """
        height, width = shape[:2]
        scale = (height / self.height,) * 2 if self.height else (width, height)
        across, down = margin * (self.right - self.left), margin * (self.bottom - self.top)
        left, right = ((v * scale[0]) for v in (self.left - across, self.right + across))
        top, bottom = ((v * scale[1]) for v in (self.top - down, self.bottom + down))
        box = (max(round(left), 0), max(round(top), 0), min(round(right), width), min(round(bottom), height))
        if min(box[2] - box[0], box[3] - box[1]) < SMALLEST_WINDOW:
            raise ValueError(f"the published rectangle leaves {box} of a picture of {width} x {height} pixels")
        return Box(*box)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video file, or a part of one, and what is known of it.

    Attributes:
        name: by which its clips begin; no two of a data set have the same.
        path: the file.
        size: bytes of the file.
        start, stop: the part of the file, seconds from its first picture on; stop None: its end.
        window: the part of the picture; None: all of it.
        margin: of the window (`Window.box`).
        sound: a file of the sound from `start` on; None: that of `path`.
        person: whom it shows, if the data set says so.
        origin: where it is from, for the notes in its clips; empty: the name of the file.
    """

    name: str
    path: Path
    size: int
    start: float = 0.0
    stop: float | None = None
    window: Window | None = None
    margin: float = 0.0
    sound: Path | None = None
    person: str = ""
    origin: str = ""

    def frames(self) -> Iterator[np.ndarray]:
        """Pictures uint8 [H, W, 3] of the part, 25 a second.

        Raises:
            UserError: the file cannot be read.
            ValueError: the window is none of its picture.
        """
        _, frames = open_video(self.path, start=self.start, stop=self.stop)
        return frames if self.window is None else self._cut(frames, self.window)

    def _cut(self, frames: Iterable[np.ndarray], window: Window) -> Iterator[np.ndarray]:
        for frame in frames:
            box = window.box(frame.shape, self.margin)
            yield np.ascontiguousarray(frame[box.top : box.bottom, box.left : box.right])


@dataclass(frozen=True)
class Found:
    """Videos that are there, and names of those that are not, each with what is missing."""

    videos: list[Video]
    missing: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class SourceConfig(ABC):
    """What clips are made of the videos that a source finds, whatever the source."""

    folder: str = "data/videos"  # to write the clips into
    face_model: str = "bfm"  # of modules/face_models.py
    size: int = 512  # pixels a side
    pncc_size: int = 0  # 0: do not store PNCCs
    features: tuple[FeatureKind, ...] = ("mel",)  # of the sound, to store
    hubert: str = DEFAULT_HUBERT  # folder or hub name, for the features "hubert"
    whisper: str = DEFAULT_WHISPER  # folder of scripts/convert_whisper.py, for the features "whisper"
    pitch: PitchKind = "praat"  # of the voice; world: by the package pyworld
    shortest: float = 2.0  # seconds
    longest: float = 20.0  # seconds; what is longer becomes several clips
    limits: FaceLimits = field(default_factory=FaceLimits)
    landmarks: LandmarkMethod = "corrected"  # as near to the original's as these to themselves; both: the original's
    inpainting: BackgroundMethod = "smooth"  # of the scene behind the person; nearest: the original's
    offset: OffsetConfig = field(default_factory=OffsetConfig)  # of the sound from the lips
    licence: str = ""  # noted in every clip: terms, or who allowed the use
    workers: int = 2  # processes

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        if self.size < 64 or self.size % 2 or self.pncc_size < 0 or self.workers < 1:
            raise ValueError(
                f"size {self.size} must be even and at least 64, pncc_size {self.pncc_size} not negative, "
                f"workers {self.workers} at least 1"
            )
        check_sides(self.size, self.pncc_size)
        if not 0.2 <= self.shortest <= self.longest:
            raise ValueError(f"shortest {self.shortest} must be from 0.2 to longest ({self.longest}) seconds")

    @abstractmethod
    def find(self) -> Found:
        """The videos of the source, sorted by name, no two of one name.

        Raises:
            UserError: there are none, or the lists that come with them cannot be read.
        """

    @property
    def feature_sources(self) -> FeatureSources:
        """Where the networks of `features` are."""
        return FeatureSources(hubert=self.hubert, whisper=self.whisper, pitch=self.pitch)

    @property
    def shortest_frames(self) -> int:
        return round(self.shortest * FRAME_RATE)

    @property
    def longest_frames(self) -> int:
        return round(self.longest * FRAME_RATE)
