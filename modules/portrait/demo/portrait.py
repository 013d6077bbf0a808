"""The demo's portrait: it starts from the photo projected on an average head, so minutes of training do."""

from typing import Any

import torch
from torch import Tensor

from modules.layers.precision import parameter_dtype
from modules.layers.resample import resize
from modules.portrait.demo.head_prior import (
    HeadPriorConfig,
    add_initial_planes,
    embed_motion_planes,
    init_decoder_for_prior,
    project_photo,
    project_pncc,
    warp_by_pncc,
)
from modules.portrait.driving import PNCCInputs
from modules.portrait.photo import Photo
from modules.portrait.real3d_portrait import Real3DPortrait


class HeadPriorPortrait(Real3DPortrait):
    """Real3DPortrait with the head prior of `modules/portrait/demo/head_prior.py`; not in the paper."""

    def __init__(self, *parts: Any, prior: HeadPriorConfig) -> None:
        super().__init__(*parts)
        self.prior = prior
        init_decoder_for_prior(self.renderer.decoder)

    @property
    def box_size(self) -> float:
        """Side of the cube of the planes, world units."""
        return self.renderer.config.box_size

    def canonical_planes(self, photo: Photo) -> Tensor:
        """P_cano, at the size of the embedded motion planes; its first channels start as the projected photo."""
        head = project_photo(photo.head, photo.camera, self.box_size, self.image_to_plane.config.input_size, self.prior)
        planes = self.predict_planes(head)
        if self.motion_adapter is not None:
            size = self.prior.motion_size(self.motion_adapter.config.input_size // 2)
            planes = resize(planes.flatten(0, 1), size).unflatten(0, planes.shape[:2])
        return add_initial_planes(planes, head, self.box_size, self.prior)

    def motion_planes(self, pncc: PNCCInputs) -> Tensor:
        """P_diff of the cube of the face, embedded in planes of the whole cube."""
        adapter = self.adapter()
        stack = pncc.stack(adapter.config.pncc_inputs)
        pnccs = project_pncc(stack.flatten(0, 1), self.box_size, adapter.config.input_size, self.prior)
        planes = adapter(pnccs.unflatten(0, stack.shape[:2]).to(parameter_dtype(adapter)))
        return embed_motion_planes(planes, self.box_size, self.prior, outside=float(self.plane_fusion == "mul"))

    def drive(self, canonical: Tensor, pncc: PNCCInputs | None) -> tuple[Tensor, Tensor | None]:
        """Fuse as in the paper, after the XY plane was warped by the correspondence of source and driving PNCC."""
        if pncc is None:
            return canonical, None
        source = pncc.source.expand(len(pncc.driving), -1, -1, -1)
        warped = warp_by_pncc(canonical, source, pncc.driving, self.box_size, self.prior)
        if torch.is_grad_enabled() or self.plane_fusion != "add":
            return super().drive(warped, pncc)
        motion = self.motion_planes(pncc)
        return warped.add_(motion), motion
