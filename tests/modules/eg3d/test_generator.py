"""The EG3D generator in small: shapes, shared planes, determinism."""

import pytest
import torch

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.geometry.camera import Camera, look_at_camera
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from tests.golden.compare import relative_error

# fmt: off
CONFIG = EG3DConfig(
    z_dim=6, w_dim=8, plane_resolution=16, base_channels=128, max_channels=16, neural_resolution=8,
    renderer=RendererConfig(plane_channels=4, hidden_channels=8, samples_coarse=6, samples_fine=5),
    superresolution=SuperresolutionConfig(resolution=8, feature_channels=4, middle_channels=6, output_channels=5,
                                          w_dim=8))
# fmt: on


@pytest.fixture
def teacher() -> EG3DGenerator:
    torch.manual_seed(0)
    return EG3DGenerator(CONFIG).eval()


def frontal(count: int, yaw: float = 0.0) -> Camera:
    return look_at_camera(torch.full((count,), yaw), torch.zeros(count))


@torch.no_grad()
def test_a_sample_has_the_sizes_of_the_config(teacher: EG3DGenerator, generator: torch.Generator) -> None:
    z = torch.randn(2, 6, generator=generator)
    ws = teacher.styles(z, frontal(2))
    assert ws.shape == (2, CONFIG.num_ws, 8) == (2, 6, 8)
    planes = teacher.planes(ws)
    assert planes.shape == (2, 3, 4, 16, 16)
    view = teacher.render(planes, ws, frontal(2, 0.3))
    assert view.image.shape == (2, 3, 32, 32)
    assert view.image_raw.shape == (2, 3, 8, 8) and view.weights.shape == view.depth.shape == (2, 1, 8, 8)


@torch.no_grad()
def test_views_do_not_depend_on_who_else_is_in_the_batch(teacher: EG3DGenerator, generator: torch.Generator) -> None:
    z = torch.randn(2, 6, generator=generator)
    pair, alone = teacher(z, frontal(2), frontal(2, 0.2)), teacher(z[:1], frontal(1), frontal(1, 0.2))
    assert relative_error(pair.image[:1], alone.image) < 1e-5


@torch.no_grad()
def test_truncation_to_zero_gives_everyone_the_average(teacher: EG3DGenerator, generator: torch.Generator) -> None:
    teacher.backbone.mapping.w_avg.copy_(torch.randn(8, generator=generator))
    ws = teacher.styles(torch.randn(2, 6, generator=generator), frontal(2), truncation_psi=0.0)
    assert torch.allclose(ws, teacher.backbone.mapping.w_avg.expand_as(ws), atol=1e-6)


@torch.no_grad()
def test_random_noise_comes_from_the_generator(teacher: EG3DGenerator, generator: torch.Generator) -> None:
    for name, parameter in teacher.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    ws = teacher.styles(torch.randn(1, 6, generator=generator), frontal(1))
    planes = [teacher.planes(ws, "random", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(planes[0], planes[1]) and not torch.equal(planes[0], planes[2])


@pytest.mark.parametrize(
    "change", [{"plane_resolution": 48}, {"superresolution_styles": "other"}, {"neural_resolution": 0}]
)
def test_impossible_configs_are_refused_with_the_value(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        EG3DConfig(**change)
