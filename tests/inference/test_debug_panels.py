import torch

from inference.debug_panels import debug_panels
from modules.geometry.camera import pose_camera
from modules.portrait.decoder import Decoded
from modules.portrait.driving import Driving, PNCCInputs
from modules.portrait.real3d_portrait import PortraitOutput
from modules.rendering.renderer import RenderOutput


def test_five_panels_of_one_size_with_near_things_bright() -> None:
    camera = pose_camera(torch.zeros(1, 3), torch.zeros(1, 3))
    distance = float(camera.camera_to_world[0, :3, 3].norm())
    depth = torch.full((1, 1, 4, 4), distance - 0.25)
    depth[..., 2:] = distance + 0.25
    pncc = torch.full((1, 3, 6, 6), 0.2)
    output = PortraitOutput(
        RenderOutput(torch.full((1, 5, 4, 4), 0.1), depth, torch.ones(1, 1, 4, 4)),
        Decoded(torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 1, 8, 8)),
        torch.zeros(1),
        None,
    )
    panels = debug_panels(torch.full((1, 3, 8, 8), -0.7), Driving(camera, PNCCInputs(pncc, pncc, pncc)), output)
    assert panels.shape == (1, 3, 8, 40)
    means = [panels[..., i : i + 8].mean().item() for i in (0, 8, 16, 32)]
    torch.testing.assert_close(torch.tensor(means), torch.tensor([-0.7, 0.2, 0.1, 0.5]))
    assert panels[..., 24:28].mean() > 0.45 and panels[..., 28:32].mean() < -0.45
