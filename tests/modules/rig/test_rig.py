"""A rig is a function of its photo alone; it serves photos of any size and goes to any device as it is."""

import dataclasses

import numpy as np
import pytest
import torch

from modules.rig.rig import EYE_LAYER, MOUTH_LAYER, PERSON_LAYER, PhotoRig
from tests.modules.rig.conftest import Puppet


def test_the_same_photo_gives_the_same_rig_to_the_last_bit(puppet, model):
    again = PhotoRig(puppet.photo, model)
    for name in ("texture", "plate", "attributes", "triangles", "eyes"):
        assert torch.equal(getattr(again, name), getattr(puppet.rig, name)), name
    assert torch.equal(again.skeleton.basis, puppet.rig.skeleton.basis)


def test_layers_are_the_person_its_eyes_and_its_mouth(puppet):
    counts = torch.bincount(puppet.rig.layers)
    assert counts[EYE_LAYER] == 28 and counts[MOUTH_LAYER] == 18 and counts[PERSON_LAYER] > 1000
    assert puppet.rig.triangles.max() < len(puppet.rig.attributes)


def test_beyond_the_border_of_the_face_twins_go_on_as_the_other_side_does(puppet):
    """Pixels between face and sheet mix both: no colours from elsewhere in the photo."""
    attributes = puppet.rig.attributes
    face, sheet = attributes[:468], attributes[478 : puppet.rig.lids.rows.max()]
    near = torch.cdist(sheet[:, :2], face[:, :2]).min(dim=1)
    close = near.values < 0.02
    assert close.sum() > 20
    twins = face[near.indices[close], 2:4]
    assert (sheet[close, 2:4] - twins).norm(dim=1).max() < 0.06


def test_a_rig_on_another_device_draws_the_same(puppet, model):
    moved = Puppet(puppet.photo, puppet.rig.to(torch.device("cpu")), model)
    assert moved.rig.texture is puppet.rig.texture or torch.equal(moved.rig.texture, puppet.rig.texture)
    assert torch.equal(moved.turned(10).colour, puppet.turned(10).colour)
    meta = puppet.rig.to(torch.device("meta"))
    assert meta.texture.is_meta and meta.skeleton.basis.is_meta and meta.mouth.teeth.is_meta


@pytest.mark.parametrize("size", [96, 700])
def test_photos_of_any_size_will_do(puppet, model, size):
    import cv2

    photo = dataclasses.replace(
        puppet.photo,
        picture=cv2.resize(puppet.photo.picture, (size, size)),
        classes=cv2.resize(puppet.photo.classes, (size, size), interpolation=cv2.INTER_NEAREST),
    )
    rig = PhotoRig(photo, model)
    view = Puppet(photo, rig, model).draw(size=128).over(rig.plate)
    usual = puppet.draw(size=128).over(puppet.rig.plate)
    assert float((view - usual).square().mean()) < 0.01
    assert np.isfinite(view.numpy()).all()
