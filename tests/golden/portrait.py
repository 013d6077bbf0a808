"""Golden numbers of the whole model at full size: the released one (two frames) and a stage-2 model with tri-grids."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera, pose_camera
from modules.official.names import load_official
from modules.portrait.build import build_portrait
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import Driving, PNCCInputs
from modules.portrait.image_to_plane import ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.photo import Photo, Surroundings
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait
from modules.portrait.tri_grid import TriGridRefinerConfig
from modules.rendering.renderer import RendererConfig
from tests.golden.file import Golden, checks
from tests.golden.head import bilinear, photo, pncc_stack
from tests.golden.watch import watched

INPUTS, PLANES, IMAGES = 1e-5, 1e-4, 1e-3


def pncc_of_frame(g: Golden, frame: int) -> PNCCInputs:
    return PNCCInputs(*pncc_stack(g, "portrait.pncc", ("cano", "src", f"tgt{frame}"), 1, 512).unbind(dim=1))


def one_hot_classes(g: Golden) -> Tensor:
    classes = g.input("portrait.seg", (1, 6, 37, 37)).argmax(dim=1)
    index = 37 * torch.arange(512) // 512
    return F.one_hot(classes[:, index][:, :, index], 6).movedim(-1, 1).float()


def keypoints_of_frame(g: Golden, frame: int) -> tuple[Tensor, Tensor]:
    source = g.input("portrait.kp_s", (1, 68, 3), std=0.5)
    driving = source + g.input(f"portrait.kp_delta{frame}", (1, 68, 3), std=0.2)
    flat = torch.tensor([1.0, 1.0, 0.0])
    return (source * flat).clamp(-1, 1), (driving * flat).clamp(-1, 1)


def check_render(g: Golden, output: PortraitOutput, prefix: str, images: float) -> None:
    """`images`: the tolerance of what rays have seen."""
    g.check(output.motion_planes, f"{prefix}secc_planes", PLANES)
    g.check(output.planes, f"{prefix}planes", PLANES)
    g.check(output.rendered.feature, f"{prefix}feature", images)
    g.check(output.rendered.weights, f"{prefix}weights", images)
    g.check(output.rendered.depth, f"{prefix}image_depth", images)
    g.check(output.image_raw, f"{prefix}image_raw", images)
    g.check(output.image, f"{prefix}image", images)
    g.check(output.image[..., 240:272, 100:132], f"{prefix}image.crop", images)


def released_model(g: Golden) -> Real3DPortrait:
    return load_official(build_portrait(Real3DPortraitConfig.released()), g.weights(), "portrait")


def check_frames(g: Golden, model: Real3DPortrait, images: float) -> None:
    frames = g.shape("in.camera")[0]
    camera = pose_camera(
        g.input("portrait.euler", (frames, 3), std=0.15), g.input("portrait.trans", (frames, 3), std=0.3)
    )
    g.check(camera.vector(), "in.camera", INPUTS)
    image = photo(g, "portrait.image", 1, 512)
    g.check(image, "in.image", INPUTS)
    torso = g.input("portrait.torso", (1, 3, 512, 512), std=0.5).clamp(-1, 1)
    background = bilinear(g.input("portrait.bg_low", (1, 3, 9, 9), std=0.6), 512).clamp(-1, 1)
    with torch.inference_mode(), watched({"block0": model.decoder.block0}) as seen:
        around = Surroundings(torso, one_hot_classes(g), background, keypoints_of_frame(g, 0)[0])
        source = model.encode(Photo(image, camera[:1], around))
        g.check(source.planes, "cano_planes", PLANES)
        for frame in range(frames):
            driving = Driving(camera[frame : frame + 1], pncc_of_frame(g, frame), keypoints_of_frame(g, frame)[1])
            output = model(source, driving)
            prefix = f"frame{frame}."
            check_render(g, output, prefix, images)
            g.check(output.planes[:, :, 7, 120:136, 100:116], f"{prefix}planes.crop", PLANES)
            g.check(seen["block0"][1], f"{prefix}block0_rgb", images)
            g.check(output.decoded.torso_image, f"{prefix}torso_rgb", images)
            g.check(output.decoded.occlusion_2, f"{prefix}occlusion_2", images)


@checks("portrait", slow=True)
def the_released_model_makes_frames(g: Golden) -> None:
    check_frames(g, released_model(g), IMAGES)


def tri_grid_model(g: Golden) -> Real3DPortrait:
    config = dataclasses.replace(
        Real3DPortraitConfig.full(stage=2),
        image_to_plane=ImageToPlaneConfig(plane_depth=3),
        motion_adapter=MotionAdapterConfig(plane_depth=3),
        tri_grid=TriGridRefinerConfig(plane_depth=3),
        renderer=RendererConfig(plane_depth=3, missing_rays="official"),
    )
    return load_official(build_portrait(config), g.weights(), "head")


def check_tri_grids(g: Golden, model: Real3DPortrait, images: float) -> None:
    with torch.inference_mode(), watched({"i2p_planes": model.image_to_plane}) as seen:
        camera = Camera.from_vector(g["in.camera"])
        source = model.encode(Photo(photo(g, "portrait.image", 1, 512), camera))
        output = model(source, Driving(camera, pncc_of_frame(g, 1)))
    g.check(seen["i2p_planes"], "i2p_planes", PLANES)
    g.check(source.planes, "cano_planes", PLANES)
    check_render(g, output, "", images)


@checks("head_grid3", slow=True)
def a_stage_2_model_with_tri_grids(g: Golden) -> None:
    check_tri_grids(g, tri_grid_model(g), IMAGES)
