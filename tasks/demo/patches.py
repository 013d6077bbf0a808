"""Patch-based training: small squares of an image are rendered alone, which costs a fraction of the whole image.

Most patches lie on the head or on the mouth, where the detail is. A patch has the camera of its image with other
intrinsics, so that renderer and losses see an ordinary image. This is not in the paper.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.clips.fields import FIELDS
from modules.geometry.camera import Camera
from modules.losses import image as losses
from modules.portrait.discriminator import DualView
from modules.portrait.real3d_portrait import Real3DPortrait
from tasks.stages.image_terms import ImageError, image_error, mean_l1
from tasks.stages.terms import NEAR_PICTURES, Input, Inputs, Term, Terms

SIZE = 256  # sides of patches are given in pixels of an image of this size
_UNIFORM, _HEAD, _MOUTH = range(3)


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """How many rays a patch has, how large it is and where in the image it lies."""

    rays: int = 32  # a side
    count: int = 1  # patches of an image; several cost less than the planes that they share
    side_range: tuple[int, int] = (128, 128)  # of patches on the head or anywhere; pixels at SIZE
    mouth_side: int = 64  # of patches on the mouth; pixels at SIZE
    uniform_share: float = 0.15  # share of patches anywhere; the others lie on the head or the mouth
    mouth_share: float = 0.0  # share of patches on the mouth, if its position is known

    def __post_init__(self) -> None:
        low, high = self.side_range
        if not 0 < min(low, self.mouth_side) <= max(high, self.mouth_side) <= SIZE or low > high:
            raise ValueError(
                f"patches of {low} to {high} and {self.mouth_side} of {SIZE} pixels; "
                "use 1 to 256, the smaller side first"
            )
        if self.rays < 4 or self.count < 1:
            raise ValueError(f"{self.count} patches of {self.rays} rays a side; use at least 1 of 4")
        if min(self.uniform_share, self.mouth_share) < 0 or self.uniform_share + self.mouth_share > 1:
            raise ValueError(
                f"shares of patches: uniform_share {self.uniform_share}, mouth_share {self.mouth_share}; "
                "they must be at least 0 and their sum at most 1"
            )


@dataclass(frozen=True)
class Patches:
    """Squares in B images, those of one image in a row.

    Attributes:
        corner: [B * count, 2], the upper left corner (x, y) in image widths, on the CPU.
        side: [B * count] in image widths, on the CPU.
        rays: rays a side.
        count: patches of each image.
    """

    corner: Tensor
    side: Tensor
    rays: int
    count: int

    def camera(self, camera: Camera) -> Camera:
        """The cameras [B * count] of the patches of images with the cameras [B]."""
        intrinsics = camera.intrinsics.repeat_interleave(self.count, dim=0)
        intrinsics[:, :2, 2] -= self.corner.to(intrinsics)
        intrinsics[:, :2] /= self.side.to(intrinsics)[:, None, None]
        return Camera(camera.camera_to_world.repeat_interleave(self.count, dim=0), intrinsics)

    def cut(self, images: Tensor) -> Tensor:
        """Crop images [B, C, W, W] to the patches, float [B * count, C, rays, rays]; a ray is the mean of its area."""
        width = images.shape[-1]
        corners, sides = ((value * width).round().int().tolist() for value in (self.corner, self.side))
        parts = []
        for index, ((x, y), side) in enumerate(zip(corners, sides)):
            part = images[index // self.count, None, :, y : y + side, x : x + side].float()
            parts.append(F.interpolate(part, (self.rays, self.rays), mode="area"))
        return torch.cat(parts)


def sample_patches(
    config: PatchConfig, head: Tensor, generator: torch.Generator, mouth: Tensor | None = None
) -> Patches:
    """Draw random patches of B images.

    Args:
        config: number, size and shares of the patches.
        head: bool [B, 1, H, W]; patches on the head are centred in its bounding box.
        generator: on the CPU.
        mouth: [B, 2] (x, y), the middle of each mouth in image widths, if it is known.
    """
    batch = len(head) * config.count
    region, centre, jitter, size = (torch.rand(batch, n, generator=generator) for n in (1, 2, 2, 1))
    grid = SIZE / 4  # whole pixels also of a small image
    low, high = (side / SIZE for side in config.side_range)
    side = ((low + (high - low) * size) * grid).round() / grid
    kind = torch.where(region < config.uniform_share, _UNIFORM, _HEAD)
    if mouth is not None:
        kind = torch.where(region > 1 - config.mouth_share, _MOUTH, kind)
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
    """Bounding boxes of masks: smallest and largest (x, y) of the true pixels.

    Args:
        mask: bool [B, 1, H, W].
    Returns:
        Two tensors [B, 2] in image widths; the whole image for an empty mask.
    """
    low, high = [], []
    for axis in (-2, -1):  # columns, then rows
        hit, size = mask[:, 0].any(dim=axis), mask.shape[-1]
        low.append(hit.int().argmax(dim=1) / size)
        high.append(1 - hit.flip(1).int().argmax(dim=1) / size)
    return torch.stack(low, dim=1), torch.stack(high, dim=1)


def mean_square(planes: Tensor) -> Tensor:
    """Mean square of the planes, a loss that keeps them small."""
    return planes.float().square().mean()


PATCH_TERMS = {
    "image_raw": Term(image_error, ("error", "image_raw", "target_raw")),
    "edges_raw": Term(losses.edge_l1, ("image_raw", "target_raw")),
    "mask": Term(losses.weights_mask, ("ray_weights", "head_raw")),
    "planes": Term(mean_square, ("planes",)),
}
PATCH_INPUTS = {  # N patches of B pictures, R rays a side (patches.count, patches.rays)
    "error": Input("", "", "the function `image_error` of the config, or L1: images, targets -> their mean error"),
    "image_raw": Input("[N, 3, R, R]", NEAR_PICTURES, "the raw render of each patch"),
    "target_raw": Input("[N, 3, R, R]", "in [-1, 1]", "the same squares of the head over black, or of the view"),
    "ray_weights": Input("[N, 1, R, R]", "in [0, 1]", "how much of each ray the head of the raw render stops"),
    "head_raw": Input("[N, 1, R, R]", "bool", "the head of `target_raw`"),
    "planes": Input("[B, 3, C, P, P]", "", "the planes that are rendered, P pixels a side with C channels"),
}


def patch_terms(stage: Terms) -> dict[str, Term]:
    """`PATCH_TERMS` and those losses of a full stage that read nothing but what patches have, or fields of clips."""
    known = PATCH_INPUTS.keys() | FIELDS.keys()
    others = {name: term for name, term in stage.items() if name not in PATCH_TERMS}
    return PATCH_TERMS | {name: term for name, term in others.items() if known.issuperset(term.inputs)}


def patch_inputs(
    patches: Patches,
    model: Real3DPortrait,
    planes: Tensor,
    target: DualView,
    head: Tensor,
    generator: torch.Generator,
    error: ImageError = mean_l1,
) -> Inputs:
    """Render the patches; what the losses of `PATCH_TERMS` read of them.

    Args:
        planes: [B, 3, C*D, H, W].
        target: whole images, with the cameras that render them.
        head: bool [B, 1, H, W], mask of the head in the target.
        generator: of the renderer's sampling, on the CPU.
        error: of the raw colours.
    """
    of_patches = planes.repeat_interleave(patches.count, dim=0)
    rendered = model.renderer(of_patches, patches.camera(target.camera), patches.rays, generator)
    return {
        "error": lambda: error,
        "image_raw": lambda: rendered.feature[:, :3],
        "target_raw": lambda: patches.cut(target.image),
        "ray_weights": lambda: rendered.weights,
        "head_raw": lambda: patches.cut(head) > 0.5,
        "planes": lambda: planes,
    }
