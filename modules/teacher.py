"""The teacher of stage 1: samples identities and shows them from any camera."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from modules.geometry.camera import Camera

Identities = TypeVar("Identities")


@dataclass(frozen=True)
class TeacherViews:
    """N pictures of heads.

    Args:
        image: [N, 3, H, W] in [-1, 1], head only, -1 elsewhere.
        depth: [N, 1, H, W] along the optical axis, world units (0.27 a decimetre), 0 where no head is.
        camera: the N cameras.
    """

    image: Tensor
    depth: Tensor
    camera: Camera


class Teacher(Protocol, Generic[Identities]):
    """What stage 1 learns from: the frozen EG3D generator or the procedural world."""

    def sample(self, batch: int, generator: torch.Generator) -> Identities:
        """`batch` random identities."""

    def views(self, identities: Identities, camera: Camera, size: int) -> TeacherViews:
        """One picture of each identity from the camera of the same row."""
