"""One case: its methods walk through it side by side, a frame at a time, and are compared with the true clip."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from modules.analysis.mediapipe_models import FaceFinder
from modules.analysis.segmentation import segment
from modules.face_models import load_face_model
from modules.media.audio import read_sound
from modules.media.video_writer import VideoWriter
from modules.metrics.masks import lost_person
from modules.system.errors import UserError
from modules.system.memory import return_freed_memory
from tasks.evaluation.cases import Case
from tasks.evaluation.checkpoints import is_checkpoint
from tasks.evaluation.clips import PHOTOS, list_videos, open_clip, open_photo, write_sound
from tasks.evaluation.facts import ClipFacts, find_facts, is_compared
from tasks.evaluation.figures import (
    Figures,
    PictureFigures,
    Speech,
    TrueFrame,
    own_sync_figures,
    series_figures,
    small,
    sync_figures,
)
from tasks.evaluation.lineup import motion_method, video_method
from tasks.evaluation.measures import AUDIO, OWN_SYNCNET, SAME
from tasks.evaluation.methods import Method, Scene, Truth
from tasks.evaluation.networks import load_networks
from tasks.evaluation.phones import phones_path, read_phones
from tasks.evaluation.results import Result, curves_of, stamp_of, video_path
from tasks.evaluation.settings import SOUND_DRIVEN, Entry, EvaluationConfig
from tasks.evaluation.tracing import MOST_FACES, Tracer

LEFT_OUT = "left out: "  # before the reason, where no method has a result of the case
AT_REST = (SAME, AUDIO)  # protocols whose first frame is to show the photo as it is
Value = TypeVar("Value")


def pending(case: Case, config: EvaluationConfig, keep: bool) -> dict[str, str]:
    """The methods that lack a result of a case (or its video, if it is to be kept), each with its stamp."""
    waiting = {}
    for name, entry in config.table.items():
        stamp = result_stamp(case, entry, config)
        result = Result.load(config.output, name, case.name)
        wanted = keep and config.protocol != "speech_to_motion" and result is not None and not result.error
        if (
            result is None
            or result.stamp != stamp
            or (wanted and not video_path(config.output, name, case.name).is_file())
        ):
            waiting[name] = stamp
    return waiting


def result_stamp(case: Case, entry: Entry | None, config: EvaluationConfig) -> str:
    """Changes with whatever changes the figures of a method (None: a baseline) in a case."""
    files = [case.source, case.driver, phones_path(case.driver)]
    if entry is not None and is_checkpoint(entry.folder):
        files.append(entry.folder)
    elif entry is not None:
        files += [path for name, path in list_videos(entry.folder)[0].items() if name == case.name]
    networks = sorted(load_networks(config).loaded)
    if OWN_SYNCNET in networks:
        files.append(config.syncnet)
    facts = [networks, config.sound_late.get(case.driver.stem, 0.0), (entry.renderer or "") if entry else ""]
    return stamp_of(config, facts, files)


def score_case(case: Case, config: EvaluationConfig, keep: bool) -> int:
    """Make the results of a case that are missing; how many were made.

    Args:
        keep: whether the videos of this case are kept.
    """
    waiting = pending(case, config, keep)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the figures are the same to the last digit, whatever the number of workers
    try:
        if waiting:
            _score(case, config, keep, waiting)
    finally:
        torch.set_num_threads(threads)
        return_freed_memory()
    return len(waiting)


def _score(case: Case, config: EvaluationConfig, keep: bool, waiting: dict[str, str]) -> None:
    blank = {
        name: Result(case.name, name, str(config.table[name] or "baseline"), stamp) for name, stamp in waiting.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            scene = read_scene(case, config, Path(folder))
            late = config.sound_late.get(case.driver.stem, 0.0)
            speech = Speech.read(scene.sound, late, read_phones(case.driver))
        except UserError as error:
            for result in blank.values():
                replace(result, error=f"{LEFT_OUT}{error}").save(config.output)
            return
        score = score_motion if config.protocol == "speech_to_motion" else score_pictures
        score(scene, speech, blank, config, keep)


def read_scene(case: Case, config: EvaluationConfig, folder: Path) -> Scene:
    """Photo, clip and sound of a case; the sound is written into `folder`.

    Raises:
        UserError: no usable face, too short, damaged, or no sound where sound drives; the case is left out.
    """
    facts = known_facts(case.driver, config)
    if case.source == case.driver:
        source = facts.clip.first()
    elif case.source.suffix.lower() in PHOTOS:
        source = open_photo(case.source, config.size)
    else:
        source = open_clip(case.source, config).first()
    path = folder / "sound.wav"
    wanted = config.protocol in SOUND_DRIVEN
    sound = path if wanted and write_sound(facts.clip.path, facts.clip.count, path) else None
    if wanted and sound is None:
        raise UserError(f"{facts.clip.path.name} has no sound track")
    return Scene(case, source, facts, sound)


def known_facts(video: Path, config: EvaluationConfig) -> ClipFacts:
    """The facts of a clip, from the output folder if they are there.

    Raises:
        UserError: what `find_facts` refuses.
    """
    path, stamp = config.output / "facts" / f"{video.stem}.npz", stamp_of(config, [], [video])
    facts = ClipFacts.load(path, stamp, video)
    if facts is None:
        facts = find_facts(video, config)
        facts.save(path, stamp)
    return facts


# ---- motion alone


def score_motion(
    scene: Scene, speech: Speech | None, blank: dict[str, Result], config: EvaluationConfig, keep: bool
) -> None:
    """Results of speech to motion."""
    truth = scene.facts.series
    for name, result in blank.items():
        try:
            method = motion_method(name, config.table[name], config)
            series = method.series(scene)
        except UserError as error:
            replace(result, error=str(error)).save(config.output)
            continue
        figures = series_figures(series, truth, speech, method.by_sound)
        figures |= own_sync_figures(load_networks(config), series, speech)
        counts = {"frames": len(truth), "made": len(series), "without_face": int((~series.seen).sum())}
        replace(result, origin=method.origin, figures=figures, counts=counts, curves=curves_of(series)).save(
            config.output
        )


# ---- pictures


class Entrant:
    """One method on its way through a case.

    Attributes:
        error: why frames are missing; empty otherwise.
    """

    def __init__(self, method: Method, scene: Scene, finder: FaceFinder, config: EvaluationConfig) -> None:
        self.method, self.scene, self.config = method, scene, config
        self.networks = load_networks(config)
        self.tracer = Tracer(finder, scene.clip.size)
        self.pictures = PictureFigures(self.networks, scene.source.picture, scene.source.landmarks * scene.clip.size)
        self.for_sync: list[np.ndarray] = []
        self.at_rest: Figures = {}
        self.error, self.asked, self.made, self.compared = "", 0, 0, 0
        self._frames: Iterator[np.ndarray] = self._attempt(lambda: iter(method.frames(scene))) or iter(())

    def next(self, true: np.ndarray) -> np.ndarray | None:
        """The next frame, None from where there is none on; `true` is that of the clip, which is decoded for all."""
        if self.is_truth:
            frame: np.ndarray | None = true
        else:
            frame = self._attempt(lambda: next(self._frames, None)) if not self.error else None
        self.asked += 1
        self.made += frame is not None
        if not self.is_truth:
            self.tracer.add(frame)
        if frame is not None and "syncnet" in self.networks.loaded:
            self.for_sync.append(small(frame))
        if frame is not None and self.asked == 1 and self.config.protocol in AT_REST:
            self.at_rest = {"lost_at_rest": lost_share(self.scene, frame, self.landmarks)}
        return frame

    @property
    def landmarks(self) -> np.ndarray:
        """Of the frame that `next` gave, [478, 2] pixels; NaN without a face."""
        return self.true_landmarks if self.is_truth else self.tracer.latest

    @property
    def true_landmarks(self) -> np.ndarray:
        """The same of the true frame."""
        return self.scene.facts.series.landmarks[self.asked - 1].double().numpy()

    def compare(self, frame: np.ndarray, true: np.ndarray, truth: TrueFrame | None) -> None:
        """A frame with the true one, as pixels and, where pictures are compared, with what is known of them."""
        if truth is not None:
            self.pictures.compare(frame, truth)
        self.pictures.describe(frame, self.landmarks, (true, self.true_landmarks))
        self.compared += 1

    def result(self, blank: Result, speech: Speech | None) -> Result:
        """The figures; without any frame only the reason."""
        blank = replace(blank, origin=self.method.origin, error=self.error)
        if not self.made:
            return replace(blank, error=self.error or "no frames")
        truth = self.scene.facts.series
        series = truth if self.is_truth else self.tracer.series(load_face_model(self.config.face_model))
        figures: Figures = {
            **self.pictures.figures(),
            **series_figures(series, truth, speech, self.method.by_sound),
            **sync_figures(self.networks, self.for_sync, series, speech),
            **own_sync_figures(self.networks, series, speech),
            **self.at_rest,
        }
        counts = {"frames": len(truth), "made": self.made, "compared": self.compared}
        counts["without_face"] = int((~series.seen).sum()) - (len(truth) - self.made)
        return replace(blank, figures=figures, counts=counts, curves=curves_of(series))

    @property
    def is_truth(self) -> bool:
        """Whether its series is known without looking."""
        return isinstance(self.method, Truth)

    def _attempt(self, step: Callable[[], Value]) -> Value | None:
        try:
            return step()
        except UserError as error:
            self.error = str(error)
            return None


def score_pictures(
    scene: Scene, speech: Speech | None, blank: dict[str, Result], config: EvaluationConfig, keep: bool
) -> None:
    """Results, and kept videos, of methods that make frames; holds one frame of each at a time."""
    with FaceFinder(MOST_FACES) as finder:
        entrants = []
        for name, result in blank.items():
            try:
                method = video_method(name, config.table[name], config)
            except UserError as error:
                replace(result, error=str(error)).save(config.output)
                continue
            entrants.append(Entrant(method, scene, finder, config))
        with ExitStack() as videos:
            writers: dict[str, VideoWriter] = {}
            number = 0
            for moment, true in enumerate(scene.clip.frames()):
                compared = is_compared(moment, config)
                pictures = compared and config.protocol == "same_identity"
                truth = TrueFrame(true, scene.facts.classes_of(number)) if pictures else None
                for entrant in entrants:
                    frame = entrant.next(true)
                    if frame is None:
                        continue
                    if compared:
                        entrant.compare(frame, true, truth)
                    if keep:
                        name = entrant.method.name
                        if name not in writers:
                            writers[name] = videos.enter_context(open_video_of(entrant, config))
                        writers[name].write(frame)
                number += compared
        for entrant in entrants:
            result = entrant.result(blank[entrant.method.name], speech)
            result.save(config.output, entrant.pictures.features)


def lost_share(scene: Scene, frame: np.ndarray, landmarks: np.ndarray) -> float:
    """`lost_at_rest` of a first frame, uint8 [S, S, 3], with its landmarks [478, 2] in pixels; NaN without a face."""
    if not np.isfinite(landmarks).all():
        return float("nan")
    made, photo = (
        torch.from_numpy(x.astype(np.int64)) for x in (segment(frame, landmarks / len(frame)), scene.classes)
    )
    return float(lost_person(made[None], photo))


def open_video_of(entrant: Entrant, config: EvaluationConfig) -> VideoWriter:
    """A writer of the kept video of an entrant, with the clip's sound."""
    clip = entrant.scene.clip
    path = video_path(config.output, entrant.method.name, entrant.scene.case.name)
    return VideoWriter(path, (clip.size, clip.size), sound=read_sound(clip.path, optional=True))
