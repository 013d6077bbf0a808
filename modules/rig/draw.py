"""Frames of a rig: triangles drawn once, small; colours looked up in the photo at the size of the frame."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.face3d.rasterizer import interpolate, rasterize
from modules.geometry.camera import FITTING_FOCAL_LENGTH
from modules.rig.edges import SEEN_AROUND, means_of_sides, sum_sides
from modules.rig.filters import enlarged, look_up, soft, widened
from modules.rig.holes import box_of, continued, ring_cover
from modules.rig.interior import Opening
from modules.rig.landmark_mesh import COPIED, MOUTH_RING
from modules.rig.motion import Pose
from modules.rig.rig import EYE_LAYER, MOUTH_LAYER, PERSON_LAYER, PhotoRig

_JUMP = 0.02  # fractions of the photo by which neighbours of one surface differ at most
_WELL_SEEN = 0.98
_RIM = 7  # pixels a side of the square in which the drawn mouth must be for its ring to count
_LIT, _DARKER = 0.8, 0.8  # opening, as a share of the photo's, below which a mouth gets darker, and by how much
_SHARPER = 2.0  # how much steeper than the blurred geometry the step at an edge is
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
        return (self.colour - background).mul_(self.alpha).add_(background)


@dataclass(frozen=True)
class _Surface:
    """What lies at the pixels of B frames, G pixels a side as the triangles were drawn, or R as the frame is.

    Attributes:
        skin: [B, G, G, 8], the attributes of the rig, continued from the face a little into its holes.
        inside: [B, G, G, 4], places of eyes and mouth in the photo and in the head, continued a little outwards.
        nearest: [R], for a row or column of the frame the one of the geometry.
        edges: [B, R, R] bool, where surfaces of different depth meet, or nothing is: there values must not be mixed.
        inner: [B, R, R] bool, those edges at which the person is on both sides.
        sides: [B, h, w, 18], the skin's attributes on both sides of these, as `sum_sides` gives them.
        corner: row and column of the geometry at which `sides` begins.
        shown: [B, R, R] bool, where something is.
        smooth: [B, R, R, 4] of the skin, place in the photo (2), depth, share of the own texture.
        soft: [B, R, R, 4], stretch, and how far a pixel is person, eyes, mouth.
    """

    skin: Tensor
    inside: Tensor
    nearest: Tensor
    edges: Tensor
    inner: Tensor
    sides: Tensor
    corner: tuple[int, int]
    shown: Tensor
    smooth: Tensor
    soft: Tensor

    def skin_at(self, pixels: Tensor) -> Tensor:
        """Attributes [N, 8] of the skin at pixels [N] of the frames, counted through; at edges those of the nearest."""
        return self._at(pixels, self.skin, edge=self.edges.flatten()[pixels])

    def inside_at(self, pixels: Tensor) -> Tensor:
        """Places [N, 4] of eyes and mouth."""
        return self._at(pixels, self.inside)

    def sides_at(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At inner edges: attributes [N, 8] of the nearer and of the farther side, and the former's share [N]."""
        return means_of_sides(self._at(pixels, self.sides, self.corner))

    def _at(
        self, pixels: Tensor, values: Tensor, corner: tuple[int, int] = (0, 0), edge: Tensor | None = None
    ) -> Tensor:
        """Values [N, K] of a field that begins at a corner of the geometry, mixed but for pixels that are an `edge`."""
        size, small = len(self.nearest), self.skin.shape[1]
        height, width = values.shape[1:3]
        rows = torch.div(pixels, size, rounding_mode="floor")
        frame, row, column = torch.div(rows, size, rounding_mode="floor"), rows % size, pixels % size
        corners = []
        for place, first, last in zip((row, column), corner, (height - 1, width - 1)):
            exact = (place + 0.5) * (small / size) - 0.5
            if edge is not None:
                exact = torch.where(edge, self.nearest[place].to(exact.dtype), exact)
            exact = (exact - first).clamp(0, last)
            low = exact.long()
            corners.append((low, (low + 1).clamp(max=last), exact - low))
        (top, bottom, down), (left, right, across) = corners
        top, bottom = (frame * height + top) * width, (frame * height + bottom) * width
        around = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=1)
        shares = torch.stack([1 - across, across, 1 - across, across], dim=1)
        shares *= torch.stack([1 - down, 1 - down, down, down], dim=1)
        return F.embedding_bag(around, values.flatten(0, 2), per_sample_weights=shares, mode="sum")


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
    scale = rig.eyes.shape[0]  # pixels of the photo
    colour = look_up(rig.texture, surface.smooth[..., :2] * scale + rig.margin)  # [B, R, R, 4]
    seen = surface.smooth[..., 3] * surface.shown
    _mirror(rig, colour, seen, surface, scale)
    _draw_edges(rig, colour, surface, scale)
    stretch, person, eyes, mouth = surface.soft.unbind(-1)
    mouth = ring_cover(pose.points[:, list(MOUTH_RING)], widened(mouth > 0, _RIM))
    eyes = (2 * eyes - 0.5).clamp(0, 1)
    _draw_eyes(rig, colour, surface, eyes, scale)
    _draw_mouth(rig, colour, surface, mouth, pose, scale)
    seen = torch.maximum(seen, torch.maximum(eyes, mouth))
    alpha = ((colour[..., 3] - 0.5) / stretch.clamp(_SHARPEST, 1) + 0.5).clamp(0, 1)
    alpha = alpha * (2 * person - 1).clamp(0, 1)
    picture = colour[..., :3].permute(0, 3, 1, 2).contiguous().mul_(2).sub_(1).clamp_(-1, 1)
    planes = (alpha, surface.smooth[..., 2], seen, stretch, eyes, mouth)
    return RigFrames(picture, *(plane[:, None] for plane in planes))


