import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from modules.geometry.camera import pose_camera
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from tests.modules.portraits import tiny_portrait_config


def build(stage: int = 3, **changes) -> Real3DPortrait:
    torch.manual_seed(0)
    return Real3DPortrait(tiny_portrait_config(stage, **changes)).eval()


def inputs(frames: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    euler = 0.2 * torch.randn(frames, 3, generator=generator)
    return {"camera": pose_camera(euler, torch.zeros(frames, 3)),
            "pncc": torch.rand(frames, 3, 3, 32, 32, generator=generator) * 2 - 1,
            "source_keypoints": torch.rand(1, 68, 3, generator=generator) * 2 - 1,
            "keypoints": torch.rand(frames, 68, 3, generator=generator) * 2 - 1}


def source_of(model: Real3DPortrait, size: int = 64):
    classes = F.one_hot(torch.arange(size * size).view(1, size, size) % 6, 6).movedim(-1, 1).float()
    return model.encode_source(torch.zeros(1, 3, size, size), classes, torch.ones(1, 3, size, size) * 0.5)


def run(model: Real3DPortrait, frames: int = 2, image_size: int = 32) -> PortraitOutput:
    image = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(5)) * 2 - 1
    given = inputs(frames)
    if model.motion_adapter is None:
        given.pop("pncc")
    return model(model.canonical_planes(image), source=source_of(model), **given)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_portrait_serves_a_batch_of_frames(stage):
    output = run(build(stage))
    assert output.image.shape == (2, 3, 64, 64)
    assert output.image_raw.shape == (2, 3, 16, 16)
    assert output.feature.shape == (2, 4, 16, 16)
    assert output.depth.shape == output.weights.shape == (2, 1, 16, 16)
    assert output.alpha.shape == (2, 1, 64, 64)
    assert output.image.abs().max() <= 1 and 0 <= output.alpha.min() and output.alpha.max() <= 1
    assert (output.htbsr is None) == (stage < 3)


def test_frames_do_not_depend_on_their_batch():
    model = build()
    given = inputs(3)
    planes, source = model.canonical_planes(torch.zeros(1, 3, 32, 32)), source_of(model)
    together = model(planes, source=source, **given)
    alone = model(planes, source=source, camera=given["camera"][1:2], pncc=given["pncc"][1:2],
                  source_keypoints=given["source_keypoints"], keypoints=given["keypoints"][1:2])
    assert_close(together.image[1:2], alone.image, atol=1e-4, rtol=0)


def test_pictures_of_any_size_are_resized():
    model = build()
    flat = [torch.full((1, 3, size, size), 0.3) for size in (32, 80)]
    assert_close(model.canonical_planes(flat[0]), model.canonical_planes(flat[1]), atol=1e-5, rtol=1e-4)
    assert source_of(model, 96).background.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_planes_are_fused_as_configured(fusion):
    output = run(build(2, plane_fusion=fusion))
    canonical = output.planes - output.motion_planes if fusion == "add" else output.planes / output.motion_planes
    assert_close(canonical[:1], canonical[1:], atol=1e-3, rtol=1e-3)


def test_a_product_of_planes_starts_near_the_canonical_ones():
    output = run(build(2, plane_fusion="mul"))
    assert (output.motion_planes - 1).abs().mean() < 0.2


def test_torso_key_points_are_landmarks_or_found_on_the_frame():
    landmarks, frame = torch.zeros(2, 68, 3), torch.rand(2, 3, 64, 64)
    config = tiny_portrait_config()
    torso = dataclasses.replace(config.htbsr.torso, keypoint_source="learned", detector_channels=(4, 8))
    learned = build(htbsr=dataclasses.replace(config.htbsr, torso=torso))
    assert build().torso_keypoints(landmarks, frame) is landmarks
    points = learned.torso_keypoints(landmarks, frame)
    assert points.shape == (2, 4, 3)
    given = {**inputs(2), "source_keypoints": points[:1], "keypoints": points}
    planes = learned.canonical_planes(torch.zeros(1, 3, 32, 32))
    assert learned(planes, source=source_of(learned), **given).image.isfinite().all()


def test_tri_grids_pass_through_the_whole_model():
    output = run(build(2, depth=3))
    assert output.planes.shape == (2, 3, 12, 16, 16)
    assert torch.isfinite(output.image).all()


def test_without_pncc_the_canonical_planes_are_rendered():
    model = build(2)
    planes = model.canonical_planes(torch.zeros(1, 3, 32, 32))
    output = model(planes, pose_camera(torch.zeros(1, 3), torch.zeros(1, 3)))
    assert output.motion_planes is None and output.planes is planes


def test_gradients_reach_every_part():
    model = build()
    output = run(model)
    (output.htbsr.image.mean() + output.image_raw.square().mean()).backward()
    for name, part in model.named_children():
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0, name


def test_bfloat16_runs_by_hand_and_by_autocast():
    model = build()
    exact = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = run(model)
    manual = run(model.bfloat16())
    for output in (automatic, manual):
        assert output.image.dtype == output.depth.dtype == torch.float32
        assert_close(output.image, exact.image, atol=0.1, rtol=0)


def test_htbsr_needs_its_source():
    model = build()
    with pytest.raises(ValueError, match="HTB-SR needs source"):
        model(model.canonical_planes(torch.zeros(1, 3, 32, 32)), pose_camera(torch.zeros(1, 3), torch.zeros(1, 3)))


def test_contradictory_configs_are_refused():
    config = tiny_portrait_config()
    with pytest.raises(ValueError, match="plane_channels and plane_depth differ"):
        dataclasses.replace(config, renderer=dataclasses.replace(config.renderer, plane_depth=2))
    with pytest.raises(ValueError, match="not both or none"):
        dataclasses.replace(config, htbsr=None)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_demo_makes_256_pixel_pictures_of_the_procedural_world(stage):
    config = Real3DPortraitConfig.demo(stage)
    assert config.resolution == 256 and config.face_model == "procedural"
    with torch.device("meta"):
        parameters = sum(p.numel() for p in Real3DPortrait(config).parameters())
    assert parameters < 15_000_000 / 1.5                                         # under 20 MB in half precision


def test_the_image_to_plane_network_has_three_scales_at_both_sizes():
    for preset in (Real3DPortraitConfig.full, Real3DPortraitConfig.demo):
        blocks = [preset(2, scale).image_to_plane.vit_blocks for scale in ("small", "standard", "large")]
        assert blocks == sorted(set(blocks)) and preset(2) == preset(2, "standard")
        with pytest.raises(ValueError, match="huge"):
            preset(2, "huge")


def test_the_released_model_has_148_million_parameters():
    with torch.device("meta"):
        model = Real3DPortrait(Real3DPortraitConfig.released())
    parameters = sum(p.numel() for p in model.parameters())
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert parts["image_to_plane"] == 87_332_960 and parts["renderer"] == 4_257
    assert parameters == 148_019_272 - 2                                         # without two loss weights


@pytest.mark.parametrize("fusion, fused", [("add", 2.5), ("mul", 1.0)])
def test_one_photo_s_planes_meet_the_motion_of_every_frame(fusion: str, fused: float) -> None:
    canonical, motion = torch.full((1, 3, 4, 8, 8), 0.5), torch.full((2, 3, 4, 8, 8), 2.0)
    assert_close(build(2, plane_fusion=fusion).fuse_planes(canonical, motion), torch.full((2, 3, 4, 8, 8), fused))
