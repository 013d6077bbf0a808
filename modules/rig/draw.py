"""Frames of a rig: triangles drawn once, small; colours looked up in the photo at the size of the frame."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.face3d.rasterizer import interpolate, rasterize
from modules.rig.filters import enlarged, gaussian, look_up, soft, widened
from modules.rig.landmark_mesh import COPIED
from modules.rig.motion import Pose
from modules.rig.rig import EYE_LAYER, MOUTH_LAYER, PhotoRig

_JUMP = 0.02  # fractions of the photo by which neighbours of one surface differ at most
_WELL_SEEN = 0.98
_SHARPEST = 0.3  # least stretch by which outlines are sharpened


@dataclass(frozen=True)
class RigFrames:
    """B frames of R pixels a side.

    Attributes:
        colour: [B, 3, R, R] in [-1, 1], the person without background.
        alpha: [B, 1, R, R] in [0, 1].
        depth: [B, 1, R, R] dm from the camera, 0 where nothing is.
        visibility: [B, 1, R, R] in [0, 1], 1 where the photo shows what is drawn, 0 where its mirror image stands in.
        stretch: [B, 1, R, R], pixels of the photo for one of the frame; small where the photo is stretched.
        eyes, mouth: [B, 1, R, R] in [0, 1], what is seen through the holes of the face.
    """

    colour: Tensor
    alpha: Tensor
    depth: Tensor
    visibility: Tensor
    stretch: Tensor
    eyes: Tensor
    mouth: Tensor

    def over(self, background: Tensor) -> Tensor:
        """The person before backgrounds [B or 1, 3, any, any] in [-1, 1]: [B, 3, R, R]."""
        size = self.colour.shape[-1]
        if background.shape[-1] != size:
            background = F.interpolate(background, (size, size), mode="bilinear", antialias=True)
        return background + self.alpha * (self.colour - background)


@dataclass(frozen=True)
class _Surface:
    """What lies at the pixels of B frames: attributes [B, R, R, 8], layer [B, R, R] (-1: nothing), depth [B, R, R]."""

    values: Tensor
    layer: Tensor
    depth: Tensor


@torch.no_grad()
def draw(
    rig: PhotoRig, expression: Tensor, euler: Tensor, translation: Tensor, closing: Tensor, size: int
) -> RigFrames:
    """Draw B frames.

    Args:
        expression: [B, 64]; euler: [B, 3] radians; translation: [B, 3] dm, of the head.
        closing: [B] in [0, 1], how far the eyes close on top of the expression.
        size: R, pixels a side.
    """
    pose = rig.skeleton.pose(expression, euler, translation, closing)
    surface = _surface(rig, pose, size)
    person, inner = surface.layer >= 0, surface.layer > 0
    scale = rig.eyes.shape[0]  # pixels of the photo
    colour = look_up(rig.texture, surface.values[..., :2] * scale + rig.margin)  # [B, R, R, 4]
    seen = torch.where(person & ~inner, surface.values[..., 4], 1.0)
    _mirror(rig, colour, seen, surface, scale)
    flow = surface.values[..., :2]
    edges = widened((_laplacian(flow) > _JUMP) & person & ~inner, 3)
    colour = torch.where(edges[..., None], _blurred(colour, 5, 1.2, keep_alpha=True), colour)
    _interior(rig, colour, surface, pose, scale)
    rim = widened(inner, 3) & widened(~inner, 3)
    colour = torch.where(rim[..., None], _blurred(colour, 3, 0.7, keep_alpha=True), colour)
    stretch = _stretch(flow, size)
    alpha = ((colour[..., 3] - 0.5) / stretch.clamp(_SHARPEST, 1) + 0.5).clamp(0, 1) * person
    alpha = alpha * (2 * gaussian(person[..., None].float(), 3, 0.8)[..., 0] - 1).clamp(0, 1)
    masks = [gaussian((surface.layer == k)[..., None].float(), 3, 0.7)[..., 0] for k in (EYE_LAYER, MOUTH_LAYER)]
    planes = (alpha, surface.depth, seen * person, stretch, *masks)
    picture = (2 * colour[..., :3] - 1).clamp(-1, 1).permute(0, 3, 1, 2).contiguous()
    return RigFrames(picture, *(plane[:, None] for plane in planes))


def _surface(rig: PhotoRig, pose: Pose, size: int) -> _Surface:
    """Draw the triangles at the size of the geometry and enlarge what they say, without mixing across edges."""
    small = min(rig.config.geometry, size)
    attributes = rig.attributes.repeat(len(pose.points), 1, 1)
    attributes[:, -len(COPIED) :, :4] = pose.interior
    fragments = rasterize(pose.points, rig.triangles, small)
    values = interpolate(fragments, attributes, rig.triangles).permute(0, 2, 3, 1)
    layer = torch.where(fragments.mask, rig.layers[fragments.triangle], -1)
    if small == size:
        return _Surface(values, layer, fragments.depth)
    edges = widened(_laplacian(values[..., :2]) > _JUMP, 3)
    values = torch.cat([values, fragments.depth[..., None]], dim=-1)
    near, smooth = enlarged(values, size, smooth=False), enlarged(values, size, smooth=True)
    marks = torch.stack([layer.float(), edges.float()], dim=-1)
    marks = enlarged(marks, size, smooth=False)
    values = torch.where(marks[..., 1:] > 0, near, smooth)
    return _Surface(values[..., :-1], marks[..., 0].long(), values[..., -1])


def _laplacian(flow: Tensor) -> Tensor:
    """Sum of the absolute Laplacians of a field [B, H, W, 2]: [B, H, W]; 0 at the border."""
    around = flow[:, :-2, 1:-1] + flow[:, 2:, 1:-1] + flow[:, 1:-1, :-2] + flow[:, 1:-1, 2:]
    inside = (around - 4 * flow[:, 1:-1, 1:-1]).abs().sum(-1)
    return F.pad(inside, (1, 1, 1, 1))


def _stretch(flow: Tensor, size: int) -> Tensor:
    """Pixels of the photo for one of the frame [B, H, W], were the photo of the frame's size."""
    across = (flow[:, :, 2:] - flow[:, :, :-2]).square().sum(-1) / 4
    down = (flow[:, 2:] - flow[:, :-2]).square().sum(-1) / 4
    return size * (F.pad(across, (1, 1)) + F.pad(down, (0, 0, 1, 1))).sqrt()


