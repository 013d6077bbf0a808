"""The constants of the rig; lengths of the picture are fractions of its side, of the head decimetres."""

from dataclasses import dataclass

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
