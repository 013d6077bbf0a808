"""The dual discriminator in small."""

import pytest
import torch

from modules.portrait.discriminator import DualDiscriminator, DualDiscriminatorConfig, perturb_cameras

CONFIG = DualDiscriminatorConfig(resolution=16, base_channels=64, max_channels=12, mapping_layers=2)


@pytest.fixture
def judge() -> DualDiscriminator:
    torch.manual_seed(0)
    return DualDiscriminator(CONFIG)


def inputs(generator: torch.Generator, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image, raw = (torch.randn(batch, 3, size, size, generator=generator) / 2 for size in (16, 4))
    return image, raw, torch.randn(batch, 25, generator=generator)


def test_picture_render_and_camera_all_count(judge: DualDiscriminator, generator: torch.Generator) -> None:
    image, raw, camera = inputs(generator)
    logits = judge(image, raw, camera)
    assert logits.shape == (4, 1)
    for changed in ((-image, raw, camera), (image, -raw, camera), (image, raw, -camera)):
        assert not torch.allclose(judge(*changed), logits)


def test_values_beyond_the_picture_range_do_not_count(judge: DualDiscriminator, generator: torch.Generator) -> None:
    image, raw, camera = inputs(generator)
    assert torch.allclose(judge(image * 50, raw, camera), judge((image * 50).clamp(-1, 1), raw, camera))


def test_the_gradient_penalty_reaches_the_weights(judge: DualDiscriminator, generator: torch.Generator) -> None:
    image, raw, camera = inputs(generator)
    image.requires_grad_()
    raw.requires_grad_()
    gradients = torch.autograd.grad(judge(image, raw, camera).sum(), (image, raw), create_graph=True)
    sum(gradient.square().sum() for gradient in gradients).backward()
    for name in ("b16.fromrgb", "b16.conv0", "b8.conv1", "b4.conv", "b4.fc"):
        assert judge.get_submodule(name).weight.grad.abs().sum() > 0, name


def test_pose_noise_needs_a_generator_and_spares_the_callers_cameras(
    judge: DualDiscriminator, generator: torch.Generator
) -> None:
    image, raw, camera = inputs(generator)
    before = camera.clone()
    plain = judge(image, raw, camera)
    noisy = [judge(image, raw, camera, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert torch.equal(judge(image, raw, camera), plain) and torch.equal(camera, before)


def test_camera_noise_scales_with_the_spread_of_the_batch(generator: torch.Generator) -> None:
    camera = torch.randn(6, 25, generator=generator)
    camera[:, 3] = 2.0
    moved = perturb_cameras(camera, torch.ones(6, 25), 0.5) - camera
    assert torch.allclose(moved, camera.std(dim=0).expand(6, -1) / 2, atol=1e-6) and (moved[:, 3] == 0).all()
    alone = perturb_cameras(camera[:1], torch.ones(1, 25), 1.0) - camera[:1]
    assert (alone[0, 12:16] == 0).all() and (alone[0, :12] > 0).all()


def test_the_demo_judges_quarter_size_renders(generator: torch.Generator) -> None:
    judge = DualDiscriminator(DualDiscriminatorConfig.demo())
    image, raw = torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 64, 64)
    assert judge(image, raw, torch.zeros(1, 25)).isfinite().all()
    assert sum(parameter.numel() for parameter in judge.parameters()) < 1_000_000


@pytest.mark.parametrize("change", [{"resolution": 100}, {"resolution": 4}, {"base_channels": 100}])
def test_impossible_configs_are_refused_with_the_value(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        DualDiscriminatorConfig(**change)