def _surface(rig: PhotoRig, pose: Pose, size: int) -> _Surface:
    """Draw the triangles at the size of the geometry and enlarge what they say, without mixing across edges."""
    small = min(rig.config.geometry, size)
    attributes = rig.attributes.repeat(len(pose.points), 1, 1)
    attributes[:, -len(COPIED) :, :4] = pose.interior
    attributes[..., 4] = 1 - pose.turned[:, None] * (1 - attributes[..., 4])
    attributes[:, rig.lips.rows, :2] += rig.lips.moved(pose.sealed)
    attributes[:, rig.lids.rows, 4] = rig.lids.shares(pose.shut)
    fragments = rasterize(pose.points, rig.triangles, small)
    values = interpolate(fragments, attributes, rig.triangles).permute(0, 2, 3, 1)
    layer = torch.where(fragments.mask, rig.layers[fragments.triangle], -1)
    holes = layer > PERSON_LAYER
    skin = continued(values, layer == PERSON_LAYER, holes)
    inside = continued(values[..., :4], holes, layer == PERSON_LAYER)
    jumps = (_laplacian(skin[..., :2]) > _JUMP) & ~widened(holes, 3)
    edges, inner = widened(jumps, 3), widened(jumps & ~widened(layer < 0, 3), 3)
    rows, columns = box_of(inner, SEEN_AROUND)
    sides = sum_sides(skin[:, rows, columns], (fragments.depth * (layer == PERSON_LAYER))[:, rows, columns])
    masks = [layer >= 0, layer == EYE_LAYER, layer == MOUTH_LAYER]
    smooth = torch.stack([*skin[..., :2].unbind(-1), fragments.depth, skin[..., 4]], dim=-1)
    soft_parts = torch.stack([_stretch(skin[..., :2]), *(mask.float() for mask in masks)], dim=-1)
    nearest = (torch.arange(size, device=layer.device) * 2 + 1) * small // (2 * size)
    near = enlarged(smooth, size)
    shown = layer >= 0
    if small != size:
        shown, edges, inner = _at_nearest([shown, edges, inner], nearest)
        frame, row, column = torch.nonzero(edges).unbind(1)
        near[frame, row, column] = smooth[frame, nearest[row], nearest[column]]
    corner = (rows.start, columns.start)
    return _Surface(skin, inside, nearest, edges, inner, sides, corner, shown, near, enlarged(soft_parts, size))


def _at_nearest(masks: list[Tensor], nearest: Tensor) -> list[Tensor]:
    """Up to four masks [B, G, G] bool enlarged to [B, R, R], by the rows and columns `nearest` [R]; all in one go."""
    unused = [masks[0]] * (4 - len(masks))
    four = torch.stack([*masks, *unused], dim=-1).view(torch.int32).squeeze(-1)
    large = four.index_select(1, nearest).index_select(2, nearest)
    return list(large[..., None].view(torch.bool).unbind(-1)[: len(masks)])


def _laplacian(flow: Tensor) -> Tensor:
    """Sum of the absolute Laplacians of a field [B, H, W, 2]: [B, H, W]; 0 at the border."""
    around = flow[:, :-2, 1:-1] + flow[:, 2:, 1:-1] + flow[:, 1:-1, :-2] + flow[:, 1:-1, 2:]
    x, y = (around - 4 * flow[:, 1:-1, 1:-1]).abs().unbind(-1)
    return F.pad(x + y, (1, 1, 1, 1))


