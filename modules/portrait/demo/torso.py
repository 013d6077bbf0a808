"""The demo's torso: it starts as the moved torso of the photo; the network learns what is missing. Not in the paper."""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from modules.layers.resample import pixel_centres, resize
from modules.portrait.htbsr.torso import TorsoConfig, TorsoModel, TorsoSource, volume_grid


@dataclass(frozen=True)
class PhotoTorsoSource(TorsoSource):
    """What the torso model needs to know about a portrait, and its torso picture [B, 3, 2n, 2n]."""

    picture: Tensor


class PhotoTorsoModel(TorsoModel):
    """The generated torso picture is added to the moved torso of the photo."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__(config)
        nn.init.zeros_(self.deform_based_generator.out_conv.weight)                # start with the photo's torso alone

    def encode_source(self, torso: Tensor, classes: Tensor) -> PhotoTorsoSource:
        """As `TorsoModel.encode_source`, and the picture."""
        source = super().encode_source(torso, classes)
        return PhotoTorsoSource(source.appearance, source.compressed, torso)

    def generate(self, source: TorsoSource, deformation: Tensor) -> tuple[Tensor, Tensor]:
        """Torso picture and hidden features."""
        image, hidden = super().generate(source, deformation)
        picture = cast(PhotoTorsoSource, source).picture.expand(len(deformation), -1, -1, -1)
        return image + moved_picture(picture, deformation), hidden


def moved_picture(picture: Tensor, deformation: Tensor) -> Tensor:
    """A picture [B, 3, S, S] moved as the mean slice of a volume with the deformation [B, D, h, w, 3]."""
    depth, width = deformation.shape[1], deformation.shape[3]
    shift = (deformation.float() - volume_grid(depth, width, like=deformation)).mean(dim=1)[..., :2]     # [B, h, w, 2]
    shift = shift.movedim(-1, 1) * ((width - 1) / width)                       # from centres of end voxels to edges
    size = picture.shape[-1]
    places = pixel_centres(size, picture.device) + resize(shift, size, antialias=False)
    moved = F.grid_sample(picture.float(), places.movedim(1, -1), padding_mode="border", align_corners=False)
    return moved.to(picture.dtype)
