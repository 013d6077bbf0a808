"""What makes heads and moves them for the server: one checkpoint, loaded once, and who draws. Slow; run in a lane."""

import argparse
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from inference.background import load_background
from inference.motion import Motion
from inference.options import LARGEST_AMOUNT, LARGEST_SEED
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.rig import RigPainter, procedural_rig_photo, rig_photo
from inference.run import parse_line
from inference.session import Session, SessionConfig
from inference.video import DEMO_PERSON, RIG_SIZE, layer_writer, make_frames, make_motion, shortened
from inference.web.config import ServerLimits
from inference.web.kinds import check_media, check_picture
from inference.web.refusals import renamed
from modules.media.audio import mono_pieces
from modules.media.container import open_media, picture_track, sound_track
from modules.media.content_credentials import Seal
from modules.media.pixels import to_pixels
from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.system.errors import UserError
from modules.system.files import named_file

Painter = RigPainter | Portrait
_PHOTO, _SOUND, _CLIP = "the photo", "the sound", "the clip"  # what uploads are called in messages
_COLOUR = re.compile(r"photo|#[0-9a-fA-F]{6}")
_FASTEST = 240  # frames a second of a clip


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of a video, with the meaning that they have on the command line.

    Attributes:
        seconds: only so much of the beginning, or None for all.
        background: "photo", or a colour such as "#204060"; never a file.
        layers: whether what the frames are made of is wanted, too.
    """

    pose: Literal["natural", "still", "orbit"] = "natural"
    blink: Literal["period", "none"] = "period"
    mouth_amplitude: float = 0.45
    temperature: float = 0.2
    seed: int = 0
    seconds: float | None = None
    background: str = "photo"
    layers: bool = False

    def __post_init__(self) -> None:
        for name in ("mouth_amplitude", "temperature"):
            if not 0 <= getattr(self, name) <= LARGEST_AMOUNT:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number from 0 to 1")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed is {self.seed}; give a whole number from 0 to {LARGEST_SEED}")
        if self.seconds is not None and not 0 < self.seconds < 1e6:
            raise ValueError(f"seconds is {self.seconds}; give a positive number")
        check_background(self.background)

    def namespace(self, speech: Path | None, driving: Path | None, layers: Path | None = None) -> argparse.Namespace:
        """The same as options of `inference.run`; without a file the embedded sentence is said.

        Args:
            layers: folder for them, or None.
        """
        inputs = [f"--audio={speech}"] if speech else [f"--driving={driving}"] if driving else []
        return parse_line(
            [
                *inputs,
                f"--pose={self.pose}",
                f"--blink={self.blink}",
                f"--mouth-amplitude={self.mouth_amplitude}",
                f"--temperature={self.temperature}",
                f"--seed={self.seed}",
                *([f"--seconds={self.seconds}"] if self.seconds is not None else []),
                *([f"--layers={layers}"] if layers is not None else []),
                "--output=talk.mp4",
            ]
        )


@dataclass(frozen=True)
class Media:
    """An upload that speaks or moves.

    Attributes:
        path: where it lies.
        seconds: of its sound, or of its pictures if they are longer.
        has_sound, has_pictures: what is in it.
    """

    path: Path
    seconds: float
    has_sound: bool
    has_pictures: bool

    def report(self) -> dict[str, object]:
        """What is said of it."""
        return {"seconds": round(self.seconds, 3), "sound": self.has_sound, "pictures": self.has_pictures}


@dataclass
class Making:
    """How far a video is.

    Attributes:
        total: frames that it will have, or None while its motion is not known.
        frames: that are drawn.
        motion: once it is known.
    """

    total: int | None = None
    frames: int = 0
    motion: Motion | None = None


def check_background(choice: str) -> None:
    """Refuse, with a ValueError, what is neither the photo's background nor a colour; a path could be a file here."""
    if not _COLOUR.fullmatch(choice):
        raise ValueError(f"background is {choice!r}; give photo, or a colour like #204060")


