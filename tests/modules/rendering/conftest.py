"""A camera in front of the head, and one that looks past it."""

import pytest
import torch

from modules.geometry.camera import Camera


def camera_at(distance: float, offset: float = 0.0) -> Camera:
    """On the z axis, looking at the origin (or past it when `offset` is large), focal length of 4.26 picture widths."""
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    pose[:3, 3] = torch.tensor([offset, 0.0, distance])
    intrinsics = torch.tensor([[4.26, 0.0, 0.5], [0.0, 4.26, 0.5], [0.0, 0.0, 1.0]])
    return Camera(pose[None], intrinsics[None])


@pytest.fixture
def frontal_camera() -> Camera:
    return camera_at(2.7)


@pytest.fixture
def lost_camera() -> Camera:
    return camera_at(2.7, offset=5.0)
