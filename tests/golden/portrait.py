"""Golden numbers of the whole model at full size: the released one (two frames) and a stage-2 model with tri-grids."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera, pose_camera
from modules.official.names import load_official
from modules.portrait.image_to_plane import ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapterConfig
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.portrait.tri_grid import TriGridRefinerConfig
from modules.rendering.renderer import RendererConfig
from tests.golden.file import Golden, checks
from tests.golden.head import bilinear, photo, pncc_stack
from tests.golden.watch import watched

INPUTS, PLANES, IMAGES = 1e-5, 1e-4, 1e-3


def pncc_of_frame(g: Golden, frame: int) -> Tensor:
    return pncc_stack(g, "portrait.pncc", ("cano", "src", f"tgt{frame}"), 1, 512)


def one_hot_classes(g: Golden) -> Tensor:
    classes = g.input("portrait.seg", (1, 6, 37, 37)).argmax(dim=1)
    index = 37 * torch.arange(512) // 512
    return F.one_hot(classes[:, index][:, :, index], 6).movedim(-1, 1).float()


def keypoints_of_frame(g: Golden, frame: int) -> tuple[Tensor, Tensor]:
    source = g.input("portrait.kp_s", (1, 68, 3), std=0.5)
    driving = source + g.input(f"portrait.kp_delta{frame}", (1, 68, 3), std=0.2)
    flat = torch.tensor([1.0, 1.0, 0.0])
    return (source * flat).clamp(-1, 1), (driving * flat).clamp(-1, 1)


def check_render(g: Golden, output: PortraitOutput, prefix: str) -> None:
    g.check(output.motion_planes, f"{prefix}secc_planes", PLANES)
    g.check(output.planes, f"{prefix}planes", PLANES)
    g.check(output.feature, f"{prefix}feature", IMAGES)
    g.check(output.weights, f"{prefix}weights", IMAGES)
    g.check(output.depth, f"{prefix}image_depth", IMAGES)
    g.check(output.image_raw, f"{prefix}image_raw", IMAGES)
    g.check(output.image, f"{prefix}image", IMAGES)
    g.check(output.image[..., 240:272, 100:132], f"{prefix}image.crop", IMAGES)


@checks("portrait", slow=True)
def the_released_model_makes_frames(g: Golden) -> None:
    model = load_official(Real3DPortrait(Real3DPortraitConfig.released()), g.weights(), "portrait")
    frames = g.shape("in.camera")[0]
    camera = pose_camera(g.input("portrait.euler", (frames, 3), std=0.15),
                         g.input("portrait.trans", (frames, 3), std=0.3))
    g.check(camera.vector(), "in.camera", INPUTS)
    image = photo(g, "portrait.image", 1, 512)
    g.check(image, "in.image", INPUTS)
    torso = g.input("portrait.torso", (1, 3, 512, 512), std=0.5).clamp(-1, 1)
    background = bilinear(g.input("portrait.bg_low", (1, 3, 9, 9), std=0.6), 512).clamp(-1, 1)
    with torch.inference_mode(), watched({"block0": model.htbsr.block0}) as seen:
        planes = model.canonical_planes(image)
        g.check(planes, "cano_planes", PLANES)
        source = model.encode_source(torso, one_hot_classes(g), background)
        for frame in range(frames):
            source_keypoints, keypoints = keypoints_of_frame(g, frame)
            output = model(planes, camera[frame:frame + 1], pncc_of_frame(g, frame), source, source_keypoints,
                           keypoints)
            prefix = f"frame{frame}."
            check_render(g, output, prefix)
            g.check(output.planes[:, :, 7, 120:136, 100:116], f"{prefix}planes.crop", PLANES)
            g.check(seen["block0"][1], f"{prefix}block0_rgb", IMAGES)
            g.check(output.htbsr.torso_image, f"{prefix}torso_rgb", IMAGES)
            g.check(output.htbsr.occlusion_2, f"{prefix}occlusion_2", IMAGES)


@checks("head_grid3", slow=True)
def a_stage_2_model_with_tri_grids(g: Golden) -> None:
    config = dataclasses.replace(
        Real3DPortraitConfig.full(stage=2), image_to_plane=ImageToPlaneConfig(plane_depth=3),
        motion_adapter=MotionAdapterConfig(plane_depth=3), tri_grid=TriGridRefinerConfig(plane_depth=3),
        renderer=RendererConfig(plane_depth=3, missing_rays="official"))
    model = load_official(Real3DPortrait(config), g.weights(), "head")
    with torch.inference_mode(), watched({"i2p_planes": model.image_to_plane}) as seen:
        planes = model.canonical_planes(photo(g, "portrait.image", 1, 512))
        output = model(planes, Camera.from_vector(g["in.camera"]), pncc_of_frame(g, 1))
    g.check(seen["i2p_planes"], "i2p_planes", PLANES)
    g.check(planes, "cano_planes", PLANES)
    check_render(g, output, "")
