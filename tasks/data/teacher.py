"""TeacherViews: the interface of the teachers of stage 1, which are a frozen EG3D (as in the paper) or procedural."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.portrait.discriminator import DualView


@dataclass(frozen=True)
class TeacherBatch:
    """Views of B heads; the first is the reference view, which the student reads as its photo.

    Attributes:
        views: images of the same heads from several cameras.
        masks: bool [B, 1, H, W] of each view, true on the head; empty if the teacher does not know them.
    """

    views: list[DualView]
    masks: list[Tensor]


class TeacherViews(nn.Module):
    """Base class of the teachers.

    Attributes:
        gives_masks: whether batches have masks.
    """

    gives_masks = False

    def train_dataset(self) -> Dataset:
        """Items for `forward`, each a reference view and a target view of one head."""
        raise NotImplementedError

    def validation_dataset(self, people: int) -> Dataset:
        """Items of `people` heads that no training sees, each with three views: frontal, turned to either side."""
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Tensor], neural_resolution: int) -> TeacherBatch:
        """The views of a batch of items, with image_raw at the neural resolution."""
        raise NotImplementedError

    def init_student(self, modules: Mapping[str, nn.Module]) -> None:
        """Copy the teacher's weights to the student's modules where both have them; by default nothing.

        Raises:
            UserError: the student cannot learn from this teacher.
        """
