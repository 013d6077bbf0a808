"""The photo comes back; nothing of its background turns with the head; no holes; any size; batches as one by one."""

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.media.pixels import to_tensor
from modules.rig.rig import PhotoRig
from tests.modules.rig.conftest import BLINKS, JAW, SIZE, Puppet, photograph


def decibels(image, target, mask) -> float:
    """PSNR of [1, 3, H, W] in [-1, 1] where the mask [H, W] is."""
    error = ((image - target) / 2).square()[0][:, mask].mean()
    return float(-10 * torch.log10(error))


def holes(solid) -> int:
    """Parts of what is not solid [H, W] but for the one outside."""
    return cv2.connectedComponents((~solid).numpy().astype(np.uint8))[0] - 2


def test_its_own_view_is_the_photo(puppet):
    image = puppet.draw().over(puppet.rig.plate)
    head = torch.from_numpy(np.isin(puppet.photo.classes, HEAD_CLASSES))
    assert decibels(image, to_tensor(puppet.photo.picture), head) > 33
    frames = puppet.draw()
    assert frames.alpha[0, 0][torch.from_numpy(puppet.photo.classes > 0)].mean() > 0.98
    assert frames.alpha[0, 0][torch.from_numpy(puppet.photo.classes == 0)].mean() < 0.05


def test_nothing_of_the_background_turns_with_the_head(puppet, model):
    """Two photos that differ in the background alone give the same person."""
    import dataclasses

    picture = puppet.photo.picture.copy()
    behind = puppet.photo.classes == 0
    picture[behind] = np.uint8([255, 0, 255])
    other = Puppet(puppet.photo, PhotoRig(dataclasses.replace(puppet.photo, picture=picture), model), model)
    ours, theirs = puppet.turned(20), other.turned(20)
    solid = (ours.alpha > 0.9) & (theirs.alpha > 0.9)
    difference = ((ours.colour - theirs.colour).abs() * solid).amax(1)
    assert solid.float().mean() > 0.2
    assert (difference > 0.2).float().sum() / solid.sum() < 0.02


@pytest.mark.parametrize("yaw", [-20, 20])
def test_a_turned_person_has_no_holes(puppet, yaw):
    frames = puppet.turned(yaw)
    solid = frames.alpha[0, 0] > 0.5
    inside = -F.max_pool2d(-solid[None, None].float(), 9, 1, 4)[0, 0] > 0  # four pixels from the outline
    assert inside.sum() > 5000
    assert frames.alpha[0, 0][inside].min() > 0.95
    assert holes(solid) <= holes(puppet.draw().alpha[0, 0] > 0.5)
    assert (frames.depth[0, 0][inside] > 5).all()


def test_a_turned_head_is_nearer_to_the_turned_person_than_the_photo_is(puppet, model, neutral_face):
    euler = torch.tensor([[0.0, math.radians(12), 0.0]])
    truth = photograph(model, neutral_face.replace(euler=euler))
    head = torch.from_numpy(np.isin(truth.classes, HEAD_CLASSES))
    target = to_tensor(truth.picture)
    ours = decibels(puppet.draw(euler=euler).over(puppet.rig.plate), target, head)
    assert ours > decibels(to_tensor(puppet.photo.picture), target, head) + 2


def test_a_closed_blink_shows_no_eye(puppet):
    expression = puppet.photo.face.expression.clone()
    expression[:, BLINKS] = 1
    open_eyes = puppet.draw().eyes.sum()
    assert open_eyes > 50
    assert puppet.draw(expression=expression).eyes.sum() < 0.35 * open_eyes
    assert puppet.draw(closing=1.0).eyes.sum() < 0.05 * open_eyes


def test_an_open_jaw_shows_a_mouth_and_a_shut_one_none(puppet):
    expression = puppet.photo.face.expression.clone()
    expression[:, JAW] = 0.7
    assert puppet.draw(expression=expression).mouth.sum() > puppet.draw().mouth.sum() + 100


def test_far_sides_of_a_turned_photo_are_called_unseen(model, neutral_face):
    photo = photograph(model, neutral_face.replace(euler=torch.tensor([[0.0, math.radians(40), 0.0]])))
    turned = Puppet(photo, PhotoRig(photo, model), model)
    frames = turned.draw(euler=torch.zeros(1, 3))
    solid = frames.alpha > 0.9
    assert ((frames.visibility < 0.5) & solid).float().sum() > 300
    unseen = ((frames.visibility < 0.5) & solid).float().sum()
    assert ((turned.draw().visibility < 0.5) & (turned.draw().alpha > 0.9)).float().sum() < unseen / 2


def test_frames_are_the_same_to_the_last_bit_and_a_batch_is_its_frames(puppet, generator):
    euler = 0.2 * torch.randn(3, 3, generator=generator)
    expression = 0.3 * torch.rand(3, 64, generator=generator)
    batch = puppet.draw(euler=euler, expression=expression)
    for k in range(3):
        single = puppet.draw(euler=euler[k : k + 1], expression=expression[k : k + 1])
        assert torch.equal(single.colour, puppet.draw(euler=euler[k : k + 1], expression=expression[k : k + 1]).colour)
        assert float((single.colour[0] - batch.colour[k]).abs().mean()) < 1e-4
        assert float((single.alpha[0] - batch.alpha[k]).abs().mean()) < 1e-4


@pytest.mark.parametrize("size", [64, 250, 640])
def test_any_size_shows_the_same(puppet, size):
    frames = puppet.turned(10, size)
    usual = F.interpolate(puppet.turned(10).over(puppet.rig.plate), (64, 64), mode="area")
    small = F.interpolate(frames.over(puppet.rig.plate), (64, 64), mode="area")
    assert frames.colour.shape == (1, 3, size, size) and frames.depth.shape == (1, 1, size, size)
    assert float((small - usual).square().mean()) < 4e-3
    assert SIZE == puppet.photo.picture.shape[0]
