"""Poses and cameras along a clip: played back and forth, mapped to a photo, smoothed (docs/spec/face3d.md#8)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera
from modules.layers.precision import full_precision


def mirror_index(index: Tensor, count: int) -> Tensor:
    """Frames of a clip played back and forth: 0 .. n-1, n-1 .. 0, 0 .. for index = 0, 1, 2, ...

    Args:
        index: int64 of any shape; negative numbers mirror at the start.
        count: n, frames of the clip.
    Returns:
        int64 in 0 .. n-1, of the same shape.
    """
    turn, rest = torch.div(index, count, rounding_mode="floor"), index % count
    return torch.where(turn % 2 == 0, rest, count - 1 - rest)


def prepare_poses(
    source_euler: Tensor,
    source_translation: Tensor,
    euler: Tensor,
    translation: Tensor,
    frames: int,
    map_to_source: bool = True,
) -> tuple[Tensor, Tensor]:
    """Poses of a clip for `frames` frames of a video of another person (docs/spec/face3d.md#8).

    Args:
        source_euler, source_translation: [1, 3] radians and dm, pose in the photo.
        euler, translation: [N, 3] radians and dm, poses of the driving clip; played back and forth if too short.
        frames: T of the new video.
        map_to_source: start from the photo's pose.
    Returns:
        euler [T, 3], translation [T, 3]; the distance is that of the first frame everywhere.
    """
    index = mirror_index(torch.arange(frames, device=euler.device), len(euler))
    euler, translation = euler[index], translation[index].clone()
    translation[:, 2] = translation[0, 2].clone()
    if map_to_source:
        euler = euler + (source_euler - euler[:1])
        translation = translation + (source_translation - translation[:1])
    return euler, translation


@full_precision()
def smooth_cameras(camera: Camera, window: int = 7) -> Camera:
    """Mean position and chordal mean rotation over a window of frames that shrinks at the ends.

    Frames whose window holds numbers that are not finite take the result of the frame before. See
    docs/spec/face3d.md#8.

    Args:
        camera: T cameras, one a frame.
        window: frames, odd.
    Returns:
        T cameras with the same intrinsics.
    """
    matrices = camera.camera_to_world.double()
    frames, half = len(matrices), window // 2
    broken = ~matrices.isfinite().flatten(1).all(dim=1)  # [T]
    filled = torch.where(broken[:, None], torch.eye(4).to(matrices).flatten(), matrices.flatten(1))
    index = torch.arange(frames, device=matrices.device)
    count = (index + half).clamp(max=frames - 1) - (index - half).clamp(min=0) + 1
    sums = F.pad(torch.cat([filled, broken[:, None]], dim=1), (0, 0, half, half)).unfold(0, 2 * half + 1, 1).sum(-1)
    usable = sums[:, 16] == 0
    means = (sums[:, :16] / count[:, None]).unflatten(1, (4, 4))  # [T, 4, 4]
    left, _, right = torch.linalg.svd(means[:, :3, :3])
    turn = torch.ones(frames, 3, dtype=means.dtype, device=means.device)
    turn[:, 2] = torch.linalg.det(left @ right)
    smooth = matrices.clone()
    smooth[:, :3, :3] = left @ (turn[..., None] * right)
    smooth[:, :3, 3] = means[:, :3, 3]
    last = torch.where(usable, torch.arange(frames, device=means.device), -1).cummax(0).values
    smooth = torch.where(last[:, None, None] >= 0, smooth[last.clamp(min=0)], matrices)
    return Camera(smooth.to(camera.camera_to_world.dtype), camera.intrinsics)


def smooth_features(x: Tensor, window: int = 7) -> Tensor:
    """Box filter along the first axis, the sequence mirrored at its ends: [T, ...] -> [T, ...].

    Args:
        window: frames; ValueError unless odd.
    """
    if window % 2 == 0:
        raise ValueError(f"window {window} must be odd")
    half = window // 2
    index = mirror_index(torch.arange(-half, len(x) + half, device=x.device), len(x))
    return x[index].unfold(0, window, 1).mean(dim=-1)
