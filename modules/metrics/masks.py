"""Metrics of whole persons: the seam between head and torso, parts that get lost, faces that are no face or two."""

import cv2
import numpy as np
import torch
from torch import Tensor

from modules.analysis.segmentation_classes import BACKGROUND, HEAD_CLASSES, TORSO_CLASSES, part_mask

SEAM_WIDTH = 8  # pixels of a 512 picture to either side of the border


def neck_seam(classes: Tensor) -> Tensor:
    """The band around the border of head (hair, face, others) and torso (neck, clothes).

    Args:
        classes: [B, S, S] the six classes.
    Returns:
        [B, 1, S, S] bool: no more than 8 / 512 S from both head and torso.
    """
    width = max(1, round(SEAM_WIDTH * classes.shape[-1] / 512))
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)

    def near(parts: tuple[int, ...]) -> np.ndarray:
        masks = part_mask(classes, parts)[:, 0].cpu().numpy().view(np.uint8)
        return np.stack([cv2.dilate(mask, kernel) for mask in masks])

    return torch.from_numpy(near(HEAD_CLASSES) & near(TORSO_CLASSES)).bool()[:, None].to(classes.device)


def neck_seam_error(made: Tensor, truth: Tensor, classes: Tensor) -> Tensor:
    """How much worse the neck's seam is than the rest of the person: mean |made - truth| there over that elsewhere.

    0 or more, lower is better; 1 means that the seam is no worse than the rest.

    Args:
        made, truth: [B, 3, S, S] in [0, 1].
        classes: [B, S, S] of the true frames.
    Returns:
        [B]; NaN where a frame has no seam, or nothing is wrong.
    """
    return seam_share((made - truth).abs().mean(dim=1, keepdim=True), neck_seam(classes), classes)


def seam_share(error: Tensor, seam: Tensor, classes: Tensor) -> Tensor:
    """`neck_seam_error` of errors [B, 1, S, S] and the band [B, 1, S, S] of `neck_seam`; [B]."""
    person = (classes != BACKGROUND)[:, None]

    def mean(mask: Tensor) -> Tensor:
        return (error * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)

    return mean(seam & person) / mean(person & ~seam)


def lost_person(made: Tensor, photo: Tensor) -> Tensor:
    """Share of the photo's person that is background in a frame that shows the photo's own pose and expression.

    From 0 to 1, lower is better: cut shoulders and hair that was lost.

    Args:
        made: [B, S, S] classes of frames at rest, found by the same segmentation as the photo's.
        photo: [S, S] or [B, S, S].
    Returns:
        [B]
    """
    person = (photo != BACKGROUND).expand_as(made)
    return ((made == BACKGROUND) & person).flatten(1).sum(dim=1) / person.flatten(1).sum(dim=1)


def one_face(faces: Tensor) -> float:
    """Share of frames with exactly one face; 0 to 1, higher is better. faces: [T] numbers of faces found."""
    return float((faces == 1).float().mean())
