"""The torso that starts as its photo."""

import torch

from modules.portrait.demo.torso import PhotoTorsoModel, warp_image
from modules.portrait.htbsr.torso import volume_grid
from tests.golden.compare import relative_error
from tests.modules.portrait.htbsr.conftest import TORSO
from tests.modules.portrait.htbsr.test_torso import head


def test_a_image_moves_with_the_volume(generator: torch.Generator) -> None:
    image = torch.rand(1, 3, 32, 32, generator=generator)
    grid = volume_grid(4, 8, image)[None]
    assert relative_error(warp_image(image, grid), image) < 1e-5
    voxel = 2 / 7  # of eight, from centre to centre
    right = warp_image(image, grid + torch.tensor([voxel, 0.0, 0.0]))  # four pixels of the image
    assert relative_error(right[..., :-4], image[..., 4:]) < 1e-5
    down = warp_image(image, grid + torch.tensor([0.0, voxel, 0.0]))
    assert relative_error(down[..., :-4, :], image[..., 4:, :]) < 1e-5


def test_the_torso_starts_with_its_photo(generator: torch.Generator) -> None:
    torch.manual_seed(0)  # of one tiny network in forty no feature is above 0
    model = PhotoTorsoModel(TORSO).eval()
    torso, classes = torch.rand(1, 3, 16, 16, generator=generator), torch.ones(1, 6, 32, 32)
    points = torch.rand(1, 4, 3, generator=generator) - 0.5
    bias = model.deform_based_generator.out_conv.bias.view(1, 3, 1, 1)
    with torch.no_grad():
        output = model(model.encode_source(torso, classes), points, points, *head(1))
        assert relative_error(output.image, torso + bias) < 1e-4
        assert (output.hidden != 0).any()
