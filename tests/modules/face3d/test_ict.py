"""The ICT model from its converted file (skips without it)."""

import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.fit_config import NAMED_ACTIONS
from modules.face3d.fitting import fit_photo
from modules.face3d.ict import load_ict
from modules.face3d.pncc import render_pncc
from modules.face_models import load_face_model
from modules.metrics.motion import landmark_error
from modules.system.errors import UserError


@pytest.fixture
def ict(assets):
    if not (assets / "ict_facekit.npz").is_file():
        pytest.skip(f"no ict_facekit.npz in {assets}")
    return load_face_model("ict")


def test_it_has_the_size_and_position_of_a_face_in_decimetres(ict):
    skin = ict.mean[ict.pncc_triangles.unique()]
    assert (skin.amax(dim=0) - skin.amin(dim=0)).tolist() == pytest.approx([1.5, 1.99, 1.07], abs=0.05)
    corners = ict.landmarks(torch.zeros(1, 80), torch.zeros(1, 64))[0, [36, 45]]
    assert corners[1, 0] - corners[0, 0] == pytest.approx(0.89, abs=0.02)
    assert corners[0, 1] == pytest.approx(0.33, abs=0.05)


def test_opening_the_jaw_lowers_the_chin_and_the_spare_modes_do_nothing(ict):
    expression = torch.zeros(2, 64)
    expression[0, ict.expression_names.index("jawOpen")] = 1
    expression[1, 53:] = 1
    neutral = ict.landmarks(torch.zeros(1, 80), torch.zeros(1, 64))[0]
    moved = ict.landmarks(torch.zeros(1, 80), expression)
    assert moved[0, 8, 1] < neutral[8, 1] - 0.1
    assert torch.equal(moved[1], neutral)


def test_the_picture_shows_eye_holes_between_skin(ict):
    picture = render_pncc(ict, torch.zeros(1, 80), torch.zeros(1, 64), 128)[0]
    eyes = ict.landmarks(torch.zeros(1, 80), torch.zeros(1, 64))[0, 36:48].view(2, 6, 3).mean(dim=1)
    for column, row in (project(eyes[None])[0] * 128).long().tolist():
        assert (picture[:, row, column] == -1).all()
        assert (picture[:, row - 12, column] > -1).any()


def test_a_fit_returns_the_pose_and_sensible_expressions(ict, generator):
    face = FaceCoefficients(
        0.5 * torch.randn(1, 80, generator=generator),
        torch.zeros(1, 64),
        torch.tensor([[0.1, 0.3, -0.1]]),
        torch.tensor([[0.1, 0.0, -5.5]]),
    )
    face.expression[0, ict.expression_names.index("jawOpen")] = 0.6
    points = ict.landmarks(face.identity, face.expression, 478)
    landmarks = project(pose_points(points, face.euler, face.translation))
    fit = fit_photo(ict, landmarks[0])
    assert landmark_error(ict, fit, landmarks).item() < 0.01
    assert (fit.euler - face.euler).abs().max() < 0.05
    assert fit.expression[0, ict.expression_names.index("jawOpen")] == pytest.approx(0.6, abs=0.25)
    assert ict.fit_prior == NAMED_ACTIONS


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "face.npz").write_text("no model")
    with pytest.raises(UserError, match="convert_ict"):
        load_ict(tmp_path / "face.npz", tmp_path / "face.npz")
