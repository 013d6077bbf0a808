import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from modules.geometry.camera import pose_camera
from modules.portrait.build import build_portrait
from modules.portrait.driving import Driving, PNCCInputs
from modules.portrait.photo import Photo, Surroundings
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait
from tests.tiny import tiny_portrait_config


def build(stage: int = 3, **changes: Any) -> Real3DPortrait:
    torch.manual_seed(0)
    return build_portrait(tiny_portrait_config(stage, **changes)).eval()


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def photo(head_size: int = 32, size: int = 64) -> Photo:
    classes = F.one_hot(torch.arange(size * size).view(1, size, size) % 6, 6).movedim(-1, 1).float()
    around = Surroundings(
        torch.zeros(1, 3, size, size), classes, torch.full((1, 3, size, size), 0.5), noise(1, 68, 3, seed=4)
    )
    return Photo(noise(1, 3, head_size, head_size, seed=5), pose_camera(torch.zeros(1, 3), torch.zeros(1, 3)), around)


def driving(frames: int) -> Driving:
    pncc = PNCCInputs(*(noise(batch, 3, 32, 32, seed=seed) for seed, batch in ((1, 1), (2, 1), (3, frames))))
    return Driving(
        pose_camera(0.2 * noise(frames, 3, seed=0), torch.zeros(frames, 3)), pncc, noise(frames, 68, 3, seed=6)
    )


def run(model: Real3DPortrait, frames: int = 2) -> PortraitOutput:
    frames_to_make = driving(frames)
    if model.motion_adapter is None:
        frames_to_make = dataclasses.replace(frames_to_make, pncc=None)
    return model(model.encode(photo()), frames_to_make)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_portrait_serves_a_batch_of_frames(stage: int) -> None:
    output = run(build(stage))
    assert output.image.shape == (2, 3, 64, 64)
    assert output.image_raw.shape == (2, 3, 16, 16)
    assert output.rendered.feature.shape == (2, 4, 16, 16)
    assert output.rendered.depth.shape == output.rendered.weights.shape == (2, 1, 16, 16)
    alpha = output.decoded.alpha
    assert alpha.shape == (2, 1, 64, 64)
    assert output.image.abs().max() <= 1 and 0 <= alpha.min() and alpha.max() <= 1


def test_frames_do_not_depend_on_their_batch() -> None:
    model, frames = build(), driving(3)
    source = model.encode(photo())
    together = model(source, frames)
    assert frames.pncc is not None and frames.keypoints is not None
    alone = model(
        source, Driving(frames.camera[1:2], frames.pncc.with_driving(frames.pncc.driving[1:2]), frames.keypoints[1:2])
    )
    assert_close(together.image[1:2], alone.image, atol=1e-4, rtol=0)


def test_pictures_of_any_size_are_resized() -> None:
    model = build()
    flat = [dataclasses.replace(photo(), head=torch.full((1, 3, size, size), 0.3)) for size in (32, 80)]
    assert_close(model.canonical_planes(flat[0]), model.canonical_planes(flat[1]), atol=1e-5, rtol=1e-4)
    assert model.encode(photo(size=96)).decoder.background.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_planes_are_fused_as_configured(fusion: str) -> None:
    output = run(build(2, plane_fusion=fusion))
    canonical = output.planes - output.motion_planes if fusion == "add" else output.planes / output.motion_planes
    assert_close(canonical[:1], canonical[1:], atol=1e-3, rtol=1e-3)


def test_a_product_of_planes_starts_near_the_canonical_ones() -> None:
    output = run(build(2, plane_fusion="mul"))
    assert (output.motion_planes - 1).abs().mean() < 0.2


def test_the_motion_adapter_reads_its_pnccs_by_name() -> None:
    """What is not among its inputs changes nothing; what is, does."""
    for names in (("canonical", "driving"), ("source", "driving"), ("canonical", "source", "driving")):
        config = tiny_portrait_config(2)
        config = dataclasses.replace(
            config, motion_adapter=dataclasses.replace(config.motion_adapter, pncc_inputs=names)
        )
        model = build_portrait(config).eval()
        base = driving(2).pncc
        assert base is not None
        planes = model.motion_planes(base)
        for name in ("canonical", "source", "driving"):
            changed = dataclasses.replace(base, **{name: -getattr(base, name)})
            assert torch.equal(model.motion_planes(changed), planes) == (name not in names), (name, names)


def test_tri_grids_pass_through_the_whole_model() -> None:
    output = run(build(2, depth=3))
    assert output.planes.shape == (2, 3, 12, 16, 16)
    assert torch.isfinite(output.image).all()


def test_without_pncc_the_canonical_planes_are_rendered() -> None:
    model = build(2)
    source = model.encode(photo())
    output = model(source, Driving(pose_camera(torch.zeros(1, 3), torch.zeros(1, 3))))
    assert output.motion_planes is None and output.planes is source.planes


def test_a_model_of_stage_1_refuses_pnccs() -> None:
    model = build(1)
    with pytest.raises(ValueError, match="no motion adapter"):
        model(model.encode(photo()), driving(1))


def test_gradients_reach_every_part() -> None:
    model = build()
    output = run(model)
    (output.decoded.image.mean() + output.image_raw.square().mean()).backward()
    for name, part in model.named_children():
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0, name


def test_bfloat16_runs_by_hand_and_by_autocast() -> None:
    model = build()
    exact = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = run(model)
    manual = run(model.bfloat16())
    for output in (automatic, manual):
        assert output.image.dtype == output.rendered.depth.dtype == torch.float32
        assert_close(output.image, exact.image, atol=0.1, rtol=0)


def test_htbsr_says_what_it_needs() -> None:
    model, alone = build(), dataclasses.replace(photo(), surroundings=None)
    with pytest.raises(ValueError, match="surroundings"):
        model.encode(alone)
    with pytest.raises(ValueError, match="key points"):
        model(model.encode(photo()), dataclasses.replace(driving(1), keypoints=None))


@pytest.mark.parametrize("fusion, fused", [("add", 2.5), ("mul", 1.0)])
def test_one_photo_s_planes_meet_the_motion_of_every_frame(fusion: str, fused: float) -> None:
    canonical, motion = torch.full((1, 3, 4, 8, 8), 0.5), torch.full((2, 3, 4, 8, 8), 2.0)
    assert_close(build(2, plane_fusion=fusion).fuse_planes(canonical, motion), torch.full((2, 3, 4, 8, 8), fused))
