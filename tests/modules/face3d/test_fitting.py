"""Fits recover what they were made from, and their derivatives are right."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from modules.face3d import fitting
from modules.face3d.bfm import FIT_PRIOR
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.fit_config import FitConfig
from modules.face3d.fitting import FitProblem, fit_clip, fit_photo
from modules.face3d.morphable_model import MorphableModel
from modules.metrics.motion import landmark_error
from modules.procedural.clips import sample_motion
from modules.procedural.head import expression_index, procedural_model
from modules.procedural.person import sample_person
from tests.golden.reference import laplacian_loss
from tests.modules.face3d.conftest import face_data

WEAK = FitConfig(identity_prior=1e-4, expression_prior=1e-4)


def clip(model: MorphableModel, frames: int, generator: torch.Generator) -> tuple[FaceCoefficients, torch.Tensor]:
    """Slowly changing coefficients and their landmarks [T, 468, 2]."""
    walk = [
        scale * torch.randn(frames, size, generator=generator).cumsum(0) / frames**0.5
        for scale, size in ((0.5, 64), (0.15, 3), (0.1, 3))
    ]
    walk[2][:, 2] -= 5
    face = FaceCoefficients(0.5 * torch.randn(1, 80, generator=generator), *walk)
    points = pose_points(model.landmarks(face.identity, face.expression, 468), face.euler, face.translation)
    return face, project(points)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("seed", range(4))
def test_a_photo_is_fitted_to_the_pixel_and_its_pose_is_recovered(face_model, seed):
    face, landmarks = clip(face_model, 1, torch.Generator().manual_seed(seed))
    fit = fit_photo(face_model, landmarks[0], WEAK)
    assert landmark_error(face_model, fit, landmarks).item() < 0.001
    assert distance(fit.euler, face.euler) < 0.005
    assert distance(fit.translation, face.translation) < 0.05


def test_the_pose_of_a_talking_person_is_recovered():
    model, person = procedural_model(), sample_person(900003)
    face = sample_motion(900003, 50)[49].replace(identity=person.identity[None])
    face = face.replace(euler=face.euler + torch.tensor([[0.1, -0.3, 0.05]]))
    points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
    fit = fit_photo(model, project(points)[0], WEAK)
    assert landmark_error(model, fit, project(points)).item() < 0.001
    assert distance(fit.euler, face.euler) < 0.01


@pytest.mark.parametrize("seed", range(8))
def test_the_pose_does_not_depend_on_rounding(loose_model, seed):
    """A millionth of the picture is over ten times the rounding of float32, by which processors differ."""
    generator = torch.Generator().manual_seed(seed)
    _, landmarks = clip(loose_model, 1, generator)
    fit = fit_photo(loose_model, landmarks[0], WEAK)
    for _ in range(3):
        moved = landmarks + 1e-6 * torch.randn(landmarks.shape, generator=generator)
        again = fit_photo(loose_model, moved[0], WEAK)
        assert distance(again.euler, fit.euler) < 0.003
        assert distance(again.translation, fit.translation) < 0.03


@pytest.mark.parametrize("seed", range(4))
def test_the_pose_is_that_of_the_least_objective(loose_model, seed):
    _, landmarks = clip(loose_model, 1, torch.Generator().manual_seed(seed))
    fit = fit_photo(loose_model, landmarks[0], WEAK)
    least = fit_photo(loose_model, landmarks[0], dataclasses.replace(WEAK, iterations=500, tolerance=1e-12))
    assert distance(fit.euler, least.euler) < 0.003


def test_a_clip_shares_one_identity(face_model, generator):
    face, landmarks = clip(face_model, 7, generator)
    fit = fit_clip(face_model, landmarks, WEAK)
    assert fit.identity.shape == (1, 80) and len(fit) == 7
    assert landmark_error(face_model, fit, landmarks).max() < 0.005


@pytest.mark.parametrize("euler", [(0.0, 0.8, 0.0), (-0.5, 0.0, 0.0), (0.2, -0.4, 2.5)])
def test_poses_of_turned_heads_are_recovered_from_afar(face_model, euler):
    neutral = FaceCoefficients.neutral(1)
    points = face_model.landmarks(neutral.identity, neutral.expression, 468)
    landmarks = project(pose_points(points, torch.tensor([euler]), torch.tensor([[0.5, -0.4, -6.0]])))
    fit = fit_photo(face_model, landmarks[0])
    assert_close(fit.euler, torch.tensor([euler]), atol=0.02, rtol=0)


def test_the_result_is_a_minimum(face_model, generator):
    _, landmarks = clip(face_model, 5, generator)
    config = dataclasses.replace(FIT_PRIOR.clip, tolerance=1e-9)
    problem, fit = FitProblem(face_model, landmarks, config), fit_clip(face_model, landmarks, config)
    per_frame = torch.cat([fit.expression, fit.euler, fit.translation], dim=1).double()
    identity, least = fit.identity.double(), problem.objective(fit.identity.double(), per_frame)
    for _ in range(20):
        moved = (x + 0.02 * torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (identity, per_frame))
        assert problem.objective(*moved) > least


def test_the_curvature_is_that_of_the_residuals(face_model, generator):
    face, landmarks = clip(face_model, 2, generator)
    problem = FitProblem(face_model, landmarks, FitConfig())
    per_frame = torch.cat([face.expression, face.euler, face.translation], dim=1).double()
    jacobian = problem._jacobian(face.identity.double(), per_frame).double()  # [T, 2L, 150]
    step = 1e-3 * torch.randn(2, 70, generator=generator, dtype=torch.float64)
    change = 1e-3 * torch.randn(1, 80, generator=generator, dtype=torch.float64)

    def residual(scale: float) -> torch.Tensor:
        moved, identity = per_frame + scale * step, face.identity.double() + scale * change
        posed = pose_points(problem.points(identity, moved), moved[:, -6:-3], moved[:, -3:])
        weights = (problem.weights / (problem.weights.numel() * 2 * 2)).sqrt()
        return (weights[:, None] * (224 * project(posed) - problem.target)).flatten(1)

    expected = (residual(1) - residual(-1)) / 2
    actual = torch.einsum("tnk,tk->tn", jacobian, torch.cat([step, change.expand(2, -1)], dim=1))
    assert_close(actual, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)


def test_the_matrix_of_a_fixed_identity_is_the_frames_part(face_model, generator):
    face, landmarks = clip(face_model, 3, generator)
    problem = FitProblem(face_model, landmarks, FitConfig())
    per_frame = torch.cat([face.expression, face.euler, face.translation], dim=1).double()
    whole, part = (problem.curvature(face.identity.double(), per_frame, fixed) for fixed in (False, True))
    assert_close(part.blocks, whole.blocks)
    assert part.cross.shape[-1] == 0 and part.shared.numel() == 0


def test_fits_of_procedural_clips_are_accurate():
    """Eight people who talk and blink, long enough that a sample tells who they are; with the jitter of a detector."""
    model, frames, turns = procedural_model(), 2 * fitting._SAMPLE + 10, []
    actions = [expression_index(name) for name in ("jaw_open", "blink_left", "blink_right")]
    for seed in range(900001, 900009):
        face = sample_motion(seed, frames).replace(identity=sample_person(seed).identity[None])
        expression = face.expression.clone()
        expression[:, actions[0]] += 0.35 - 0.25 * torch.cos(0.9 * torch.arange(frames))
        face = face.replace(expression=expression)
        points = pose_points(model.landmarks(face.identity, face.expression, 478), face.euler, face.translation)
        jitter = torch.randn(frames, 478, 2, generator=torch.Generator().manual_seed(seed)) / 600
        fit = fit_clip(model, project(points) + jitter)
        turns.append(torch.rad2deg((fit.euler - face.euler).abs()).mean(dim=0))
        assert landmark_error(model, fit, project(points)).median() < 0.01
        for action in actions:
            pair = torch.stack([fit.expression[:, action], expression[:, action]])
            assert torch.corrcoef(pair)[0, 1] > 0.9, (seed, action)
    assert torch.stack(turns).mean(dim=0).max() < 1.5


def test_an_identity_of_a_sample_fits_as_well_as_that_of_all_frames(face_model, generator, monkeypatch):
    _, landmarks = clip(face_model, 40, generator)
    monkeypatch.setattr(fitting, "_SAMPLE", 10)
    by_sample = fit_clip(face_model, landmarks)
    monkeypatch.setattr(fitting, "_SAMPLE", 40)
    by_all = fit_clip(face_model, landmarks)
    errors = [landmark_error(face_model, fit, landmarks).mean() for fit in (by_sample, by_all)]
    assert errors[0] < 1.1 * errors[1] + 1e-4
    assert not torch.equal(by_sample.identity, by_all.identity)


def test_smoothness_calms_noisy_landmarks(face_model, generator):
    _, landmarks = clip(face_model, 12, generator)
    noisy = landmarks + 0.003 * torch.randn(landmarks.shape, generator=generator)
    rough, calm = (
        fit_clip(face_model, noisy, dataclasses.replace(WEAK, expression_smoothness=weight)) for weight in (0.0, 1.0)
    )
    assert laplacian_loss(calm.expression) < 0.2 * laplacian_loss(rough.expression)


def test_expressions_keep_to_the_sensible_range(generator):
    model = MorphableModel(dataclasses.replace(face_data(), expression_range=torch.tensor([[-0.2, 1.1]] * 64)))
    face, _ = clip(model, 1, generator)
    face = face.replace(expression=face.expression * 6)
    points = pose_points(model.landmarks(face.identity, face.expression, 468), face.euler, face.translation)
    free, held = (
        fit_photo(model, project(points)[0], dataclasses.replace(WEAK, range_penalty=weight)).expression
        for weight in (0.0, 10.0)
    )
    assert free.min() < -0.5
    assert held.min() > -0.4 and held.max() < 1.3


def test_long_clips_are_fitted_in_overlapping_parts(face_model, generator, monkeypatch):
    _, landmarks = clip(face_model, 23, generator)
    whole = fit_clip(face_model, landmarks, WEAK)
    monkeypatch.setattr(fitting, "_SAMPLE", 5)
    monkeypatch.setattr(fitting, "_SEGMENT", 10)
    monkeypatch.setattr(fitting, "_OVERLAP", 3)
    parts = fit_clip(face_model, landmarks, WEAK)
    assert len(parts) == 23 and parts.identity.shape == (1, 80)
    assert landmark_error(face_model, parts, landmarks).max() < 0.005
    assert_close(parts.euler, whole.euler, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "landmarks", [torch.zeros(2, 68, 2), torch.zeros(0, 468, 2), torch.full((1, 468, 2), torch.nan)]
)
def test_unusable_landmarks_are_refused(face_model, landmarks):
    with pytest.raises(ValueError, match="landmarks"):
        fit_clip(face_model, landmarks)


def test_points_that_the_mesh_does_not_have_do_not_matter(generator):
    data = face_data()
    embedding = data.landmarks[468]
    valid = embedding.valid.clone()
    valid[[93, 127]] = False
    model = MorphableModel(
        dataclasses.replace(data, landmarks={**data.landmarks, 468: dataclasses.replace(embedding, valid=valid)})
    )
    _, landmarks = clip(model, 1, generator)
    spoilt = landmarks.clone()
    spoilt[:, [93, 127]] = 5.0
    assert_close(fit_photo(model, spoilt[0]).expression, fit_photo(model, landmarks[0]).expression)
