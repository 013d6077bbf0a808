from dataclasses import replace

import pytest
import torch

from modules.face3d.coefficients import FaceCoefficients
from modules.geometry.camera import Camera
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import (
    DrivingConfig,
    PNCCInputs,
    draw_pncc,
    head_camera,
    project_landmarks,
    torso_keypoints,
)
from modules.procedural.head import procedural_model


@pytest.mark.parametrize("names", [("canonical", "source", "driving"), ("canonical", "driving"), ("source", "driving")])
def test_a_source_that_drives_itself_moves_nothing(names: tuple[str, ...]) -> None:
    """The demo's planes are warped from the source's to the driving expression, whatever the adapter reads."""
    config = Real3DPortraitConfig.demo(2)
    model = build_portrait(replace(config, motion_adapter=replace(config.motion_adapter, pncc_inputs=names))).eval()
    face = procedural_model()
    expression = torch.zeros(2, 64)
    expression[1, :3] = 0.8
    neutral, own = draw_pncc(face, torch.zeros(1, 80), expression, 128).split(1)
    planes = torch.randn(1, 3, 24, 128, 128, generator=torch.Generator().manual_seed(1))
    driven, motion = model.drive(planes, PNCCInputs(neutral, own, own))
    assert (driven - motion - planes).abs().max() < 1e-3
    moved, motion = model.drive(planes, PNCCInputs(neutral, own, neutral))
    assert (moved - motion - planes).abs().max() > 1


def test_pnccs_are_stacked_by_name_and_a_single_one_serves_all_frames() -> None:
    pncc = PNCCInputs(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.full((5, 3, 4, 4), 2.0))
    stack = pncc.stack(("source", "driving"))
    assert stack.shape == (5, 2, 3, 4, 4) and stack[:, 0].eq(1).all() and stack[:, 1].eq(2).all()
    assert pncc.with_driving(-pncc.driving).stack(("driving",)).eq(-2).all()


def test_key_points_are_landmarks_of_the_frame() -> None:
    model = procedural_model()
    face = FaceCoefficients.neutral().replace(translation=torch.tensor([[0.0, 0.0, -5.0]]))
    middle = torso_keypoints(project_landmarks(model, face), inside=True)
    right, gone = (
        torso_keypoints(project_landmarks(model, face.replace(translation=torch.tensor([[x, 0.0, -5.0]]))), inside=True)
        for x in (0.3, 9.0)
    )
    assert middle.shape == (1, 68, 3) and (middle[..., 2] == 0).all() and middle.abs().max() < 1
    assert (right[..., 0] > middle[..., 0]).all()  # x to the right
    assert middle[0, 8, 1] > middle[0, 27, 1]  # y down: the chin is below the nose
    assert (gone[..., 0] == 1).all()  # clamped to the frame
    free = torso_keypoints(
        project_landmarks(model, face.replace(translation=torch.tensor([[9.0, 0.0, -5.0]]))), inside=False
    )
    assert (free[..., 0] > 1).all()


def test_the_camera_has_the_model_s_focal_length() -> None:
    camera = head_camera(torch.zeros(2, 3), torch.zeros(2, 3), DrivingConfig(focal_length=3.0))
    assert isinstance(camera, Camera) and (camera.intrinsics[:, 0, 0] == 3).all()


def test_eyes_close_in_the_pncc_where_it_is_asked_for() -> None:
    model = procedural_model()
    pictures = draw_pncc(model, torch.zeros(1, 80), torch.zeros(2, 64), 256, torch.tensor([0.0, 1.0]))
    holes = (pictures[:, :, 64:128] == -1).all(dim=1).flatten(1).sum(dim=1)
    assert holes[1] < holes[0]
    assert torch.equal(
        draw_pncc(model, torch.zeros(1, 80), torch.zeros(2, 64), 64, torch.zeros(2)),
        draw_pncc(model, torch.zeros(1, 80), torch.zeros(2, 64), 64),
    )


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"face_model": "flame"}, "face_model"),
        ({"torso_points": "some"}, "torso_points"),
        ({"face_model": "ict", "torso_points": "official"}, "torso_points"),
        ({"source_pncc": "last"}, "source_pncc"),
        ({"focal_length": 0.0}, "focal_length"),
    ],
)
def test_wrong_values_are_refused(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DrivingConfig(**wrong)
