"""Golden numbers of the whole model at full size: the released one (two frames) and a stage-2 model with tri-grids."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.camera import Camera, pose_camera
from modules.convert import load_official
from modules.image_to_plane import ImageToPlaneConfig
from modules.motion_adapter import MotionAdapterConfig
from modules.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.rendering.renderer import RendererConfig
from modules.tri_grid import TriGridRefinerConfig
from tests.golden.compare import check
from tests.golden.test_head import bilinear, photo, pncc, record

PLANES, IMAGES = 1e-4, 1e-3


def cameras(gold) -> Camera:
    euler = gold.input("portrait.euler", (2, 3), std=0.15)
    translation = gold.input("portrait.trans", (2, 3), std=0.3)
    return pose_camera(euler, translation)


def pncc_of_frame(gold, frame: int) -> Tensor:
    pictures = [pncc(gold, "portrait.pncc", which, 1, 512) for which in ("cano", "src", f"tgt{frame}")]
    return torch.stack(pictures, dim=1)


def one_hot_classes(gold) -> Tensor:
    classes = gold.input("portrait.seg", (1, 6, 37, 37)).argmax(dim=1)
    index = 37 * torch.arange(512) // 512
    return F.one_hot(classes[:, index][:, :, index], 6).movedim(-1, 1).float()


def keypoints_of_frame(gold, frame: int) -> tuple[Tensor, Tensor]:
    source = gold.input("portrait.kp_s", (1, 68, 3), std=0.5)
    driving = source + gold.input(f"portrait.kp_delta{frame}", (1, 68, 3), std=0.2)
    flat = torch.tensor([1.0, 1.0, 0.0])
    return (source * flat).clamp(-1, 1), (driving * flat).clamp(-1, 1)


def check_render(output: PortraitOutput, npz, prefix: str) -> None:
    check(output.motion_planes, npz, f"{prefix}secc_planes", PLANES, "max")
    check(output.planes, npz, f"{prefix}planes", PLANES, "max")
    check(output.feature, npz, f"{prefix}feature", IMAGES, "max")
    check(output.weights, npz, f"{prefix}weights", IMAGES, "max")
    check(output.depth, npz, f"{prefix}image_depth", IMAGES, "max")
    check(output.image_raw, npz, f"{prefix}image_raw", IMAGES, "max")
    check(output.image, npz, f"{prefix}image", IMAGES, "max")
    check(output.image[..., 240:272, 100:132], npz, f"{prefix}image.crop", IMAGES, "max")


def test_the_released_model_makes_two_frames(golden):
    gold, found = golden("portrait"), {}
    model = load_official(Real3DPortrait(Real3DPortraitConfig.released()), gold.weights(), "portrait")
    model.htbsr.block0.register_forward_hook(lambda module, inputs, output: found.update(block0_rgb=output[1]))
    camera = cameras(gold)
    check(camera.vector(), gold.npz, "in.camera", 1e-5)
    image = photo(gold, "portrait.image", 1, 512)
    check(image, gold.npz, "in.image", 1e-5, "max")
    torso = gold.input("portrait.torso", (1, 3, 512, 512), std=0.5).clamp(-1, 1)
    background = bilinear(gold.input("portrait.bg_low", (1, 3, 9, 9), std=0.6), 512).clamp(-1, 1)
    with torch.inference_mode():
        planes = model.canonical_planes(image)
        check(planes, gold.npz, "cano_planes", PLANES, "max")
        source = model.encode_source(torso, one_hot_classes(gold), background)
        for frame in range(2):
            source_keypoints, keypoints = keypoints_of_frame(gold, frame)
            output = model(planes, camera[frame:frame + 1], pncc_of_frame(gold, frame), source, source_keypoints,
                           keypoints)
            prefix = f"frame{frame}."
            check_render(output, gold.npz, prefix)
            check(output.planes[:, :, 7, 120:136, 100:116], gold.npz, f"{prefix}planes.crop", PLANES, "max")
            check(found["block0_rgb"], gold.npz, f"{prefix}block0_rgb", IMAGES, "max")
            check(output.htbsr.torso_image, gold.npz, f"{prefix}torso_rgb", IMAGES, "max")
            check(output.htbsr.occlusion_2, gold.npz, f"{prefix}occlusion_2", IMAGES, "max")


def test_a_stage_2_model_with_tri_grids(golden):
    gold, found = golden("head_grid3"), {}
    config = dataclasses.replace(
        Real3DPortraitConfig.full(stage=2), image_to_plane=ImageToPlaneConfig(plane_depth=3),
        motion_adapter=MotionAdapterConfig(plane_depth=3), tri_grid=TriGridRefinerConfig(plane_depth=3),
        renderer=RendererConfig(plane_depth=3, missing_rays="official"))
    model = load_official(Real3DPortrait(config), gold.weights(), "head")
    model.image_to_plane.register_forward_hook(record(found, "i2p_planes"))
    camera = Camera.from_vector(torch.from_numpy(gold.npz["in.camera"]))
    with torch.inference_mode():
        planes = model.canonical_planes(photo(gold, "portrait.image", 1, 512))
        output = model(planes, camera, pncc_of_frame(gold, 1))
    check(found["i2p_planes"], gold.npz, "i2p_planes", PLANES, "max")
    check(planes, gold.npz, "cano_planes", PLANES, "max")
    check_render(output, gold.npz, "")
