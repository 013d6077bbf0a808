"""One surface over the person: snapped to the face, skinned from head to shoulders, on the rays of its places."""

import numpy as np
import torch
from torch.testing import assert_close

from modules.face3d.coefficients import project
from modules.face3d.landmark_sets import FACE_OVAL
from modules.rig.config import REFERENCE, RigConfig
from modules.rig.filters import resized
from modules.rig.landmark_mesh import COPIED


def sheet_rows(puppet) -> slice:
    return slice(478, len(puppet.rig.attributes) - len(COPIED))


def test_every_corner_lies_on_the_ray_of_its_place(puppet):
    rows = sheet_rows(puppet)
    places = puppet.rig.attributes[rows, :2]
    assert_close(project(puppet.rig.skeleton.still[rows]), places, atol=2e-3, rtol=0)


def test_the_oval_is_an_edge_of_the_sheet(puppet):
    places = puppet.rig.attributes[sheet_rows(puppet), :2]
    oval = torch.from_numpy(puppet.photo.landmarks[list(FACE_OVAL)]).float()
    ends = torch.stack([oval, oval.roll(-1, 0)], 1)
    t = ((places[:, None] - ends[:, 0]) * (ends[:, 1] - ends[:, 0])).sum(-1) / (ends[:, 1] - ends[:, 0]).square().sum(
        -1
    )
    feet = ends[:, 0] + t.clamp(0, 1)[..., None] * (ends[:, 1] - ends[:, 0])
    distance = (places[:, None] - feet).norm(dim=-1).amin(1)
    step = 1 / RigConfig().cells
    assert (distance < 1e-5).sum() > 60  # corners on it
    assert not ((distance > 1e-5) & (distance < 0.6 * step)).any()  # and none that is nearly on it


def test_the_head_moves_with_the_head_and_clothes_with_the_shoulders(puppet):
    rows = sheet_rows(puppet)
    places, weight = puppet.rig.attributes[rows, :2], puppet.rig.skeleton.weight[rows, 0]
    at = (places * 256).long().clamp(0, 255)
    classes = torch.from_numpy(puppet.photo.classes.astype(np.int64))[at[:, 1], at[:, 0]]
    inside = ((places > 0) & (places < 1)).all(1)
    assert weight[inside & (classes == 3)].min() > 0.5
    assert weight[inside & (classes == 4) & (places[:, 1] > 0.9)].mean() < 0.25
    assert weight.min() >= 0 and weight.max() <= 1


def test_the_sheet_covers_the_person(puppet):
    assert puppet.draw().alpha[0, 0].numpy()[puppet.photo.classes > 0].mean() > 0.98
    assert resized(puppet.photo.classes > 0, REFERENCE).shape == (REFERENCE, REFERENCE)