def _stretch(flow: Tensor) -> Tensor:
    """Pixels of the photo for one of the frame [B, H, W], were the photo of the frame's size."""
    across, down = flow[:, :, 2:] - flow[:, :, :-2], flow[:, 2:] - flow[:, :-2]
    squares = (F.pad(d[..., 0] ** 2 + d[..., 1] ** 2, pad) for d, pad in ((across, (1, 1)), (down, (0, 0, 1, 1))))
    return flow.shape[1] / 2 * sum(squares).sqrt()


def _mirror(rig: PhotoRig, colour: Tensor, seen: Tensor, surface: _Surface, scale: int) -> None:
    """Mix the twin's colours into `colour` [B, R, R, 4], in place, where the photo does not show a side of the face."""
    wanted = (seen < _WELL_SEEN) & surface.shown & ~surface.inner
    pixels, flat = torch.nonzero(wanted.flatten()).squeeze(1), colour.view(-1, 4)
    flat[pixels] = _with_twin(rig, flat[pixels], surface.skin_at(pixels), scale)


def _draw_edges(rig: PhotoRig, colour: Tensor, surface: _Surface, scale: int) -> None:
    """Draw both sides of inner edges into `colour` [B, R, R, 4], in place, each by its share of a pixel."""
    pixels = torch.nonzero(surface.inner.flatten()).squeeze(1)
    if not len(pixels):
        return
    *sides, share = surface.sides_at(pixels)
    near, far = (
        _with_twin(rig, look_up(rig.texture, values[:, :2] * scale + rig.margin), values, scale) for values in sides
    )
    colour.view(-1, 4)[pixels] = torch.lerp(far, near, (_SHARPER * (share[:, None] - 0.5) + 0.5).clamp(0, 1))


def _with_twin(rig: PhotoRig, own: Tensor, values: Tensor, scale: int) -> Tensor:
    """Colours [N, 4] of the photo mixed with the twin's by the attributes [N, 8]."""
    other = look_up(rig.texture, values[:, 2:4] * scale + rig.margin)
    other[:, :3] *= values[:, 5:8]
    return torch.lerp(other, own, values[:, 4:5])


def _draw_eyes(rig: PhotoRig, colour: Tensor, surface: _Surface, cover: Tensor, scale: int) -> None:
    """Draw the eyes into `colour` [B, R, R, 4], in place, by the share `cover` [B, R, R] of each pixel."""
    pixels = torch.nonzero(cover.flatten()).squeeze(1)
    _lay_over(colour, look_up(rig.eyes, surface.inside_at(pixels)[:, :2] * scale), cover, pixels)


def _draw_mouth(rig: PhotoRig, colour: Tensor, surface: _Surface, cover: Tensor, pose: Pose, scale: int) -> None:
    """The same of the mouth: the photo's own as far as it shows one, else painted."""
    pixels = torch.nonzero(cover.flatten()).squeeze(1)
    frame, values = torch.div(pixels, cover[0].numel(), rounding_mode="floor"), surface.inside_at(pixels)
    gap = pose.opened.new_tensor(rig.skeleton.gap)
    invented = soft(2 - gap / rig.mouth.least_gap) * soft(pose.opened / 0.04)  # a shut mouth shows no interior to reuse
    own = look_up(rig.opening, values[:, :2] * scale)
    opening = Opening(pose.chin, pose.interior[:, 0, 2:], pose.interior[:, len(MOUTH_RING) // 2, 2:], pose.lips)
    pixel = rig.skeleton.mouth_distance / (FITTING_FOCAL_LENGTH * cover.shape[-1])  # a batch is painted alike
    painted = rig.mouth.paint(values[:, 2:4], frame, opening, pixel)
    share = own[:, 3:].clamp(0, 1) * (1 - invented[frame, None])
    dark = _DARKER * soft(1 - (pose.opened + gap) / (_LIT * gap).clamp(min=1e-3))  # little light enters between lips
    _lay_over(colour, torch.lerp(painted, own[:, :3] * (1 - dark[frame, None]), share), cover, pixels)


def _lay_over(colour: Tensor, inside: Tensor, cover: Tensor, pixels: Tensor) -> None:
    """Lay colours [N, 3] over `colour` [B, R, R, 4] at pixels [N], in place, by the share `cover` [B, R, R]."""
    flat, share = colour.view(-1, 4), cover.flatten()[pixels, None]
    flat[pixels, :3] = torch.lerp(flat[pixels, :3], inside, share)
    flat[pixels, 3] = torch.maximum(flat[pixels, 3], share[:, 0])
