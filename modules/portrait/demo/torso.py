"""The demo's torso: it starts as the moved torso of the photo; the network learns what is missing. Not in the paper."""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from modules.layers.resample import pixel_centres, resize
from modules.portrait.htbsr.torso import TorsoConfig, TorsoModel, TorsoSource, volume_grid


@dataclass(frozen=True)
class PhotoTorsoSource(TorsoSource):
    """Torso features of the portrait, and its torso image [B, 3, 2n, 2n]."""

    image: Tensor


class PhotoTorsoModel(TorsoModel):
    """The generated torso image is added to the moved torso of the photo."""

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__(config)
        nn.init.zeros_(self.deform_based_generator.out_conv.weight)  # start with the photo's torso alone

    def encode_source(self, torso: Tensor, classes: Tensor) -> PhotoTorsoSource:
        """As `TorsoModel.encode_source`, and the torso image."""
        source = super().encode_source(torso, classes)
        return PhotoTorsoSource(source.appearance, source.compressed, torso)

    def generate(self, source: TorsoSource, deformation: Tensor) -> tuple[Tensor, Tensor]:
        """Torso image and hidden features."""
        image, hidden = super().generate(source, deformation)
        photo = cast(PhotoTorsoSource, source).image.expand(len(deformation), -1, -1, -1)  # of `encode_source`
        return image + warp_image(photo, deformation), hidden


def warp_image(image: Tensor, deformation: Tensor) -> Tensor:
    """An image [B, 3, S, S] warped as the mean slice of a volume with the deformation [B, D, h, w, 3]."""
    depth, width = deformation.shape[1], deformation.shape[3]
    shift = (deformation.float() - volume_grid(depth, width, like=deformation)).mean(dim=1)[..., :2]  # [B, h, w, 2]
    shift = shift.movedim(-1, 1) * ((width - 1) / width)  # -1 and 1 are centres of end voxels there, edges here
    size = image.shape[-1]
    positions = pixel_centres(size, image.device) + resize(shift, size, antialias=False)
    moved = F.grid_sample(image.float(), positions.movedim(1, -1), padding_mode="border", align_corners=False)
    return moved.to(image.dtype)
