"""Windows: small squares of a picture that are rendered alone, so that a step costs a fraction of a whole picture.

Most windows lie on the head, or on its mouth: that is where the detail is. A window's camera is the picture's with
other intrinsics, so renderer and losses need not know.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera
from modules.losses import image as losses
from modules.portrait.real3d_portrait import Real3DPortrait
from tasks.stages.adversary import View
from tasks.stages.image_terms import weighted

SIZE = 256                     # the sides below are pixels of a picture of this size
_ANYWHERE, _HEAD, _MOUTH = range(3)


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How many rays a window has, how large it is and where it lies."""

    rays: int = 32               # a side
    count: int = 1               # windows of each picture: they cost less than its planes
    sides: tuple[int, int] = (128, 128)      # smallest and largest on the head or anywhere, pixels of a picture of 256
    mouth_side: int = 64
    anywhere: float = 0.15       # share of windows with a random place; the others lie on the head or the mouth
    mouth: float = 0.0           # share of windows on the mouth, where it is known

    def __post_init__(self) -> None:
        low, high = self.sides
        if not 0 < min(low, self.mouth_side) <= max(high, self.mouth_side) <= SIZE or low > high:
            raise ValueError(f"windows of {low} to {high} and {self.mouth_side} of {SIZE} pixels; "
                             "use 1 to 256, the smaller side first")
        if self.rays < 4 or self.count < 1:
            raise ValueError(f"{self.count} windows of {self.rays} rays a side; use at least 1 of 4")
        if min(self.anywhere, self.mouth) < 0 or self.anywhere + self.mouth > 1:
            raise ValueError(f"shares of windows: anywhere {self.anywhere}, mouth {self.mouth}; "
                             "they must be at least 0 and their sum at most 1")


@dataclass(frozen=True)
class Windows:
    """Squares in B pictures, those of one picture side by side; corner [B * count, 2] (x, y) and side [B * count] in
    picture widths, on the CPU."""

    corner: Tensor
    side: Tensor
    rays: int          # a side
    count: int         # in each picture

    def camera(self, camera: Camera) -> Camera:
        """Cameras [B] of pictures -> those of the windows [B * count]."""
        intrinsics = camera.intrinsics.repeat_interleave(self.count, dim=0)
        intrinsics[:, :2, 2] -= self.corner.to(intrinsics)
        intrinsics[:, :2] /= self.side.to(intrinsics)[:, None, None]
        return Camera(camera.camera_to_world.repeat_interleave(self.count, dim=0), intrinsics)

    def cut(self, pictures: Tensor) -> Tensor:
        """[B, C, H, W] -> float [B * count, C, rays, rays], means over the area of each ray."""
        height = pictures.shape[-1]
        corners, sides = ((value * height).round().int().tolist() for value in (self.corner, self.side))
        parts = []
        for index, ((x, y), side) in enumerate(zip(corners, sides)):
            part = pictures[index // self.count, None, :, y:y + side, x:x + side].float()
            parts.append(F.interpolate(part, (self.rays, self.rays), mode="area"))
        return torch.cat(parts)


def sample_windows(config: WindowConfig, head: Tensor, generator: torch.Generator,
                   mouth: Tensor | None = None) -> Windows:
    """Random windows.

    Args:
        head: bool [B, 1, H, W]; windows on the head are centred in its bounding box.
        generator: on the CPU.
        mouth: [B, 2] (x, y), its middle in picture widths, if known.
    """
    batch = len(head) * config.count
    place, centre, jitter, size = (torch.rand(batch, n, generator=generator) for n in (1, 2, 2, 1))
    grid = SIZE / 4                                             # whole pixels also of a small picture
    low, high = (side / SIZE for side in config.sides)
    side = ((low + (high - low) * size) * grid).round() / grid
    kind = torch.where(place < config.anywhere, _ANYWHERE, _HEAD)
    if mouth is not None:
        kind = torch.where(place > 1 - config.mouth, _MOUTH, kind)
    first, last = (corner.repeat_interleave(config.count, dim=0) for corner in bounding_boxes(head.cpu()))
    middle = torch.where(kind == _ANYWHERE, centre, first + (last - first) * centre)
    if mouth is not None:
        small = config.mouth_side / SIZE
        near = mouth.cpu().repeat_interleave(config.count, dim=0) + (jitter - 0.5) * small / 2
        middle = torch.where(kind == _MOUTH, near, middle)
        side = torch.where(kind == _MOUTH, small, side)
    corner = (((middle - side / 2) * grid).round() / grid).clamp(min=torch.zeros(()), max=1 - side)
    return Windows(corner, side[:, 0], config.rays, config.count)


def bounding_boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest (x, y) of the true pixels of bool [B, 1, H, W] in picture widths, [B, 2] each; the whole
    picture where there are none."""
    low, high = [], []
    for axis in (-2, -1):                                       # columns, then rows
        hit, size = mask[:, 0].any(dim=axis), mask.shape[-1]
        low.append(hit.int().argmax(dim=1) / size)
        high.append(1 - hit.flip(1).int().argmax(dim=1) / size)
    return torch.stack(low, dim=1), torch.stack(high, dim=1)


def window_losses(weights: object, windows: Windows, model: Real3DPortrait, planes: Tensor, truth: View,
                  head: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Weighted losses of the raw colours, of their edges, of the ray weights and of the size of the planes.

    Args:
        weights: a loss config with image_raw, edges_raw, mask and planes.
        planes: [B, 3, C*D, H, W].
        truth: of whole pictures.
        head: bool [B, 1, H, W].
    """
    of_windows = planes.repeat_interleave(windows.count, dim=0)
    rendered = model.renderer(of_windows, windows.camera(truth.camera), windows.rays, generator)
    colours, picture = rendered.feature[:, :3], windows.cut(truth.image)
    terms = {"image_raw": lambda: (colours - picture).abs().mean(),
             "edges_raw": lambda: losses.edge_l1(colours, picture),
             "mask": lambda: losses.weights_mask(rendered.weights, windows.cut(head) > 0.5),
             "planes": lambda: planes.float().square().mean()}
    return weighted(terms, weights)
