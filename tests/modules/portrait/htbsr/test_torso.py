"""Torso model: geometry of the motion field, masks, gradients."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from modules.layers.resample import resize
from modules.portrait.htbsr.torso import (
    KeypointDetector,
    TorsoConfig,
    TorsoModel,
    heat_maps,
    sample_volume,
    scale_gradient,
    select_keypoints,
    volume_grid,
)
from tests.golden.compare import relative_error
from tests.modules.portrait.htbsr.conftest import TORSO


@pytest.fixture
def model() -> TorsoModel:
    torch.manual_seed(0)
    return TorsoModel(TORSO).eval()


def head(batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, 3, 16, 16), torch.zeros(batch, 1, 16, 16)


def test_sampling_a_volume_at_its_own_grid_returns_it(generator: torch.Generator) -> None:
    volume = torch.randn(2, 3, 4, 5, 5, generator=generator)
    grid = volume_grid(4, 5, volume).expand(2, -1, -1, -1, -1)
    for padding in ("zeros", "border"):
        assert relative_error(sample_volume(volume, grid, padding), volume) < 1e-5


def test_points_are_x_along_the_width(generator: torch.Generator) -> None:
    volume = torch.randn(1, 1, 3, 5, 5, generator=generator)
    one_pixel_right = volume_grid(3, 5, volume) + torch.tensor([0.5, 0, 0])
    moved = sample_volume(volume, one_pixel_right[None], "border")
    assert relative_error(moved[..., :4], volume[..., 1:]) < 1e-5


def test_heat_is_positive_at_the_driving_and_negative_at_the_source_points() -> None:
    grid = volume_grid(3, 9, torch.zeros(1))
    source, driving = torch.tensor([[[-0.5, 0.0, 0.0]]]), torch.tensor([[[0.5, 0.0, 0.0]]])
    heat = heat_maps(grid, source, driving)
    assert heat.shape == (1, 1, 3, 9, 9)
    assert heat[0, 0, 1, 4, 6].item() == pytest.approx(1) and heat[0, 0, 1, 4, 2].item() == pytest.approx(-1)


def test_key_points_that_do_not_move_deform_nothing(
    model: TorsoModel, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    torso, classes, _ = portrait
    points = select_keypoints(frames[2], 4)
    result = model(model.encode_source(resize(torso, 16), classes), points, points, *head(1))
    grid = volume_grid(3, 4, torso)
    assert torch.allclose(result.deformation[0], grid, atol=1e-6)


@torch.no_grad()
def test_one_portrait_serves_many_frames(
    model: TorsoModel, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    torso, classes, _ = portrait
    source, driving = select_keypoints(frames[2], 4), select_keypoints(frames[3], 4)
    encoded = model.encode_source(resize(torso, 16), classes)
    together = model(encoded, source, driving, *head(3))
    assert together.image.shape == (3, 3, 16, 16) and together.hidden.shape == (3, 2, 16, 16)
    assert together.occlusion.shape == (3, 1, 4, 4) and together.occlusion_2.shape == (3, 1, 16, 16)
    for index in range(3):
        alone = model(encoded, source, driving[index : index + 1], *head(1))
        assert relative_error(together.image[index : index + 1], alone.image) < 1e-5


def test_appearance_is_masked_to_the_dilated_torso(portrait: tuple[Tensor, ...]) -> None:
    torso, _, _ = portrait
    classes = torch.zeros(1, 6, 32, 32)
    classes[:, 0] = 1
    classes[:, :, :8, :8] = torch.tensor([0.0, 0, 0, 0, 1, 0])[:, None, None]  # clothes in one corner
    appearance = TorsoModel(TORSO).eval().encode_source(resize(torso, 16), classes).appearance
    covered = appearance.abs().sum(dim=(0, 1, 2)) > 0  # [4, 4]
    assert covered[:2, :2].all() and not covered[2:].any() and not covered[:, 2:].any()


def test_the_head_steers_only_where_it_is_asked_for(
    portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...], generator: torch.Generator
) -> None:
    torso, classes, _ = portrait
    source, driving = select_keypoints(frames[2], 4), select_keypoints(frames[3], 4)
    other = torch.randn(3, 3, 16, 16, generator=generator), torch.rand(3, 1, 16, 16, generator=generator)
    for steering in ("keypoints_only", "head_guided"):
        torch.manual_seed(0)
        model = TorsoModel(TorsoConfig(**{**TORSO.__dict__, "steering": steering})).eval()
        encoded = model.encode_source(resize(torso, 16), classes)
        plain, steered = model(encoded, source, driving, *head(3)), model(encoded, source, driving, *other)
        assert torch.equal(plain.image, steered.image) == (steering == "keypoints_only")


def test_gradients_reach_everything_but_the_head(portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]) -> None:
    torch.manual_seed(0)
    model = TorsoModel(TORSO).train()
    torso, classes, _ = portrait
    image, weights = (x.requires_grad_() for x in head(3))
    encoded = model.encode_source(resize(torso, 16), classes)
    result = model(encoded, select_keypoints(frames[2], 4), select_keypoints(frames[3], 4), image, weights)
    (result.image.square().mean() + result.occlusion.mean() + result.occlusion_2.mean()).backward()
    assert image.grad is None and weights.grad is None
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing


def test_a_learned_key_point_is_where_its_heat_map_is(generator: torch.Generator) -> None:
    detector = KeypointDetector(replace(TORSO, keypoint_source="learned", detector_channels=(4,), keypoints=2)).eval()
    torch.nn.init.zeros_(detector.out_conv.weight)
    torch.nn.init.zeros_(detector.out_conv.bias)
    frame = torch.rand(2, 3, 20, 20, generator=generator) * 2 - 1
    assert torch.allclose(detector(frame), torch.zeros(2, 2, 3), atol=1e-6)  # flat maps: the middle
    with torch.no_grad():
        detector.out_conv.bias[TORSO.depth - 1] = 10.0  # all of the first map at the end
    assert torch.allclose(detector(frame)[:, 0], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)


def test_learned_key_points_move_the_torso_and_learn_from_its_image(
    portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    torch.manual_seed(0)
    model = TorsoModel(replace(TORSO, keypoint_source="learned", detector_channels=(4, 8), keypoints=3))
    torso, classes, background = portrait
    points = model.keypoint_detector(torch.cat([torso, background]))
    assert points.shape == (2, 3, 3) and points.abs().max() < 1
    result = model(model.encode_source(resize(torso, 16), classes), points[:1], points[1:], *head(1))
    result.image.square().mean().backward()
    assert model.keypoint_detector.out_conv.weight.grad.abs().sum() > 0


def test_the_torso_cover_starts_with_a_signal(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    predictor = TorsoModel(TorsoConfig.demo()).occlusion_2_predictor
    x = torch.randn(4, 17, 32, 32, generator=generator)
    logits = predictor[:-1](x)
    assert logits.std() > 0.3


def test_scaling_a_gradient_keeps_the_value() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    y = scale_gradient(x, 0.1)
    y.backward()
    assert y.item() == 2.0 and x.grad.item() == pytest.approx(0.1)


def test_half_precision_runs_without_type_errors(portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]) -> None:
    model = TorsoModel(TORSO).eval().bfloat16()
    torso, classes, _ = portrait
    encoded = model.encode_source(resize(torso, 16).bfloat16(), classes)
    result = model(
        encoded, select_keypoints(frames[2], 4), select_keypoints(frames[3], 4), *[x.bfloat16() for x in head(3)]
    )
    assert result.image.dtype == torch.bfloat16 and result.image.isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"steering": "v7"},
        {"inputs": "grey"},
        {"keypoints": 5},
        {"image_size": 72},
        {"generator_channels": 66},
        {"keypoint_source": "guessed"},
    ],
)
def test_impossible_configs_are_refused_with_the_value(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        TorsoConfig(**change)


def test_the_gradient_that_reaches_the_motion_field_is_scaled(
    portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    torso, classes, _ = portrait

    def gradient(factor: float) -> Tensor:
        """Of the key points, which act through the motion field alone."""
        torch.manual_seed(0)
        model = TorsoModel(replace(TORSO, motion_gradient=factor)).eval()
        driving = select_keypoints(frames[3], 4).requires_grad_()
        result = model(
            model.encode_source(resize(torso, 16), classes), select_keypoints(frames[2], 4), driving, *head(3)
        )
        (result.image.square().mean() + result.occlusion.mean() + result.occlusion_2.square().mean()).backward()
        return driving.grad

    full = gradient(1.0)
    assert full.abs().max() > 0
    for factor in (0.1, 0.5):
        assert relative_error(gradient(factor), factor * full) < 1e-4
