"""The constants of the rig; lengths of the picture are fractions of its side, of the head decimetres."""

from dataclasses import dataclass
from pathlib import Path

from modules.system.config import from_dict, load_yaml
from modules.system.errors import UserError

CHECKPOINT_PART = "rig"  # of a checkpoint whose photos are drawn by the rig unless something else is asked for
REFERENCE = 512  # pixels a side at which masks and fillings are computed, whatever the photo's size


@dataclass(frozen=True, kw_only=True)
class RigConfig:
    """How a photo becomes a rig and how frames are drawn.

    Attributes:
        cells: of the sheet along a side of the photo.
        margin: how far the texture goes on, mirrored, beyond the border of the photo; fraction of its side.
        outline_depth, hair_depth: dm, how far the person's outline lies behind the origin of the face model where no
            hair hangs beside the face, and where it does.
        neck_depth: dm, how far neck and torso lie before that.
        sway: share of the head's way that shoulders go, sideways, up and down.
        geometry: pixels a side at which triangles are drawn; colours are looked up at the size of the frame.
    """

    cells: int = 64
    margin: float = 0.125
    outline_depth: float = 0.3
    hair_depth: float = 0.7
    neck_depth: float = 0.45
    sway: float = 0.7
    geometry: int = 256

    def __post_init__(self) -> None:
        for name, low, high in (("cells", 16, 256), ("margin", 0, 0.5), ("geometry", 32, 2048)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be from {low} to {high}")


def draws_by_rig(checkpoint: Path) -> bool:
    """Whether a checkpoint's photos are drawn by the rig unless something else is asked for."""
    return (checkpoint / CHECKPOINT_PART / "config.yaml").is_file()


def read_rig_config(checkpoint: Path) -> RigConfig:
    """The settings in CHECKPOINT/rig/config.yaml; the usual ones if there are none.

    Raises:
        UserError: a wrong key or value; the message names the file.
    """
    if not draws_by_rig(checkpoint):
        return RigConfig()
    path = checkpoint / CHECKPOINT_PART / "config.yaml"
    try:
        return from_dict(RigConfig, load_yaml(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
