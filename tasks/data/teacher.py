"""TeacherViews: what stage 1 learns from. Two makers: the procedural world, and a frozen EG3D generator."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.portrait.discriminator import DualView


@dataclass(frozen=True)
class TeacherBatch:
    """Views of B heads; the first is the reference, which stands for the photo.

    Attributes:
        views: of the same heads from several cameras.
        masks: bool [B, 1, H, W] of each view, true on the head; empty if the teacher does not know them.
    """

    views: list[DualView]
    masks: list[Tensor]


class TeacherViews(nn.Module):
    """Base of the teachers.

    Attributes:
        gives_masks: whether batches have masks.
    """

    gives_masks = False

    def train_dataset(self) -> Dataset:
        """Items for `forward`: a reference and a target view."""
        raise NotImplementedError

    def validation_dataset(self, people: int) -> Dataset:
        """Three views of each of `people` that no training sees: frontal, turned to both sides."""
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Tensor], neural_resolution: int) -> TeacherBatch:
        """A batch of items -> views, with image_raw at the neural resolution."""
        raise NotImplementedError

    def init_student(self, modules: Mapping[str, nn.Module]) -> None:
        """Give the student's modules what the teacher has of them; by default nothing."""
