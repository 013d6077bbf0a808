import math

import pytest
import torch

from modules.losses import image as losses


@pytest.fixture
def pair(generator):
    return torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)


def test_masked_l1_is_three_times_the_mean_error_of_small_uniform_errors():
    target = torch.zeros(1, 3, 8, 8)
    everywhere = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    torch.testing.assert_close(losses.masked_l1(target + 0.1, target, everywhere), torch.tensor(0.3))
    torch.testing.assert_close(losses.masked_l1(target + 0.1, target, ~everywhere, 0.5), torch.tensor(0.15))


def test_the_limit_of_one_sample_does_not_depend_on_the_others(pair):
    prediction, target = pair
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    both = losses.masked_l1(prediction * 5, target, mask)
    single = [losses.masked_l1(prediction[i : i + 1] * 5, target[i : i + 1], mask[:1]) for i in range(2)]
    torch.testing.assert_close(both, torch.stack(single).mean())
    assert not math.isclose(both, losses.masked_l1(prediction * 5, target, mask, pooled=True), rel_tol=1e-6)


def test_masked_l1_refuses_masks_that_are_not_boolean(pair):
    with pytest.raises(TypeError, match="int64"):
        losses.masked_l1(*pair, torch.ones(2, 1, 16, 16, dtype=torch.int64))


def test_edge_l1_ignores_brightness_and_sees_blur(pair):
    prediction, _ = pair
    assert losses.edge_l1(prediction + 0.3, prediction) < 1e-6
    assert losses.edge_l1(torch.nn.functional.avg_pool2d(prediction, 3, 1, 1), prediction) > 0.1


@pytest.mark.parametrize("kernel", [3, 7])
def test_dilation_of_a_dot_is_a_square(kernel):
    mask = torch.zeros(1, 1, 21, 21, dtype=torch.bool)
    mask[..., 10, 10] = True
    assert losses.dilate(mask, kernel).sum() == kernel**2


def test_gradient_penalty_of_a_linear_function_is_the_squared_weight():
    image = torch.zeros(2, 3, 4, 4, requires_grad=True)
    weight = torch.full((3, 4, 4), 0.5)
    logits = (image * weight).sum(dim=(1, 2, 3))[:, None]
    torch.testing.assert_close(losses.gradient_penalty(logits, (image,)), torch.tensor(48 * 0.25))


def test_density_points_are_in_the_box_and_follow_the_generator():
    first = losses.density_points(2, 100, 0.005, torch.Generator().manual_seed(3))
    second = losses.density_points(2, 100, 0.005, torch.Generator().manual_seed(3))
    assert first[0].abs().max() <= 0.5 and (first[1] - first[0]).abs().max() < 0.05
    assert torch.equal(first[1], second[1])


def test_laplacians_vanish_on_uniform_motion(generator):
    start, velocity = (torch.rand(1, 3, 4, 4, generator=generator) for _ in range(2))
    for loss in (losses.laplacian_l1, losses.laplacian_squared, losses.laplacian_mean):
        assert loss(start + velocity, start, start + 2 * velocity) < 1e-6
        assert loss(start, start + velocity, start + velocity) > 0


def test_the_papers_laplacian_is_a_squared_norm_and_its_mean_does_not_grow_with_the_planes(generator):
    before, after = (torch.zeros(5, 3, 4, 4) for _ in range(2))
    bump = torch.full((5, 3, 4, 4), 2.0)
    assert losses.laplacian_squared(bump, before, after) == 4 * 3 * 4 * 4
    assert losses.laplacian_mean(bump, before, after) == 4


def test_a_tuned_weight_grows_above_the_target_and_stays_in_its_limits():
    assert losses.tune_weight(0.1, loss=1.0, target=0.1, limit=2) == pytest.approx(0.11)
    assert losses.tune_weight(0.1, loss=0.01, target=0.1, limit=2) == pytest.approx(0.09)
    assert losses.tune_weight(2.0, loss=1.0, target=0.1, limit=2) == 2
    assert losses.tune_weight(0.1, loss=1.0, target=0, limit=2) == 0


def test_ray_weight_losses_are_smallest_for_the_mask_itself():
    head = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    head[..., 2:6, 2:6] = True
    assert losses.weights_mask(head.float(), head) < 1e-6 < losses.weights_mask(torch.full((1, 1, 8, 8), 0.5), head)
    assert losses.binary_entropy(head.float()) < 1e-3
    assert losses.binary_entropy(torch.full((1, 1, 8, 8), 0.5)) == pytest.approx(1)


def test_ray_weight_loss_is_finite_without_a_head():
    assert torch.isfinite(losses.weights_mask(torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool)))


def test_lip_boxes_are_square_around_the_lips_and_inside_the_picture():
    landmarks = torch.full((2, 68, 2), 100.0)
    landmarks[:, 48:60, 0] += torch.linspace(-20, 20, 12)
    landmarks[1] += 400
    boxes = losses.lip_boxes(landmarks)
    assert boxes[0].tolist() == [76, 124, 76, 124]
    x0, x1, y0, y1 = boxes[1].tolist()
    assert x1 - x0 == y1 - y0 == 48 and x1 <= 512 and y1 <= 512


def test_lip_l1_sees_the_lips_alone():
    landmarks = torch.full((1, 68, 2), 32.0)
    landmarks[:, 48:60, 0] += torch.linspace(-5, 5, 12)
    boxes = losses.lip_boxes(landmarks, 64)
    target, outside, inside = (torch.zeros(1, 3, 64, 64) for _ in range(3))
    outside[..., :20, :] = 1
    inside[..., 30:34, 30:34] = 1
    assert losses.lip_l1(outside, target, boxes) == 0 < losses.lip_l1(inside, target, boxes)


def test_lips_outside_the_picture_count_nothing():
    boxes = torch.tensor([[100, 120, 100, 120]])
    assert losses.lip_l1(torch.ones(1, 3, 64, 64), torch.zeros(1, 3, 64, 64), boxes) == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_the_fifth_of_the_pixels_that_is_farthest_off_counts_as_the_limit(generator, pooled):
    error = torch.randperm(101, generator=generator).view(1, 1, 1, 101) + 1.0  # 1 ... 101: rank 80 of 0 ... 100
    prediction = error.clone().requires_grad_()
    loss = losses.masked_l1(
        prediction, torch.zeros_like(error), torch.ones_like(error, dtype=torch.bool), pooled=pooled
    )
    torch.testing.assert_close(loss, error.clamp(max=81).mean())
    loss.backward()
    assert torch.equal(prediction.grad[error < 81], torch.full((80,), 1 / 101))
    assert torch.equal(prediction.grad[error > 81], torch.zeros(20))
    small = losses.masked_l1(
        error / 1000, torch.zeros_like(error), torch.ones_like(error, dtype=torch.bool), pooled=pooled
    )
    torch.testing.assert_close(small, error.mean() / 1000)  # nothing below 0.5 is limited


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_mask_grows_to_all_sides_alike_and_keeps_its_size(kernel):
    mask = torch.zeros(1, 1, 21, 15, dtype=torch.bool)
    mask[..., 10, 7] = True
    rows, columns = losses.dilate(mask, kernel)[0, 0].nonzero().unbind(dim=1)
    assert losses.dilate(mask, kernel).shape == mask.shape
    for covered, middle in ((rows, 10), (columns, 7)):
        assert covered.min() == middle - kernel // 2 and covered.max() == middle + kernel // 2