class Studio:
    """A checkpoint and who draws.

    Attributes:
        size: pixels a side of its frames.
    """

    def __init__(
        self,
        talker: TalkingPortrait,
        renderer: Literal["planes", "rig"],
        limits: ServerLimits,
        size: int | None = None,
        seal: Seal | None = None,
    ) -> None:
        """
        Args:
            size: of frames of the rig; the networks have one size.
            seal: signs videos; None: nobody does.
        """
        self._seal = seal
        self._talker, self._renderer, self._limits = talker, renderer, limits
        self.size = (size or RIG_SIZE) if renderer == "rig" else talker.size

    def portrait(self, photo: Path | None, face: int | None = None, anyway: bool = False) -> Painter:
        """Who is drawn: the face of an uploaded photo, or the embedded person.

        Args:
            face: which one from the left, counted from 0.
            anyway: use a face that is covered or seems to be no person's.
        Raises:
            UserError: it is no picture, or shows no usable face.
        """
        try:
            return self._of_person() if photo is None else self._of_photo(photo, face, anyway)
        except UserError as error:
            raise error if photo is None else renamed(error, photo, _PHOTO) from error

    def _of_person(self) -> Painter:
        if self._renderer == "planes":
            return self._talker.procedural_portrait(DEMO_PERSON)
        return self._rig(procedural_rig_photo(DEMO_PERSON, self._talker.face_model, self.size))

    def _of_photo(self, photo: Path, face: int | None, anyway: bool) -> Painter:
        check_picture(photo, self._limits.photo_pixels)
        if self._renderer == "planes":
            return self._talker.portrait(photo, face, anyway=anyway)
        return self._rig(rig_photo(photo, self._talker.face_model, self.size, face, anyway))

    def _rig(self, photo: object) -> RigPainter:
        talker = self._talker
        return RigPainter(photo, talker.face_model, self.size, talker.device, talker.rig)

    def picture(self, painter: Painter) -> np.ndarray:
        """The square of the photo that is drawn, uint8 [S, S, 3]."""
        return to_pixels(painter.picture)[0]

    def media(self, path: Path) -> Media:
        """What an upload holds.

        Raises:
            UserError: neither sound nor moving pictures that can be decoded; longer or larger than allowed.
        """
        try:
            return self._media(path)
        except UserError as error:
            raise renamed(error, path, _SOUND) from error

    def _media(self, path: Path) -> Media:
        check_media(path)
        with open_media(path) as container:
            has_sound, has_pictures = sound_track(container) is not None, picture_track(container) is not None
        if not has_sound and not has_pictures:
            raise UserError("the file has neither sound nor moving pictures; use a recording or a video")
        most = self._limits.speech_seconds
        seconds = 0.0
        if has_pictures:
            seconds = _clip_seconds(path, most)
            info, _ = open_video(path)
            if info.width * info.height > self._limits.clip_pixels:
                raise UserError(
                    f"the clip is {info.width} x {info.height}; make it smaller than "
                    f"{self._limits.clip_pixels / 1e6:g} million pixels a frame"
                )
        if has_sound:
            samples = 0
            for piece in mono_pieces(path, SAMPLE_RATE):
                samples += len(piece)
                seconds = max(seconds, samples / SAMPLE_RATE)
                _check_seconds(seconds, most)
        return Media(path, seconds, has_sound, has_pictures)

    def session(self, painter: Painter, config: SessionConfig, background: str) -> Session:
        """A head that speaks live."""
        return self._talker.session(painter, config, load_background(background, self.size))

    def video(
        self, painter: Painter, options: argparse.Namespace, background: str, output: Path, making: Making
    ) -> Iterator[None]:
        """Make a video step by step: with each `next` a little is done and `making` says how far it is.

        Args:
            options: of `VideoOptions.namespace`.
            output: an .mp4, which is there when the steps are over; closing them before leaves nothing. With the
                option layers also PATH.zip, where that says PATH.
        Raises:
            UserError: an input cannot be used, or the disk is full.
        """
        given = options.audio or options.driving
        try:
            motion, sound = make_motion(options, self._talker)
        except UserError as error:
            raise error if given is None else renamed(error, given, _CLIP if options.driving else _SOUND) from error
        making.motion = shortened(motion, options)
        making.total = len(making.motion)
        if options.layers and making.total > self._limits.layers_seconds * FRAME_RATE:
            raise UserError(f"layers are given of at most {self._limits.layers_seconds:g} seconds; make it shorter")
        yield
        behind = load_background(background, self.size)
        writer = layer_writer(options, painter, behind)
        frames = make_frames(options, self._talker, painter, making.motion, behind, writer)
        with (
            writer or nullcontext(),
            VideoWriter(output, (self.size, self.size), sound=sound, seal=self._seal) as video,
        ):
            for frame in frames:
                video.write(frame)
                making.frames += 1
                yield
        if options.layers:
            yield from _zipped(options.layers)


def _zipped(folder: Path) -> Iterator[None]:
    """Put the files of a folder into FOLDER.zip, one with each `next`; the folder is deleted."""
    archive = folder.with_name(f"{folder.name}.zip")
    try:
        with named_file(archive) as part, ZipFile(part, "w", ZIP_STORED) as pack:  # PNGs are compressed already
            for path in sorted(folder.rglob("*.png")):
                pack.write(path, path.relative_to(folder))
                yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clip_seconds(path: Path, most: float) -> float:
    """From the first to the last picture by their times, without decoding any."""
    times: list[float] = []
    with open_media(path) as container:
        track = picture_track(container)
        for number, packet in enumerate(container.demux(track)):
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base)
                times = [min([time, *times[:1]]), max([time, *times[1:]])]
                _check_seconds(times[1] - times[0], most)
            _check_seconds(number / _FASTEST, most)
    return times[1] - times[0] if times else 0.0


def _check_seconds(seconds: float, most: float) -> None:
    if seconds > most:
        raise UserError(f"the file is longer than {most:g} seconds; cut it")
