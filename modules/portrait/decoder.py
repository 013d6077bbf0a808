"""The decoder slot of Real3DPortrait: rendered features -> final image, by the plain super-resolution or by HTB-SR."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.portrait.photo import Photo
from modules.rendering.renderer import RenderOutput
from modules.rendering.superresolution import Superresolution


@dataclass(frozen=True)
class Decoded:
    """Final images; S is their size.

    Attributes:
        image: [B, 3, S, S], not clamped.
        alpha: [B, 1, S, S] in [0, 1], where the person covers the background.
    """

    image: Tensor
    alpha: Tensor


class Decoder(Protocol):
    """A module that fits into the slot. Its weights are saved as PART.safetensors."""

    part: str

    @property
    def resolution(self) -> int:
        """S, pixels a side of the images."""

    def encode(self, photo: Photo) -> Any:
        """Everything that depends on the photo alone, as `decode` takes it."""

    def decode(self, rendered: RenderOutput, source: Any, keypoints: Tensor | None) -> Decoded:
        """Images of B frames; `keypoints` as in `Driving`."""


class HeadDecoder(Superresolution):
    """Stages 1 and 2: super-resolution of the head alone, on black."""

    part = "superresolution"

    @property
    def resolution(self) -> int:
        """S, pixels a side of the images."""
        return self.config.resolution * self.config.scale

    def encode(self, photo: Photo) -> None:
        """Nothing of the photo is read: the image shows the rendered head alone."""

    def decode(self, rendered: RenderOutput, source: None, keypoints: Tensor | None) -> Decoded:
        """Images of B frames; key points are not read."""
        feature = rendered.feature.to(parameter_dtype(self))
        image = self(feature[:, :3], feature)
        return Decoded(image, resize(rendered.weights.clamp(0, 1), self.resolution))
