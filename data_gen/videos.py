"""Real videos -> clips: one face without a cut, cropped, fitted, divided into classes, with its sound.

    python -m data_gen.run configs/data/videos.yaml videos=FOLDER folder=data/own face_model=ict

Every video is read twice, forwards: once for landmarks, once for the frames of the segments that are used; memory
does not grow with its length.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import tee
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError

from data_gen.audio_track import AudioTrack, FeatureSources, speech_features
from data_gen.faces import FaceLimits, FittedFace, cropped_with_classes, fit_face
from data_gen.progress import PreparationLog, Refusal, VideoReport
from data_gen.segments import Segment, find_segments, merged, without_jumps
from modules.analysis.inpainting import BackgroundMethod, inpaint_background
from modules.audio.features import FeatureKind, PitchKind
from modules.audio.hubert import DEFAULT_HUBERT
from modules.audio.whisper import DEFAULT_WHISPER
from modules.clips.format import CannotWrite, ClipContent, check_sides, write_clip
from modules.clips.pncc import all_pncc
from modules.face_models import FACE_MODEL_FILES, check_face_model, load_face_model
from modules.media.rates import FRAME_RATE
from modules.media.video_reader import open_video
from modules.system.assets import ANALYSIS, find_asset, require_assets
from modules.system.errors import UserError
from modules.system.processes import run_all

CLIP_DATA = "clip.npz"  # a folder with it is a prepared clip
SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
FAULTS = (UserError, ValueError, RuntimeError, ArithmeticError, cv2.error, FFmpegError)  # of a video, not a run


@dataclass(frozen=True, kw_only=True)
class VideoDataConfig:
    """The videos to read, and what clips are made of them.

    `videos` is a folder (searched with the folders in it and those that they link to), one file, or a pattern such as
    raw/*/*.mp4; what exists under that very name is taken as it is.
    """

    videos: str
    folder: str = "data/videos"
    face_model: str = "bfm"  # of modules/face_models.py
    size: int = 512  # pixels a side
    pncc_size: int = 0  # 0: do not store PNCCs
    features: tuple[FeatureKind, ...] = ("mel",)
    hubert: str = DEFAULT_HUBERT  # folder or hub name, for the features "hubert"
    whisper: str = DEFAULT_WHISPER  # folder of scripts/convert_whisper.py, for the features "whisper"
    pitch: PitchKind = "praat"  # of the voice; world: by the package pyworld
    shortest: float = 2.0  # seconds
    longest: float = 20.0  # seconds; what is longer becomes several clips
    limits: FaceLimits = field(default_factory=FaceLimits)
    inpainting: BackgroundMethod = "smooth"  # of the scene behind the person; nearest: the original's
    licence: str = ""  # noted in every clip: terms, or who allowed the use
    person: str = ""  # pattern that finds the person in the name of a video (`Video`); empty: a video is a person
    workers: int = 2

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
        try:
            re.compile(self.person)
        except re.error as error:
            raise ValueError(f"person is {self.person!r}, which is no regular expression: {error}") from error

    def person_in(self, video: str) -> str:
        """The person in the name of a video: the pattern's first group, or all that it finds; empty if nothing."""
        found = re.search(self.person, video)
        return (found[1] if found.re.groups else found[0]) or "" if found else ""

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


@dataclass(frozen=True)
class Video:
    """A file of `size` bytes, and the name by which its clips begin."""

    name: str
    path: Path
    size: int


def prepare(config: VideoDataConfig) -> Iterator[int | VideoReport]:
    """Make clips of the videos that are not done yet: first yields how many those are, then a report of each.

    Raises:
        UserError: no videos, a model file is missing, `folder` holds clips of other settings or cannot be written.
    """
    videos = find_videos(config.videos)
    settings = {key: getattr(config, key) for key in ("face_model", "size", "pncc_size")}
    log = PreparationLog(Path(config.folder), settings)
    missing = [video for video in videos if not log.is_done(video.name, video.size)]
    if missing:
        check_models(config)
        log.forget([video.name for video in missing])
    yield len(missing)
    for report in run_all(partial(prepare_video, config), missing, config.workers):
        log.add(report)
        yield report


def summary(config: VideoDataConfig) -> str:
    """Counts of what `folder` holds, in one line."""
    return PreparationLog(Path(config.folder), {}).summary()


def find_videos(videos: str) -> list[Video]:
    """The video files of a folder or pattern, sorted by name; hidden files are left out.

    Raises:
        UserError: there are none, or two would give clips of the same name.
    """
    root, pattern = _root_and_pattern(videos)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; set videos= to a folder or a pattern such as raw/*.mp4")
    paths = sorted(path for path in _matches(root, pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise UserError(f"no videos in {videos}; files must end in {', '.join(SUFFIXES)}")
    by_name: dict[str, Video] = {}
    for path in paths:
        name = re.sub(r"\s", " ", "_".join(path.relative_to(root).with_suffix("").parts))
        name = name.encode("utf-8", "replace").decode()
        if name in by_name:
            raise UserError(f"clips of {by_name[name].path} and {path} would have the same name; rename one of them")
        by_name[name] = Video(name, path, path.stat().st_size)
    return list(by_name.values())


def _root_and_pattern(videos: str) -> tuple[Path, tuple[str, ...]]:
    """The folder to look in and the pattern for what is in it, part by part; what exists as written is no pattern."""
    path = Path(videos)
    if path.is_file():
        return path.parent, (re.sub(r"([*?[])", r"[\1]", path.name),)
    if path.is_dir() or not _is_pattern(videos):
        return path, ("**", "*")
    count = next(
        i for i, part in enumerate(path.parts) if _is_pattern(part) and not Path(*path.parts[: i + 1]).is_dir()
    )
    return Path(*path.parts[:count]), path.parts[count:]


def _is_pattern(text: str) -> bool:
    return re.search(r"[*?[]", text) is not None


def _matches(folder: Path, pattern: Sequence[str]) -> set[Path]:
    """What matches a pattern such as ("**", "*.mp4") in a folder, without hidden files."""
    first, *rest = pattern
    if first == "**":
        return {path for inner in _folders(folder) for path in _matches(inner, rest or ["*"])}
    found = {folder / first}
    if _is_pattern(first):
        found = {path for path in _contents(folder) if fnmatchcase(path.name, first)}
    return {path for inner in found if inner.is_dir() for path in _matches(inner, rest)} if rest else found


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all in it. Links are followed after the others, and every folder is given once, by one name."""
    waiting, links, seen = [folder], [], set()
    while waiting or links:
        here = waiting.pop(0) if waiting else links.pop(0)
        real = here.resolve()
        if real not in seen:
            seen.add(real)
            yield here
            for inner in _contents(here):
                if inner.is_dir():
                    (links if inner.is_symlink() else waiting).append(inner)


def _contents(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files and without clips that were prepared there."""
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}); allow it, or set videos= to another") from error
    return [path for path in paths if not (path / CLIP_DATA).is_file()]


def check_models(config: VideoDataConfig) -> None:
    """Find the files and packages that every video needs, so that the run stops instead of refusing all videos.

    Raises:
        UserError: one is missing; the message says how to get it.
    """
    require_assets((name,) for name in (*ANALYSIS, *FACE_MODEL_FILES.get(config.face_model, ())))
    for name in ANALYSIS:
        find_asset(name)
    load_face_model(config.face_model)
    config.feature_sources.check(config.features)


def prepare_video(config: VideoDataConfig, video: Video) -> VideoReport:
    """Write the clips of one video that are not there yet; whatever is wrong with it is in the report.

    Raises:
        CannotWrite: the clips cannot be written.
    """
    report = VideoReport(name=video.name, size=video.size)
    refused: list[Segment] = []
    try:
        _, frames = open_video(video.path)
        maker = _ClipMaker(config, video)
        for segment in find_segments(frames, video.path.name, config.longest_frames):
            pieces = without_jumps(segment) if segment.landmarks is not None else []
            refused += [] if pieces else [segment]
            for piece in pieces:
                try:
                    has_sound = maker.make(piece)
                except CannotWrite:
                    raise
                except FAULTS as error:
                    refused.append(replace(piece, landmarks=None, reason=_line(error)))
                else:
                    report = report.with_clip(piece.length, has_sound)
    except CannotWrite:
        raise
    except FAULTS as error:
        refused.append(Segment(start=0, length=0, reason=_line(error)))
    return replace(report, refused=_refusals(refused, report.clips > 0, config.shortest_frames))


def _refusals(refused: list[Segment], useful: bool, shortest: int) -> tuple[Refusal, ...]:
    """The parts of a useful video that are long enough to be missed; of any other the main reason, for all of it."""
    parts = merged(refused)
    if not useful and parts:
        main = max(parts, key=lambda s: (s.length == 0, s.length))  # damage, or what lasts longest
        parts = [replace(main, start=0, length=parts[-1].stop)]
    return tuple(
        Refusal(s.start / FRAME_RATE, s.stop / FRAME_RATE, s.reason)
        for s in parts
        if not useful or s.length == 0 or s.length >= shortest
    )


def _line(error: Exception) -> str:
    """The message of an error without its advice, on one line."""
    return " ".join((str(error) or type(error).__name__).partition(";")[0].split())


class _ClipMaker:
    """Makes clips of the segments that were found: reads the frames of the video a second time, and its sound."""

    def __init__(self, config: VideoDataConfig, video: Video) -> None:
        self.config, self.video = config, video
        self._sound = AudioTrack(video.path)
        self._frames: Iterator[np.ndarray] | None = None
        self._position = 0

    def make(self, piece: Segment) -> bool:
        """Write a clip unless it exists; returns whether it has sound.

        Raises:
            UserError: the piece is refused.
        """
        config = self.config
        if piece.length < config.shortest_frames:
            raise UserError(f"only {piece.length / FRAME_RATE:.1f} s long (shortest {config.shortest:g})")
        wave = self._sound.piece(piece.start, piece.length)
        folder = Path(config.folder) / f"{self.video.name}_{piece.start:06d}"
        if folder.is_dir():
            return wave is not None
        model = load_face_model(config.face_model)
        fitted = fit_face(model, piece.landmarks, piece.shape, config.limits)
        write_clip(folder, self._content(piece, fitted, wave))
        return wave is not None

    def _content(self, piece: Segment, fitted: FittedFace, wave: np.ndarray | None) -> ClipContent:
        config = self.config
        frames, classes = tee(cropped_with_classes(self._part(piece), fitted, config.size))
        pncc = all_pncc(load_face_model(config.face_model), fitted.face, config.pncc_size) if config.pncc_size else None
        times = f"{piece.start / FRAME_RATE:.2f} to {piece.stop / FRAME_RATE:.2f} s"
        return ClipContent(
            frames=(frame for frame, _ in frames),
            classes=(mask for _, mask in classes),
            background=partial(inpaint_background, method=config.inpainting),
            face=fitted.face,
            face_model=config.face_model,
            landmarks=fitted.landmarks,
            audio=wave,
            speech=speech_features(wave, config.features, config.feature_sources),
            pncc=pncc,
            source=f"{self.video.path.name}, {times}",
            licence=config.licence,
            person=config.person_in(self.video.name),
            video=self.video.name,
        )

    def _part(self, piece: Segment) -> Iterator[np.ndarray]:
        """Yield the frames of a piece; pieces must be asked for in order."""
        if self._frames is None:
            _, self._frames = open_video(self.video.path)
        while self._position < piece.stop:
            frame = next(self._frames, None)
            if frame is None:
                raise UserError(f"{self.video.path.name} ends after {self._position / FRAME_RATE:.1f} s")
            self._position += 1
            if self._position > piece.start:
                yield frame
