"""The interface of the morphable models."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from modules.face3d.morphable_model import LandmarkEmbedding, normalised_coordinates
from tests.modules.face3d.conftest import face_data


def test_zero_coefficients_give_the_mean_and_modes_add_up(face_model, generator):
    identity, expression = torch.randn(2, 80, generator=generator), torch.randn(2, 64, generator=generator)
    zero = face_model.vertices(torch.zeros(1, 80), torch.zeros(2, 64))
    assert_close(zero, face_model.mean.expand(2, -1, -1))
    both = face_model.vertices(identity, expression) - zero
    apart = face_model.vertices(identity, 0 * expression) + face_model.vertices(0 * identity, expression) - 2 * zero
    assert_close(both, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [68, 468])
def test_landmarks_lie_on_the_mesh_where_the_embedding_says(face_model, generator, count):
    identity, expression = torch.randn(1, 80, generator=generator), torch.randn(3, 64, generator=generator)
    where, vertices = face_model.embedding(count), face_model.vertices(identity, expression)
    expected = torch.einsum("blkc,lk->blc", vertices[:, where.vertices], where.weights)
    assert_close(face_model.landmarks(identity, expression, count), expected, atol=1e-5, rtol=0)


def test_colours_fill_the_range_over_the_skin_and_follow_the_axes(face_model):
    skin = face_model.ncc[face_model.pncc_triangles.unique()]
    assert_close(skin.amin(dim=0), torch.zeros(3))
    assert_close(skin.amax(dim=0), torch.ones(3))
    for axis in range(3):
        assert torch.corrcoef(torch.stack([face_model.mean[:, axis], face_model.ncc[:, axis]]))[0, 1] > 0.999


def test_colours_of_vertices_beside_the_skin_stay_in_range():
    mean = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0, 1], [9, -9, 9]])
    colours = normalised_coordinates(mean, torch.tensor([[0, 1, 2]]))
    assert_close(colours[3], torch.tensor([1.0, 0, 1]))


def test_a_landmark_without_a_vertex_is_not_valid():
    embedding = LandmarkEmbedding.of_vertices(torch.tensor([3, -999]))
    assert embedding.valid.tolist() == [True, False]
    assert embedding.vertices.min() >= 0


def test_an_unknown_number_of_landmarks_is_refused(face_model):
    with pytest.raises(ValueError, match="500"):
        face_model.landmarks(torch.zeros(1, 80), torch.zeros(1, 64), 500)


def test_a_basis_of_wrong_size_is_refused_with_its_shape():
    with pytest.raises(ValueError, match="identity_basis"):
        dataclasses.replace(face_data(), identity_basis=torch.zeros(5, 3, 80))
