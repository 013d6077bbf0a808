"""Real videos -> clips: one face without a cut, cropped, fitted, divided into classes, with its sound.

Every video is read twice, forwards: once for landmarks, once for the frames of the segments that are used; memory
does not grow with its length.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import tee
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError

from data_gen.audio_track import AudioTrack, speech_features
from data_gen.faces import FittedFace, fit_face
from data_gen.progress import PreparationLog, Refusal, VideoReport, is_finished
from data_gen.segments import Segment, find_segments, merged, without_jumps
from data_gen.sound_offset import lip_sync, sound_in_step
from data_gen.sources.base import SourceConfig, Video
from modules.analysis.clip_segmentation import segment_clip
from modules.analysis.inpainting import inpaint_background
from modules.clips.format import CannotWrite, ClipContent, has_sound, write_clip
from modules.clips.pncc import all_pncc
from modules.face_models import FACE_MODEL_FILES, load_face_model
from modules.media.rates import FRAME_RATE
from modules.system.assets import ANALYSIS, find_asset, require_assets
from modules.system.errors import UserError
from modules.system.processes import Engine, run_all

FAULTS = (UserError, ValueError, RuntimeError, ArithmeticError, cv2.error, FFmpegError)  # of a video, not a run


def prepare(config: SourceConfig, engine: Engine = run_all) -> Iterator[int | VideoReport | None]:
    """Make clips of the videos that are not done yet: first yields how many those are, then a report of each.

    Of a video that another run has finished in the meantime the report is None.

    Raises:
        UserError: no videos, a model file is missing, `folder` holds clips of other settings or cannot be written.
    """
    found = config.find()
    settings = {key: getattr(config, key) for key in ("face_model", "size", "pncc_size")}
    log = PreparationLog(Path(config.folder), settings)
    log.note_missing(found.missing)
    waiting = [video for video in found.videos if not log.is_done(video.name, video.size)]
    if waiting:
        check_models(config)
        log.forget([video.name for video in waiting])
    yield len(waiting)
    if log.shared:  # another run comes from the front
        middle = len(waiting) // 2
        waiting = waiting[middle:] + waiting[:middle]
    for report in engine(partial(_prepare_once, config), waiting, config.workers):
        if report is not None:
            log.add(report)
        yield report


def cost(report: VideoReport | None) -> float:
    """Seconds of one core that a video took."""
    return 0.0 if report is None else report.seconds


def _prepare_once(config: SourceConfig, video: Video) -> VideoReport | None:
    """`prepare_video`, unless another run has done it: then None."""
    if is_finished(Path(config.folder), video.name, video.size):
        return None
    return prepare_video(config, video)


def summary(config: SourceConfig) -> str:
    """Counts of what `folder` holds, in one line."""
    return PreparationLog(Path(config.folder), {}).summary()


def check_models(config: SourceConfig) -> None:
    """Find the files and packages that every video needs, so that the run stops instead of refusing all videos.

    Raises:
        UserError: one is missing; the message says how to get it.
    """
    require_assets((name,) for name in (*ANALYSIS, *FACE_MODEL_FILES.get(config.face_model, ())))
    for name in ANALYSIS:
        find_asset(name)
    load_face_model(config.face_model)
    config.feature_sources.check(config.features)
    if config.offset.check != "off":
        lip_sync(config.offset.syncnet)


def prepare_video(config: SourceConfig, video: Video) -> VideoReport:
    """Write the clips of one video that are not there yet; whatever is wrong with it is in the report.

    Raises:
        CannotWrite: the clips cannot be written.
    """
    report, began = VideoReport(name=video.name, size=video.size), time.process_time()
    refused: list[Segment] = []
    try:
        maker = _ClipMaker(config, video)
        for segment in find_segments(video.frames(), video.path.name, config.longest_frames, config.landmarks):
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
    refusals = _refusals(refused, report.clips > 0, config.shortest_frames)
    return replace(report, refused=refusals, seconds=time.process_time() - began)


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

    def __init__(self, config: SourceConfig, video: Video) -> None:
        self.config, self.video = config, video
        self._sound = AudioTrack(video.sound or video.path, 0.0 if video.sound else video.start)
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
        folder = Path(config.folder) / f"{self.video.name}_{piece.start:06d}"
        if folder.is_dir():
            return has_sound(folder)
        model = load_face_model(config.face_model)
        fitted = fit_face(model, piece.landmarks, piece.shape, config.limits)
        wave, late = sound_in_step(
            self._sound, piece.start, fitted.face, config.face_model, fitted.landmarks, config.offset
        )
        write_clip(folder, replace(self._content(piece, fitted, wave), sound_late=late))
        return wave is not None

    def _content(self, piece: Segment, fitted: FittedFace, wave: np.ndarray | None) -> ClipContent:
        config = self.config
        frames, classes = tee(segment_clip(self._part(piece), fitted.box, fitted.landmarks, config.size))
        pncc = all_pncc(load_face_model(config.face_model), fitted.face, config.pncc_size) if config.pncc_size else None
        first, last = (self.video.start + frame / FRAME_RATE for frame in (piece.start, piece.stop))
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
            source=f"{self.video.origin or self.video.path.name}, {first:.2f} to {last:.2f} s",
            licence=config.licence,
            person=self.video.person,
            video=self.video.name,
        )

    def _part(self, piece: Segment) -> Iterator[np.ndarray]:
        """Yield the frames of a piece; pieces must be asked for in order."""
        if self._frames is None:
            self._frames = self.video.frames()
        while self._position < piece.stop:
            frame = next(self._frames, None)
            if frame is None:
                raise UserError(f"{self.video.path.name} ends after {self._position / FRAME_RATE:.1f} s")
            self._position += 1
            if self._position > piece.start:
                yield frame
