"""Patches: small squares of a picture that are rendered alone, so that a step costs a fraction of a whole picture.

Most patches lie on the head, or on its mouth: that is where the detail is. A patch's camera is the picture's with
other intrinsics, so renderer and losses need not know. Not in the paper.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera
from modules.losses import image as losses
from modules.portrait.discriminator import DualView
from modules.portrait.real3d_portrait import Real3DPortrait
from tasks.stages.image_terms import mean_l1
from tasks.stages.terms import Term, Weights, weighted_terms

SIZE = 256                     # the side_range below are pixels of a picture of this size
_UNIFORM, _HEAD, _MOUTH = range(3)


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """How many rays a patch has, how large it is and where it lies."""

    rays: int = 32                        # a side
    count: int = 1                        # patches of each picture: they cost less than its planes
    side_range: tuple[int, int] = (128, 128)     # on the head or anywhere; pixels of a picture of 256
    mouth_side: int = 64
    uniform_share: float = 0.15           # share of patches anywhere; the others lie on the head or the mouth
    mouth_share: float = 0.0              # share of patches on the mouth, where it is known

    def __post_init__(self) -> None:
        low, high = self.side_range
        if not 0 < min(low, self.mouth_side) <= max(high, self.mouth_side) <= SIZE or low > high:
            raise ValueError(f"patches of {low} to {high} and {self.mouth_side} of {SIZE} pixels; "
                             "use 1 to 256, the smaller side first")
        if self.rays < 4 or self.count < 1:
            raise ValueError(f"{self.count} patches of {self.rays} rays a side; use at least 1 of 4")
        if min(self.uniform_share, self.mouth_share) < 0 or self.uniform_share + self.mouth_share > 1:
            raise ValueError(f"shares of patches: uniform_share {self.uniform_share}, mouth_share {self.mouth_share}; "
                             "they must be at least 0 and their sum at most 1")


@dataclass(frozen=True)
class Patches:
    """Squares in B pictures, those of one picture side by side; corner [B * count, 2] (x, y) and side [B * count] in
    picture widths, on the CPU."""

    corner: Tensor
    side: Tensor
    rays: int          # a side
    count: int         # in each picture

    def camera(self, camera: Camera) -> Camera:
        """Cameras [B] of pictures -> those of the patches [B * count]."""
        intrinsics = camera.intrinsics.repeat_interleave(self.count, dim=0)
        intrinsics[:, :2, 2] -= self.corner.to(intrinsics)
        intrinsics[:, :2] /= self.side.to(intrinsics)[:, None, None]
        return Camera(camera.camera_to_world.repeat_interleave(self.count, dim=0), intrinsics)

    def cut(self, pictures: Tensor) -> Tensor:
        """[B, C, H, W] -> float [B * count, C, rays, rays], means over the area of each ray."""
        height = pictures.shape[-1]
        corners, side_range = ((value * height).round().int().tolist() for value in (self.corner, self.side))
        parts = []
        for index, ((x, y), side) in enumerate(zip(corners, side_range)):
            part = pictures[index // self.count, None, :, y:y + side, x:x + side].float()
            parts.append(F.interpolate(part, (self.rays, self.rays), mode="area"))
        return torch.cat(parts)


def sample_patches(config: PatchConfig, head: Tensor, generator: torch.Generator,
                   mouth: Tensor | None = None) -> Patches:
    """Random patches.

    Args:
        head: bool [B, 1, H, W]; patches on the head are centred in its bounding box.
        generator: on the CPU.
        mouth: [B, 2] (x, y), its middle in picture widths, if known.
    """
    batch = len(head) * config.count
    place, centre, jitter, size = (torch.rand(batch, n, generator=generator) for n in (1, 2, 2, 1))
    grid = SIZE / 4                                             # whole pixels also of a small picture
    low, high = (side / SIZE for side in config.side_range)
    side = ((low + (high - low) * size) * grid).round() / grid
    kind = torch.where(place < config.uniform_share, _UNIFORM, _HEAD)
    if mouth is not None:
        kind = torch.where(place > 1 - config.mouth_share, _MOUTH, kind)
    first, last = (corner.repeat_interleave(config.count, dim=0) for corner in bounding_boxes(head.cpu()))
    middle = torch.where(kind == _UNIFORM, centre, first + (last - first) * centre)
    if mouth is not None:
        small = config.mouth_side / SIZE
        near = mouth.cpu().repeat_interleave(config.count, dim=0) + (jitter - 0.5) * small / 2
        middle = torch.where(kind == _MOUTH, near, middle)
        side = torch.where(kind == _MOUTH, small, side)
    corner = (((middle - side / 2) * grid).round() / grid).clamp(min=torch.zeros(()), max=1 - side)
    return Patches(corner, side[:, 0], config.rays, config.count)


def bounding_boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest (x, y) of the true pixels of bool [B, 1, H, W] in picture widths, [B, 2] each; the whole
    picture where there are none."""
    low, high = [], []
    for axis in (-2, -1):                                       # columns, then rows
        hit, size = mask[:, 0].any(dim=axis), mask.shape[-1]
        low.append(hit.int().argmax(dim=1) / size)
        high.append(1 - hit.flip(1).int().argmax(dim=1) / size)
    return torch.stack(low, dim=1), torch.stack(high, dim=1)


def mean_square(planes: Tensor) -> Tensor:
    """Mean square of the planes, which keeps them small."""
    return planes.float().square().mean()


PATCH_TERMS = {
    "image_raw": Term(mean_l1, ("image_raw", "target_raw")),
    "edges_raw": Term(losses.edge_l1, ("image_raw", "target_raw")),
    "mask": Term(losses.weights_mask, ("ray_weights", "head_raw")),
    "planes": Term(mean_square, ("planes",)),
}
PATCH_INPUTS = ("image_raw", "target_raw", "ray_weights", "head_raw", "planes")


def patch_losses(weights: Weights, patches: Patches, model: Real3DPortrait, planes: Tensor, target: DualView,
                 head: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Weighted losses of the raw colours, of their edges, of the ray weights and of the size of the planes.

    Args:
        weights: of `PATCH_TERMS`.
        planes: [B, 3, C*D, H, W].
        target: whole pictures.
        head: bool [B, 1, H, W].
    """
    of_patches = planes.repeat_interleave(patches.count, dim=0)
    rendered = model.renderer(of_patches, patches.camera(target.camera), patches.rays, generator)
    return weighted_terms(PATCH_TERMS, weights, {
        "image_raw": lambda: rendered.feature[:, :3], "target_raw": lambda: patches.cut(target.image),
        "ray_weights": lambda: rendered.weights, "head_raw": lambda: patches.cut(head) > 0.5,
        "planes": lambda: planes})
