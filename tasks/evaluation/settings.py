"""The settings of an evaluation: protocol, clips, methods, sizes. One YAML of configs/evaluate/, keys overridable."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modules.face_models import check_face_model
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.config import from_dict, load_yaml

Protocol = Literal["same_identity", "cross_identity", "audio_driven", "speech_to_motion"]
Renderer = Literal["planes", "rig"]
# Keys that change no figure by themselves: runs that differ in them share their results.
# fmt: off
FREE_KEYS = ("output", "methods", "checkpoint", "keep", "videos", "clips", "sources", "pairs", "sound_late", "samples",
             "syncnet", "without")
# fmt: on
SOUND_DRIVEN = ("audio_driven", "speech_to_motion")  # protocols in which nothing but the sound may drive
VIDEO_BASELINES = ("truth", "still", "similarity")
MOTION_BASELINES = ("truth", "still", "loudness")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a method's frames come from.

    Attributes:
        folder: a checkpoint of ours, or the videos of any method.
        renderer: who draws what the checkpoint moves: its networks, or the photo itself in 3D; None: whoever draws in
            `inference.run`.
    """

    folder: Path
    renderer: Renderer | None = None

    def __str__(self) -> str:
        return str(self.folder) if self.renderer is None else f"{self.folder}, renderer {self.renderer}"


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The keys of an evaluation.

    Attributes:
        protocol: same_identity, cross_identity, audio_driven or speech_to_motion (docs/evaluation.md).
        videos: folder of true clips.
        output: folder of results.
        checkpoint: folder of ours, called by its name in the table; none for other methods alone.
        methods: name -> folder of another checkpoint, or of the videos of any method, one a case, named as the case;
            or an `Entry`.
        sources: photos and clips of the people to drive, cross identity; none takes the first frames of `videos`.
        pairs: (source, driver) names, cross identity; none pairs source i with clip i + 1.
        size: S, pixels a side at which pictures are compared.
        frames: at most so many of a clip, 25 a second; `min_frames`: shorter clips are left out.
        clips: at most so many, in the order of their names.
        picture_every: pictures are compared in every k-th frame; landmarks are found in every one.
        crop: "face" cuts the square around the face out of the true clip; "whole" its central square.
        sound_late: clip -> frames (of 25 a second) by which its sound comes after its lips.
        without: networks (of the table of measures) that are not used, with their measures; all others are fast.
        syncnet: checkpoint or run of this project's SyncNet, for `sync_own_c` and `sync_own_d`.
        face_model: of the fits behind AED and APD (modules/face_models.py).
        keep: videos of the first so many cases are kept, for sheets, side-by-side videos and the user study.
        samples: of the bootstrap, and its `seed`.
    """

    protocol: Protocol
    videos: Path
    output: Path = Path("evaluation")
    checkpoint: Path | None = None
    methods: dict[str, Path | Entry] = field(default_factory=dict)
    sources: Path | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    size: int = 512
    frames: int = 200
    min_frames: int = 50
    clips: int = 100
    picture_every: int = 5
    crop: Literal["face", "whole"] = "face"
    sound_late: dict[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    syncnet: Path = DEMO_CHECKPOINT / "syncnet"
    face_model: str = "procedural"
    device: str = "auto"
    keep: int = 10
    samples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        for name, least in {
            "size": 64,
            "frames": 2,
            "min_frames": 2,
            "clips": 1,
            "picture_every": 1,
            "keep": 0,
            "samples": 100,
        }.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.frames < self.min_frames:
            raise ValueError(
                f"frames is {self.frames}, fewer than min_frames ({self.min_frames}), so that every clip would be left "
                f"out; set min_frames={self.frames}, too"
            )
        for name in self.named:
            if (
                name in (*VIDEO_BASELINES, *MOTION_BASELINES)
                or not name
                or any(letter in name for letter in "/\\")
                or name.startswith(".")
            ):
                raise ValueError(f"a method cannot be called {name!r}; that is a baseline's name or no file name")
        if self.checkpoint and self.checkpoint.name in self.methods:
            raise ValueError(f"{self.checkpoint.name} is the name of the checkpoint and of a method; rename the method")

    @property
    def named(self) -> dict[str, Entry]:
        """All methods that were asked for by name: the checkpoint first."""
        own = {self.checkpoint.resolve().name: self.checkpoint} if self.checkpoint else {}
        both = {**own, **self.methods}
        return {name: entry if isinstance(entry, Entry) else Entry(folder=entry) for name, entry in both.items()}

    @property
    def table(self) -> dict[str, Entry | None]:
        """All methods in the order of the table; baselines, which are always in it, have no entry."""
        baselines = MOTION_BASELINES if self.protocol == "speech_to_motion" else VIDEO_BASELINES
        return {**dict.fromkeys(baselines), **self.named}


def read_evaluation(path: Path, overrides: Iterable[str] = ()) -> EvaluationConfig:
    """Read a YAML and `key=value` changes of it.

    Raises:
        UserError: a wrong key or value, with the file.
    """
    return from_dict(EvaluationConfig, load_yaml(path, overrides))