def _blurred(colour: Tensor, size: int, sigma: float, keep_alpha: bool) -> Tensor:
    """Colours [B, H, W, 4] blurred, alpha as it is."""
    return torch.cat([gaussian(colour, size, sigma)[..., :3], colour[..., 3:]], dim=-1) if keep_alpha else colour


def _mirror(rig: PhotoRig, colour: Tensor, seen: Tensor, surface: _Surface, scale: int) -> None:
    """Mix the twin's colours into `colour` [B, R, R, 4], in place, where the photo does not show a side of the face."""
    where = torch.nonzero((seen < _WELL_SEEN).flatten()).squeeze(1)
    if not len(where):
        return
    values, flat = surface.values.reshape(-1, 8)[where], colour.view(-1, 4)
    other = look_up(rig.texture, values[:, 2:4] * scale + rig.margin)
    other[:, :3] *= values[:, 5:8]
    flat[where] = torch.lerp(other, flat[where], values[:, 4:5])


def _interior(rig: PhotoRig, colour: Tensor, surface: _Surface, pose: Pose, scale: int) -> None:
    """Draw eyes and mouth into `colour` [B, R, R, 4], in place."""
    layer, values, flat = surface.layer.flatten(), surface.values.view(-1, 8), colour.view(-1, 4)
    eyes = torch.nonzero(layer == EYE_LAYER).squeeze(1)
    flat[eyes, :3] = look_up(rig.eyes, values[eyes, :2] * scale)
    flat[eyes, 3] = 1
    mouth = torch.nonzero(layer == MOUTH_LAYER).squeeze(1)
    frame = torch.div(mouth, surface.layer[0].numel(), rounding_mode="floor")
    gap = pose.opened.new_tensor(rig.skeleton.gap)
    invented = soft(2 - gap / 0.02) * soft(pose.opened / 0.04)  # a shut mouth shows no interior to reuse
    own = (2 * look_up(rig.opening, values[mouth, :2] * scale) - 1).clamp(0, 1) * (1 - invented[frame, None])
    painted = rig.mouth.paint(values[mouth, 2:4], pose.chin[frame], *pose.lips[frame].unbind(1))
    flat[mouth, :3] = torch.lerp(painted, flat[mouth, :3], own)
    flat[mouth, 3] = 1
