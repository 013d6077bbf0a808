"""Previews for the log: depth as a picture; short videos of a held-out clip or utterance beside the target.

Frames of a video are made one by one, so that a long clip needs no more memory than a short one.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.layers.precision import full_precision
from modules.layers.resample import resize
from tasks.data.frame_pairs import ClipDataConfig, FramePairs
from tasks.engine.seeds import item_generator
from tasks.engine.task import grid

FRAMES = 50  # at most: 2 s
SIDE = 256  # pixels of a column, at most; an animation of four columns then has some megabytes
FACE_SIDE = 192  # pixels of a face drawn alone


def depth_picture(depth: Tensor, weights: Tensor) -> Tensor:
    """A picture of depths in which near is bright.

    Args:
        depth: [B, 1, n, n], world units.
        weights: [B, 1, n, n] in [0, 1], the accumulated weight of each ray.
    Returns:
        [B, 1, n, n] in [-1, 1]; -1 where a ray meets nothing.
    """
    inside = weights > 0.5
    near = torch.where(inside, depth, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    far = torch.where(inside, depth, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    grey = 1 - 1.6 * (depth - near) / (far - near).clamp(min=1e-6)
    return torch.where(inside, grey, -1.0)


def clip_video(
    config: ClipDataConfig, clip: Path, device: torch.device, columns: Callable[[dict[str, Tensor]], list[Tensor]]
) -> Tensor:
    """A held-out clip drives itself: its first frame is the source, every frame in turn the target.

    Args:
        clip: its folder.
        device: of the batches.
        columns: a batch of one pair of frames (see `FramePairs`) -> pictures [1, 3, H, W] in [-1, 1], target last.
    Returns:
        uint8 [T, S, columns * S, 3] on the CPU: T <= 50 frames, S <= 256 the target's size or what it is reduced to.
    """
    return torch.stack([_side_by_side(columns(batch)) for batch in _clip_batches(config, clip, device)])


def face_video(model: MorphableModel, faces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Faces in motion, drawn as PNCCs side by side.

    Args:
        faces: of each column identity [T or 1, 80] and expression [T, 64].
    Returns:
        uint8 [min(T, 50), 192, columns * 192, 3] on the CPU.
    """
    device = model.mean.device

    def column(identity: Tensor, expression: Tensor, t: int) -> Tensor:
        own = identity[t if len(identity) > 1 else 0]
        return render_pncc(model, own[None].to(device), expression[t : t + 1].to(device), FACE_SIDE)

    frames = min(FRAMES, *(len(expression) for _, expression in faces))
    return torch.stack([_side_by_side([column(*face, t) for face in faces]) for t in range(frames)])


def _clip_batches(config: ClipDataConfig, clip: Path, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Pairs of the clip's first frame and each of its frames; the source's torso is in-painted once."""
    config = replace(config, eye_closing=False, perturbation=0.0)
    sources = FramePairs(config, [clip])
    targets = FramePairs(replace(config, torso=False), [clip], sources.model)
    source = _pair(sources, 0)
    for target in range(min(FRAMES, len(sources.clip(0).clip))):
        pair = source | _pair(targets, target)
        yield {name: value[None].to(device) for name, value in pair.items()}


@full_precision()  # as in the workers
def _pair(pairs: FramePairs, target: int) -> dict[str, Tensor]:
    return pairs.pair(0, 0, target, item_generator(0, target))


def _side_by_side(columns: list[Tensor]) -> Tensor:
    side = min(SIDE, columns[-1].shape[-1])
    return grid([torch.cat([resize(column.float(), side) for column in columns])])
