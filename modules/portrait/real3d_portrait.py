"""Real3DPortrait: where image-to-plane, motion adapter, renderer and decoder meet (paper, figure of the whole model).

    photo -> ImageToPlane  -> P_cano -+
                                      +-> VolumeRenderer -> features -> HTB-SR (torso, background) -> frame
    PNCC  -> MotionAdapter -> P_diff -+

Stage 1 of the training has no motion adapter; stages 1 and 2 have the plain super-resolution as decoder.
See docs/spec/head.md#6.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.portrait.decoder import Decoded, Decoder
from modules.portrait.driving import Driving, PNCCInputs
from modules.portrait.image_to_plane import ImageToPlane
from modules.portrait.motion_adapter import MotionAdapter
from modules.portrait.photo import Photo
from modules.portrait.tri_grid import TriGridRefiner
from modules.rendering.renderer import RenderOutput, VolumeRenderer


@dataclass(frozen=True)
class Source:
    """Everything that depends on the photo alone.

    Attributes:
        planes: P_cano, [B, 3, C*D, H, W].
        decoder: what the decoder made of the photo; None where it needs nothing.
    """

    planes: Tensor
    decoder: Any


@dataclass(frozen=True)
class PortraitOutput:
    """B frames; n = neural resolution, S = image size.

    Attributes:
        rendered: feature image [B, C, n, n] (the first three channels are the colours, not clamped), depth and weights
            [B, 1, n, n] of the volume rendering, float32; the head alone.
        decoded: what the decoder made of it.
        planes: that were rendered, [B or 1, 3, C*D, H, W].
        motion_planes: P_diff, [B, 3, C*D, H, W]; None without PNCCs.
    """

    rendered: RenderOutput
    decoded: Decoded
    planes: Tensor
    motion_planes: Tensor | None

    @cached_property
    def image(self) -> Tensor:
        """The frame, float32 [B, 3, S, S] in [-1, 1]."""
        return self.decoded.image.float().clamp(-1, 1)

    @cached_property
    def image_raw(self) -> Tensor:
        """The colours of the volume rendering, [B, 3, n, n] in [-1, 1]."""
        return self.rendered.feature[:, :3].clamp(-1, 1)


class Real3DPortrait(nn.Module):
    """One photo -> frames of that person from any camera, with any expression.

    `encode` once a photo, then call the model per batch of frames. Modules may be float32 or bfloat16; rays, depths and
    the rendered feature image are always float32. `modules/portrait/build.py` makes the parts from a config.

    Args:
        motion_adapter: None in stage 1.
        decoder: an nn.Module; it is registered under its own name, which is the name of its weight file.
        neural_resolution: n, rays a side.
        tri_grid: refines the canonical planes of a tri-grid.
        plane_fusion: P_cano + P_diff (the paper), or times (an ablation of the original's code).
    """

    def __init__(
        self,
        image_to_plane: ImageToPlane,
        motion_adapter: MotionAdapter | None,
        renderer: VolumeRenderer,
        decoder: Decoder,
        neural_resolution: int,
        tri_grid: TriGridRefiner | None = None,
        plane_fusion: Literal["add", "mul"] = "add",
    ) -> None:
        super().__init__()
        self.image_to_plane = image_to_plane
        self.tri_grid = tri_grid
        self.motion_adapter = motion_adapter
        self.renderer = renderer
        self.add_module(decoder.part, cast(nn.Module, decoder))
        self.decoder_part = decoder.part
        self.neural_resolution = neural_resolution
        self.plane_fusion = plane_fusion

    @property
    def decoder(self) -> Decoder:
        """The plain super-resolution or HTB-SR."""
        return cast(Decoder, self.get_submodule(self.decoder_part))

    def encode(self, photo: Photo) -> Source:
        """Everything that depends on the photo alone."""
        return Source(planes=self.canonical_planes(photo), decoder=self.decoder.encode(photo))

    def forward(self, source: Source, driving: Driving, generator: torch.Generator | None = None) -> PortraitOutput:
        """Frames.

        Args:
            source: from `encode`, of batch B or 1.
            driving: of B frames.
            generator: on the CPU, for the ray samples; None: the same samples every time.
        """
        planes, motion = self.drive(source.planes, driving.pncc)
        rendered = self.render(planes, driving, generator)
        decoded = self.decoder.decode(rendered, source.decoder, driving.keypoints)
        return PortraitOutput(rendered=rendered, decoded=decoded, planes=planes, motion_planes=motion)

    def canonical_planes(self, photo: Photo) -> Tensor:
        """P_cano, [B, 3, C*D, H, W]."""
        return self.predict_planes(resize(photo.head, self.image_to_plane.config.input_size))

    def predict_planes(self, head: Tensor) -> Tensor:
        """The image-to-plane network on an image of its input size."""
        planes = self.image_to_plane(head.to(parameter_dtype(self.image_to_plane)))
        return planes if self.tri_grid is None else self.tri_grid(planes)

    def motion_planes(self, pncc: PNCCInputs) -> Tensor:
        """P_diff, [B, 3, C*D, H, W]."""
        adapter = self.adapter()
        stack = pncc.stack(adapter.config.pncc_inputs)
        pnccs = resize(stack.flatten(0, 1), adapter.config.input_size).unflatten(0, stack.shape[:2])
        return adapter(pnccs.to(parameter_dtype(adapter)))

    def drive(self, canonical: Tensor, pncc: PNCCInputs | None) -> tuple[Tensor, Tensor | None]:
        """The planes to render, and P_diff; P_cano [B or 1, 3, C*D, H, W] alone without PNCCs."""
        if pncc is None:
            return canonical, None
        motion = self.motion_planes(pncc)
        return self.fuse_planes(canonical, motion), motion

    def fuse_planes(self, canonical: Tensor, motion: Tensor) -> Tensor:
        """P_cano with P_diff. A batch of 1 serves all frames."""
        return canonical + motion if self.plane_fusion == "add" else canonical * motion

    def render(self, planes: Tensor, driving: Driving, generator: torch.Generator | None = None) -> RenderOutput:
        """Feature image, depth and weights at the neural resolution; see `VolumeRenderer.forward`."""
        return self.renderer(planes, driving.camera, self.neural_resolution, generator)

    def adapter(self) -> MotionAdapter:
        """The motion adapter. Raises ValueError in stage 1, which has none."""
        if self.motion_adapter is None:
            raise ValueError("this model has no motion adapter (stage 1); it cannot read PNCC")
        return self.motion_adapter
