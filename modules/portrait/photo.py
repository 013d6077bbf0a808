"""Photo: what the model reads of the source photo, once."""

from dataclasses import dataclass

from torch import Tensor

from modules.geometry.camera import Camera


@dataclass(frozen=True)
class Surroundings:
    """The torso and background that HTB-SR puts around the head; B portraits. The images may have any size.

    Attributes:
        torso: [B, 3, any, any] in [-1, 1], the in-painted torso without the head, -1 elsewhere.
        classes: [B, 6, any, any], one-hot segmentation of the photo (modules/analysis/segmentation_classes.py).
        background: [B, 3, any, any] in [-1, 1], in-painted.
        keypoints: [B, 68, 3], landmarks of the photo in [-1, 1] (x right, y down, z 0); where key points are learned,
            those that the detector finds on it, [B, K, 3].
    """

    torso: Tensor
    classes: Tensor
    background: Tensor
    keypoints: Tensor


@dataclass(frozen=True)
class Photo:
    """B source photos.

    Attributes:
        head: [B, 3, any, any] in [-1, 1], everything but the head -1.
        camera: that saw the heads.
        surroundings: for HTB-SR; None in stages 1 and 2, which render the head alone.
    """

    head: Tensor
    camera: Camera
    surroundings: Surroundings | None = None
