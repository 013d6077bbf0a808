"""From the names of a config to methods that can be asked for frames or motion."""

from modules.rig.config import draws_by_rig
from modules.system.config import nearest
from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.checkpoints import Checkpoint, RigCheckpoint, is_checkpoint, load_checkpoint, load_speech
from tasks.evaluation.clips import list_videos
from tasks.evaluation.measures import measures_of
from tasks.evaluation.methods import Method, Similarity, Still, Truth, VideoFolder
from tasks.evaluation.motions import Loudness, MotionMethod, SpeechCheckpoint, StillMotion, TrueMotion
from tasks.evaluation.phones import read_phones
from tasks.evaluation.settings import SOUND_DRIVEN, Entry, EvaluationConfig

VIDEO_METHODS = {method.name: method for method in (Truth, Still, Similarity)}
MOTION_METHODS = {method.name: method for method in (TrueMotion, StillMotion, Loudness)}


def check_methods(config: EvaluationConfig, cases: list[Case]) -> list[str]:
    """Find what is wrong with the named folders before any work begins; what the report says of them.

    Raises:
        UserError: a folder is missing, holds neither a checkpoint nor a video, or does not suit the protocol; a file of
            phones cannot be read.
    """
    notes = []
    known = {measure.network for measure in measures_of(config.protocol)} - {""}
    for name in config.without:
        if name not in known:
            raise UserError(f"without names {name}, no network of {config.protocol}{nearest(name, known)}")
    for case in cases:
        read_phones(case.driver)
    for name, entry in config.named.items():
        folder = entry.folder
        if is_checkpoint(folder):
            load = load_speech if config.protocol == "speech_to_motion" else load_checkpoint
            load(folder, config.device)
        elif entry.renderer is not None:
            raise UserError(f"{folder} ({name}) holds no checkpoint; a renderer is for those alone")
        elif config.protocol == "speech_to_motion":
            raise UserError(f"{folder} ({name}) holds no checkpoint; videos have no place in speech_to_motion")
        elif folder == config.checkpoint:
            raise UserError(
                f"{folder} holds no checkpoint; videos of other methods are given as methods={{name: folder}}"
            )
        else:
            videos, others = list_videos(folder)
            notes += [f"{name}: {others} other files in {folder}: not used"] if others else []
            extra = sorted(videos.keys() - {case.name for case in cases})
            notes += [f"{name}: {len(extra)} videos of no case: {', '.join(extra[:5])}"] if extra else []
    return notes


def video_method(name: str, entry: Entry | None, config: EvaluationConfig) -> Method:
    """A method that makes frames."""
    if entry is None:
        return VIDEO_METHODS[name]()
    if not is_checkpoint(entry.folder):
        return VideoFolder(name, entry.folder, by_sound=config.protocol in SOUND_DRIVEN)
    return checkpoint_method(name, entry, config)


def checkpoint_method(name: str, entry: Entry, config: EvaluationConfig) -> Checkpoint:
    """A checkpoint of ours as the protocol drives it."""
    renderer = entry.renderer or ("rig" if draws_by_rig(entry.folder) else "planes")
    kind = RigCheckpoint if renderer == "rig" else Checkpoint
    drive = "sound" if config.protocol in SOUND_DRIVEN else "motion"
    return kind(name, str(entry), load_checkpoint(entry.folder, config.device), drive, config.seed)


def motion_method(name: str, entry: Entry | None, config: EvaluationConfig) -> MotionMethod:
    """A method that makes motion alone."""
    if entry is None:
        return MOTION_METHODS[name]()
    return SpeechCheckpoint(name, entry, config)
