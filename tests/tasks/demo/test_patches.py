from dataclasses import replace

import pytest
import torch

from modules.geometry.camera import pose_camera
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualView
from modules.rendering.rays import pixel_rays
from tasks.demo.patches import (
    PATCH_INPUTS,
    PATCH_TERMS,
    PatchConfig,
    Patches,
    bounding_boxes,
    patch_inputs,
    patch_terms,
    sample_patches,
)
from tasks.engine.task import StepState
from tasks.stages.terms import Term, weighted_terms
from tests.tasks.terms import check_inputs


def head_mask(size: int = 64) -> torch.Tensor:
    mask = torch.zeros(2, 1, size, size, dtype=torch.bool)
    mask[0, 0, 20:44, 16:40] = True
    mask[1, 0, 8:30, 40:60] = True
    return mask


def two_cameras():
    return pose_camera(torch.tensor([[0.1, 0.2, 0.05], [0.0, -0.3, 0.0]]), torch.tensor([[0.1, 0.0, -5.0]] * 2), 4.5)


def test_a_patch_has_the_rays_of_its_part_of_the_image():
    camera = two_cameras()
    patches = Patches(torch.tensor([[0.25, 0.5], [0.0, 0.125]]), torch.tensor([0.5, 0.5]), 16, 1)
    small = patches.camera(camera)
    rays = pixel_rays(small.camera_to_world, small.intrinsics, 16)[1].unflatten(1, (16, 16))
    whole = pixel_rays(camera.camera_to_world, camera.intrinsics, 32)[1].unflatten(1, (32, 32))
    torch.testing.assert_close(rays[0], whole[0, 16:32, 8:24])
    torch.testing.assert_close(rays[1], whole[1, 4:20, 0:16])


def test_a_cut_is_the_mean_over_each_ray():
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    patches = Patches(torch.tensor([[0.25, 0.5], [0.0, 0.125]]), torch.tensor([0.5, 0.5]), 16, 1)
    expected = torch.nn.functional.avg_pool2d(image[1:, :, 8:40, 0:32], 2)
    torch.testing.assert_close(patches.cut(image)[1:], expected)


def test_several_patches_of_an_image_are_in_a_row():
    corner, side = torch.tensor([[0.25, 0.5], [0.0, 0.125], [0.5, 0.25], [0.125, 0.0]]), torch.full((4,), 0.5)
    image, camera = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), two_cameras()
    together = Patches(corner, side, 16, 2)
    for first in range(2):
        alone = Patches(corner[first::2], side[first::2], 16, 1)
        torch.testing.assert_close(together.cut(image)[first::2], alone.cut(image))
        torch.testing.assert_close(together.camera(camera)[first::2].vector(), alone.camera(camera).vector())
    drawn = sample_patches(PatchConfig(rays=8, count=3), head_mask(), torch.Generator().manual_seed(0))
    assert drawn.corner.shape == (6, 2) and (drawn.side == 0.5).all() and len(set(drawn.corner[:3, 0].tolist())) > 1


def test_patches_lie_on_the_head_the_mouth_or_anywhere_and_inside():
    generator = torch.Generator().manual_seed(0)
    mouth = torch.tensor([[0.4, 0.6], [0.8, 0.3]])
    on_mouth = PatchConfig(rays=8, mouth_side=32, uniform_share=0.0, mouth_share=1.0)
    on_head = replace(on_mouth, mouth_share=0.0)
    low, high = bounding_boxes(head_mask())
    for _ in range(20):
        patches = sample_patches(on_mouth, head_mask(), generator, mouth)
        assert (patches.side == 32 / 256).all()
        assert ((patches.corner + patches.side[:, None] / 2 - mouth).abs() <= 32 / 256 / 4 + 1 / 64).all()
        patches = sample_patches(on_head, head_mask(), generator, mouth)
        centre = patches.corner + patches.side[:, None] / 2
        touched = (patches.corner < high) & (patches.corner + patches.side[:, None] > low)
        assert touched.all() and (patches.corner >= 0).all() and (patches.corner + patches.side[:, None] <= 1).all()
        assert ((centre > 0.2) & (centre < 0.8)).all()


def test_sides_are_drawn_from_their_range_in_whole_pixels():
    config = PatchConfig(rays=8, count=50, side_range=(96, 192))
    side = sample_patches(config, head_mask(), torch.Generator().manual_seed(0)).side * 256
    assert side.min() >= 96 and side.max() <= 192 and side.std() > 15 and (side % 4 == 0).all()


def test_the_box_of_an_empty_mask_is_the_whole_image():
    low, high = bounding_boxes(torch.cat([head_mask(), torch.zeros(1, 1, 64, 64, dtype=torch.bool)]))
    torch.testing.assert_close(low, torch.tensor([[16, 20], [40, 8], [0, 0]]) / 64)
    torch.testing.assert_close(high, torch.tensor([[40, 44], [60, 30], [64, 64]]) / 64)


def test_losses_of_a_full_stage_that_patches_can_compute_are_added_below_those_of_patches():
    mine = Term(torch.mean, ("image_raw", "brightness"))  # brightness: a field of clips
    stage = {"mask": Term(torch.sum, ("planes",)), "mine": mine, "whole": Term(torch.mean, ("image", "planes"))}
    assert patch_terms(stage) == {**PATCH_TERMS, "mine": mine}


def test_patch_losses_fall_while_planes_are_fitted():
    model = build_portrait(replace(Real3DPortraitConfig.demo(1), neural_resolution=64))
    planes = (0.3 * torch.randn(2, 3, 24, 64, 64, generator=torch.Generator().manual_seed(0))).requires_grad_()
    target = DualView(torch.where(head_mask(), 0.5, -1.0).expand(-1, 3, -1, -1), torch.zeros(0), two_cameras())
    weights = {"image_raw": 1.0, "edges_raw": 1.0, "mask": 1.0, "planes": 0.001}
    optimizer, totals, generator = torch.optim.Adam([planes], 0.05), [], torch.Generator().manual_seed(1)
    patches = sample_patches(PatchConfig(rays=16, count=2, uniform_share=0.0), head_mask(), generator)
    for _ in range(20):
        inputs = patch_inputs(patches, model, planes, target, head_mask(), generator)
        check_inputs(PATCH_INPUTS, inputs, N=4, B=2, R=16, P=64, C=24)
        losses = weighted_terms(PATCH_TERMS, weights, inputs, StepState(progress=0.0, generator=generator))
        assert set(losses) == {"image_raw", "edges_raw", "mask", "planes"}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(float(sum(losses.values()).detach()))
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize(
    "change",
    [
        {"side_range": (100, 300)},
        {"side_range": (100, 90)},
        {"rays": 2},
        {"count": 0},
        {"uniform_share": 0.7, "mouth_share": 0.6},
    ],
)
def test_impossible_patches_are_refused(change: dict):
    with pytest.raises(ValueError, match="patches"):
        PatchConfig(**change)
