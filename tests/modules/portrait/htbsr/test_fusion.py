"""HTB-SR: fusion modes, portraits encoded once, what shows where."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from modules.portrait.build import build_htbsr
from modules.portrait.htbsr.fusion import FUSIONS, HTBSR, HTBSRConfig, alpha_threshold, sharpen
from modules.rendering.superresolution import Superresolution
from tests.golden.compare import relative_error


def build(config: HTBSRConfig) -> HTBSR:
    torch.manual_seed(0)
    return build_htbsr(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_makes_images_of_a_portrait_encoded_once(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...], fusion: str
) -> None:
    model = build(replace(tiny, fusion=fusion))
    feature, weights, kp_source, kp_driving = frames
    source = model.encode_source(*portrait, kp_source)
    together = model(feature[:, :3], feature, weights, source, kp_driving)
    assert together.image.shape == (3, 3, 32, 32) and together.torso_image.shape == (3, 3, 16, 16)
    if fusion == "predicted_alpha":  # its threshold looks at the whole batch
        return
    for i in range(3):
        alone = model(feature[i : i + 1, :3], feature[i : i + 1], weights[i : i + 1], source, kp_driving[i : i + 1])
        assert relative_error(together.image[i : i + 1], alone.image) < 1e-5


@torch.no_grad()
def test_a_portrait_per_frame_equals_one_portrait_for_all(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(tiny)
    feature, weights, kp_source, kp_driving = frames
    one = model.encode_source(*portrait, kp_source)
    each = model.encode_source(*[part.expand(3, -1, -1, -1) for part in portrait], kp_source.expand(3, -1, -1))
    assert len(one) == 1 and len(each) == 3
    results = [model(feature[:, :3], feature, weights, source, kp_driving).image for source in (one, each)]
    assert relative_error(results[1], results[0]) < 1e-5


@torch.no_grad()
def test_an_opaque_head_hides_torso_and_background(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(replace(tiny, fusion="blend"))
    feature, _, kp_source, kp_driving = frames
    torso, classes, background = portrait
    pictures = [
        model(
            feature[:, :3], feature, torch.ones(3, 1, 8, 8), model.encode_source(t, classes, b, kp_source), kp_driving
        ).image
        for t, b in ((torso, background), (-torso, -background))
    ]
    assert torch.allclose(*pictures, atol=1e-5)


@torch.no_grad()
def test_the_threshold_decides_what_a_thin_head_lets_through(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(tiny)
    feature, _, kp_source, kp_driving = frames
    source = model.encode_source(*portrait, kp_source)
    arguments = (feature[:, :3], feature, torch.full((3, 1, 8, 8), 0.3), source, kp_driving)
    assert torch.equal(model(*arguments).image, model(*arguments, threshold=0.9).image)
    assert not torch.allclose(model(*arguments, threshold=0.2).image, model(*arguments).image)


def test_sharpening_makes_large_weights_whole() -> None:
    assert sharpen(torch.tensor([0.2, 0.9, 0.95]), 0.9).tolist() == pytest.approx([0.2, 0.9, 1.0])


def test_the_alpha_threshold_is_a_quantile_but_never_below_the_given_one(generator: torch.Generator) -> None:
    alpha = torch.rand(2, 1, 16, 16, generator=generator) * 0.1 + 0.88
    assert alpha_threshold(alpha, 0.5).item() == pytest.approx(torch.quantile(alpha, 0.05).item(), abs=1e-6)
    assert alpha_threshold(alpha, 0.95).item() == pytest.approx(0.95)
    assert alpha_threshold(torch.zeros(1, 1, 2, 2), 0.9).item() == pytest.approx(0.9)


def test_gradients_reach_every_used_weight(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(replace(tiny, fusion="predicted_alpha")).train()
    feature, weights, kp_source, kp_driving = frames
    result = model(feature[:, :3], feature, weights, model.encode_source(*portrait, kp_source), kp_driving)
    (result.image.square().mean() + result.occlusion.mean()).backward()
    missing = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not missing


def test_learned_key_points_are_taken_as_they_are(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    torso = replace(tiny.torso, keypoint_source="learned", detector_channels=(4, 8))
    model = build(replace(tiny, torso=torso))
    feature, weights, kp_source, kp_driving = frames
    source = model.encode_source(*portrait, kp_source[:, :4])
    image = model(feature[:, :3], feature, weights, source, kp_driving[:, :4]).image
    assert image.isfinite().all()
    with pytest.raises(ValueError, match="68 key points"):
        model(feature[:, :3], feature, weights, source, kp_driving)


def test_the_super_resolution_of_earlier_stages_fits(tiny: HTBSRConfig) -> None:
    earlier = Superresolution(tiny.superresolution).state_dict()
    outcome = build(tiny).load_state_dict(earlier, strict=False)
    assert not outcome.unexpected_keys
    assert not any(key.startswith(("block0", "block1")) for key in outcome.missing_keys)


def test_half_precision_runs_without_type_errors(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(tiny).bfloat16()
    feature, weights, kp_source, kp_driving = (x.bfloat16() for x in frames)
    source = model.encode_source(*[x.bfloat16() for x in portrait], kp_source)
    image = model(feature[:, :3], feature, weights, source, kp_driving).image
    assert image.dtype == torch.bfloat16 and image.isfinite().all()


def test_the_demo_is_small() -> None:
    model = build_htbsr(HTBSRConfig.demo())
    assert sum(parameter.numel() for parameter in model.parameters()) < 2_500_000


@pytest.mark.parametrize("change", [{"fusion": "v9"}, {"threshold": 1.5}])
def test_impossible_configs_are_refused_with_the_value(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        HTBSRConfig(**change)


@torch.no_grad()
def test_learned_key_points_are_detected_on_the_frame_and_landmarks_are_not(tiny: HTBSRConfig) -> None:
    landmarks, frame = torch.zeros(2, 68, 3), torch.rand(2, 3, 32, 32)
    assert build(tiny).keypoints(landmarks, frame) is landmarks
    learned = build(replace(tiny, torso=replace(tiny.torso, keypoint_source="learned", detector_channels=(4, 8))))
    points = learned.keypoints(landmarks, frame)
    assert points.shape == (2, 4, 3) and not torch.equal(points, learned.keypoints(landmarks, -frame))


@torch.no_grad()
def test_alpha_covers_where_the_head_or_the_torso_is(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...]
) -> None:
    model = build(tiny)
    feature, _, kp_source, kp_driving = frames
    weights = torch.zeros(3, 1, 8, 8)
    weights[..., :4] = 0.95  # a head on the left side
    source = model.encode_source(*portrait, kp_source)
    output = model(feature[:, :3], feature, weights, source, kp_driving)
    assert output.alpha[..., :10].min() > 0.999  # above the threshold: whole
    right = output.alpha[..., 24:]  # no head: the torso's occlusion alone
    expected = torch.nn.functional.interpolate(output.occlusion_2, scale_factor=2, mode="bilinear")[..., 24:]
    assert relative_error(right[..., 2:], expected[..., 2:]) < 0.02 and right.min() > 0.05


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["blend", "head_weights", "predicted_alpha"])
def test_a_head_that_no_ray_meets_leaves_no_trace(
    tiny: HTBSRConfig, portrait: tuple[Tensor, ...], frames: tuple[Tensor, ...], fusion: str
) -> None:
    torso = replace(tiny.torso, steering="keypoints_only")  # the head does not steer
    model = build(replace(tiny, fusion=fusion, torso=torso))
    feature, _, kp_source, kp_driving = frames
    source = model.encode_source(*portrait, kp_source)

    def image(feature: Tensor, weights: float) -> Tensor:
        return model(feature[:, :3], feature, torch.full((3, 1, 8, 8), weights), source, kp_driving).image

    assert torch.allclose(image(feature, 0.0), image(-feature, 0.0), atol=1e-5)
    assert not torch.allclose(image(feature, 0.5), image(-feature, 0.5), atol=1e-2)
