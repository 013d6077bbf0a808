"""The Basel model from files in its published layout."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from modules.face3d.bfm import BFM_FILE, EYE_FILES, MEDIAPIPE_FILE, NCC_FILE, load_bfm
from modules.system.errors import UserError
from tests.modules.face3d.bfm_files import write_small_bfm
from tests.modules.face3d.conftest import face_data


@pytest.fixture
def folder(tmp_path):
    write_small_bfm(tmp_path)
    return tmp_path


def test_indices_become_zero_based_and_the_mean_is_centred(folder):
    model = load_bfm(folder / BFM_FILE)
    assert_close(model.mean.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert model.triangles.min() == 0
    assert model.embedding(68).vertices[0, 0] == 0
    assert not model.embedding(468).valid[93] and model.embedding(468).valid.sum() == 467


def test_the_eyes_are_left_out_of_the_pncc(folder):
    model = load_bfm(folder / BFM_FILE)
    assert len(model.pncc_triangles) == len(model.triangles) - 3
    assert torch.equal(model.pncc_triangles[0], model.triangles[2])


def test_it_is_fitted_as_by_the_released_system(folder):
    prior = load_bfm(folder / BFM_FILE).fit_prior
    assert (prior.photo.oval, prior.photo.eyes, prior.photo.lips, prior.photo.expression_prior) == (1, 5, 2, 0.05)
    assert (prior.clip.eyes, prior.clip.upper_lids, prior.clip.identity_prior) == (3, 20, 0.2)


def test_published_colours_are_preferred(folder):
    colours = np.random.default_rng(0).random((3, len(face_data().mean)), dtype=np.float32)
    np.save(folder / NCC_FILE, colours)
    assert_close(load_bfm(folder / BFM_FILE).ncc, torch.from_numpy(colours.T.copy()))


def test_missing_tables_and_wrong_files_are_named(folder):
    (folder / MEDIAPIPE_FILE).unlink()
    with pytest.raises(UserError, match=MEDIAPIPE_FILE):
        load_bfm(folder / BFM_FILE)
    (folder / BFM_FILE).write_text("no model")
    with pytest.raises(UserError, match=BFM_FILE):
        load_bfm(folder / BFM_FILE)


def test_the_published_version_of_the_landmark_table_serves_too(folder):
    plain = load_bfm(folder / BFM_FILE)
    (folder / MEDIAPIPE_FILE).rename(folder / MEDIAPIPE_FILE.replace(".npy", "_v3.1.npy"))
    assert torch.equal(load_bfm(folder / BFM_FILE).embedding(468).vertices, plain.embedding(468).vertices)


@pytest.mark.parametrize(
    "name, table",
    [
        (MEDIAPIPE_FILE, np.full(468, 35708)),
        (MEDIAPIPE_FILE, np.arange(68)),
        (EYE_FILES[0], np.array([0, 1])),
        (EYE_FILES[1], np.array([70789])),
    ],
)
def test_tables_of_another_mesh_are_refused(folder, name, table):
    np.save(folder / name, table)
    with pytest.raises(UserError, match=r"not of BFM_model_front\.mat, which has 725 vertices and 1344 triangles"):
        load_bfm(folder / BFM_FILE)


def test_arrays_that_would_have_to_be_unpickled_are_refused(folder):
    np.save(folder / EYE_FILES[0], np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="plain"):
        load_bfm(folder / BFM_FILE)
