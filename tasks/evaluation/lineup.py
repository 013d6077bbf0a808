"""From the names of a config to methods that can be asked for frames or motion."""

from pathlib import Path

from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.checkpoints import Checkpoint, is_checkpoint, load_checkpoint
from tasks.evaluation.clips import list_videos
from tasks.evaluation.methods import Method, Similarity, Still, Truth, VideoFolder
from tasks.evaluation.motions import Loudness, MotionMethod, SpeechCheckpoint, StillMotion, TrueMotion
from tasks.evaluation.settings import SOUND_DRIVEN, EvaluationConfig

VIDEO_METHODS = {method.name: method for method in (Truth, Still, Similarity)}
MOTION_METHODS = {method.name: method for method in (TrueMotion, StillMotion, Loudness)}


def check_methods(config: EvaluationConfig, cases: list[Case]) -> list[str]:
    """Find what is wrong with the named folders before any work begins; what the report says of them.

    Raises:
        UserError: a folder is missing, holds neither a checkpoint nor a video, or does not suit the protocol.
    """
    notes = []
    for name, folder in config.named.items():
        if is_checkpoint(folder):
            load_checkpoint(folder, config.device)
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


def video_method(name: str, folder: Path | None, config: EvaluationConfig) -> Method:
    """A method that makes frames."""
    if folder is None:
        return VIDEO_METHODS[name]()
    if not is_checkpoint(folder):
        return VideoFolder(name, folder, by_sound=config.protocol in SOUND_DRIVEN)
    drive = "sound" if config.protocol in SOUND_DRIVEN else "motion"
    return Checkpoint(name, folder, load_checkpoint(folder, config.device), drive, config.seed)


def motion_method(name: str, folder: Path | None, config: EvaluationConfig) -> MotionMethod:
    """A method that makes motion alone."""
    if folder is None:
        return MOTION_METHODS[name]()
    checkpoint = Checkpoint(name, folder, load_checkpoint(folder, config.device), "sound", config.seed)
    return SpeechCheckpoint(checkpoint, config.face_model)
