"""What is asked of all clips before a training begins, told by the index of a shard without a look into the clips.

Who is on which side, which clips have sound, and how long the batches of speech are depend on every clip. In a folder
each is opened for that; in an object store that would be a request a clip, or several.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from modules.audio.features import PitchKind
from modules.clips.shards import stored_summary
from modules.system.errors import UserError


@dataclass(frozen=True)
class ClipSummary:
    """A clip, as far as its data tell without pictures, coefficients and sound.

    Attributes:
        folder: of the clip, a path in a shard.
        person: whom it shows (`person_of`).
        face_model: name in the table of modules/face_models.py.
        frames: T.
        samples: of its sound at 16 kHz; 0: it has none.
        heard: whether it has a sound that is not silent throughout, or features of one (`has_sound`).
        features: of each kind that is stored, Tx (frames at 50 Hz) and the tracker of its pitch.
    """

    folder: Path
    person: str
    face_model: str
    frames: int
    samples: int
    heard: bool
    features: Mapping[str, tuple[int, PitchKind]]

    def __len__(self) -> int:
        return self.frames

    def __bool__(self) -> bool:
        return True

    def audio_length(self) -> int:
        """As of `Clip`."""
        return self.samples

    def stored_speech(self, kind: str) -> tuple[int, PitchKind] | None:
        """As of `Clip`."""
        return self.features.get(kind)

    def facts(self) -> dict[str, Any]:
        """What a shard's index stores of it (`write_shard`)."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}


def read_summary(clip: Path) -> ClipSummary | None:
    """What the index of a clip's shard says of it; None if it says nothing, or the clip is in none.

    Raises:
        UserError: the index is damaged.
    """
    facts = stored_summary(clip)
    if facts is None:
        return None
    try:
        features = {str(kind): (int(length), tracker(name)) for kind, (length, name) in facts["features"].items()}
        return ClipSummary(
            folder=clip,
            person=str(facts["person"]),
            face_model=str(facts["face_model"]),
            frames=int(facts["frames"]),
            samples=int(facts["samples"]),
            heard=bool(facts["heard"]),
            features=features,
        )
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"the index of {clip.parent} is damaged ({error}); pack its clips again") from error


def tracker(name: str) -> PitchKind:
    """A tracker of pitch by its name, which a file says; ValueError if there is none."""
    if name not in get_args(PitchKind):
        raise ValueError(f"pitch is {name!r}")
    return cast(PitchKind, name)
