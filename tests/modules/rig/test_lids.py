"""Lids that come down show skin; open ones are the photo's."""

import torch
from torch.testing import assert_close

from modules.rig.landmark_mesh import LEFT_EYE_RING, LIDS_ABOVE, LIDS_BELOW, LandmarkModel, photo_mesh
from modules.rig.lids import COUNT, PER_EYE, LidSkin, lash_points


def test_open_lids_have_the_photos_own_texture_and_shut_ones_skin_from_below_the_eye(puppet):
    lids = puppet.rig.lids
    assert (lids.shares(torch.zeros(1, COUNT)) == 1).all()
    edges = torch.isin(lids.rows, torch.tensor(LIDS_ABOVE))
    assert (lids.shares(torch.ones(1, COUNT))[0, edges] == 0).all()
    attributes = puppet.rig.attributes
    own, skin = attributes[list(LIDS_ABOVE), :2], attributes[list(LIDS_ABOVE), 2:4]
    below = attributes[list(LIDS_BELOW), 1]
    assert (skin[:, 1] > below).all()  # y grows downwards
    assert_close(skin[:, 0], own[:, 0], atol=0.02, rtol=0)


def test_lashes_are_a_narrow_strip_above_the_lids_edge_and_come_down_with_it(puppet):
    skeleton, face = puppet.rig.skeleton, puppet.photo.face
    points = skeleton.still[:478]
    height = points[list(LIDS_ABOVE), 1] - points[list(LIDS_BELOW), 1]
    strip = lash_points(points)[:, 1] - points[list(LIDS_ABOVE), 1]
    assert (strip > 0).all() and (strip <= 0.31 * height.max()).all()
    pose = skeleton.pose(face.expression, face.euler, face.translation, torch.ones(1))
    shut = pose.points[0]
    assert_close(shut[skeleton.tips, 1] - shut[skeleton.roots, 1], strip, atol=5e-3, rtol=0)
    assert (pose.shut == 1).all()


def test_a_mirrored_eye_keeps_its_twin(puppet, model):
    landmarks = LandmarkModel.of(model, puppet.photo.face.identity)
    mesh = photo_mesh(torch.from_numpy(puppet.photo.landmarks).float(), landmarks, puppet.photo.face)
    seen = torch.ones(478)
    assert len(LidSkin.of(mesh, seen, 478).triangles) == 2 * 2 * (PER_EYE + 1) - 4
    seen[list(LEFT_EYE_RING)] = 0.2
    one = LidSkin.of(mesh, seen, 478)
    assert set(one.lid.tolist()) == set(range(PER_EYE)) and (one.rows < 478).sum() == 2 * PER_EYE
    none = LidSkin.of(mesh, torch.zeros(478), 478)
    assert none.shares(torch.ones(2, COUNT)).shape == (2, 0) and len(none.triangles) == 0


def test_a_shut_eye_is_of_the_colour_of_the_skin_below_it(puppet):
    """Without the lids' skin, lashes and brow would be stretched over the eye."""
    shut = puppet.draw(closing=1.0).colour[0]
    places = puppet.photo.landmarks * shut.shape[-1]
    crease, edge, pouch = (places[k].round().astype(int) for k in (27, 145, 23))
    middle = (crease + edge) // 2
    lid, cheek = (shut[:, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2)) for x, y in (middle, pouch))
    assert (lid - cheek).abs().max() < 0.25
