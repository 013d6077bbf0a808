"""The EG3D teacher and the dual discriminator against the original's numbers (spec: super-resolution, section 12)."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.camera import Camera
from modules.convert import load_official
from modules.discriminator import DualDiscriminator, DualDiscriminatorConfig, perturb_cameras
from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.htbsr.superresolution import SuperresolutionConfig, resize
from modules.layers.stylegan import fir_filter, upsample_2x
from modules.rendering.planes import colours
from modules.rendering.rays import pixel_rays
from modules.rendering.renderer import RayNoise, RendererConfig
from tests.conftest import Golden
from tests.golden.compare import check, relative_error

IMAGES = 2e-4         # max |difference| / max |reference|
AUTO_RAYS = 1e-3      # samples sit on the faces of the box, where zero padding starts
DISCRIMINATOR = 1e-5
PENALTY, GRADIENT = 2e-5, 2e-3


def cameras(g: Golden, key: str) -> Camera:
    return Camera.from_vector(torch.from_numpy(g.npz[key]))


@pytest.fixture(scope="module")
def teacher(golden: Callable[[str], Golden]) -> EG3DGenerator:
    return load_official(EG3DGenerator(EG3DConfig.full()), golden("eg3d").weights(), "eg3d")


# --------------------------------------------------------------------------------------------------------- EG3D

@torch.no_grad()
@pytest.mark.parametrize("psi", [1.0, 0.7])
def test_teacher_images(golden: Callable[[str], Golden], teacher: EG3DGenerator, psi: float) -> None:
    g = golden("eg3d")
    ws = teacher.styles(g.input("eg3d.z", (2, 512)), cameras(g, "conditioning_camera"), psi)
    check(ws[:, 0], g.npz, f"psi{psi}.w", IMAGES, "max")
    planes = teacher.planes(ws)
    check(planes.flatten(1, 2), g.npz, f"psi{psi}.planes", IMAGES, "max")
    result = teacher.render(planes, ws, cameras(g, "camera"))
    for key, value in (("weights", result.weights), ("feature", result.feature), ("image_raw", result.image_raw),
                       ("image_depth", result.depth), ("image", result.image)):
        check(value, g.npz, f"psi{psi}.{key}", IMAGES, "max")
    assert relative_error(result.image[..., 240:272, 240:272], g.npz[f"psi{psi}.image.crop"], "max") <= IMAGES
    if psi == 1.0:
        sigma, logits = teacher.renderer.query(planes, g.input("eg3d.points", (2, 200, 3), 0, 0.3))
        check(sigma, g.npz, "points.sigma", IMAGES, "max")
        check(colours(logits), g.npz, "points.rgb", IMAGES, "max")


@torch.no_grad()
def test_truncation_of_the_first_styles_without_noise(golden: Callable[[str], Golden], teacher: EG3DGenerator) -> None:
    g = golden("eg3d")
    ws = teacher.styles(g.input("eg3d.z", (2, 512)), cameras(g, "conditioning_camera"), 0.5, 8)
    check(ws[:, [0, 13]], g.npz, "psi0.5_cutoff8.w", IMAGES, "max")
    planes = teacher.planes(ws[:1], noise="none")
    check(planes.flatten(1, 2), g.npz, "psi0.5_cutoff8_nonoise.planes", IMAGES, "max")
    image = teacher.render(planes, ws[:1], cameras(g, "camera")[:1]).image
    check(image, g.npz, "psi0.5_cutoff8_nonoise.image", IMAGES, "max")


@torch.no_grad()
def test_jittered_samples(golden: Callable[[str], Golden], teacher: EG3DGenerator) -> None:
    g = golden("eg3d")
    ws = teacher.styles(g.input("eg3d.z", (2, 512))[:1], cameras(g, "conditioning_camera")[:1], 1.0)
    noises = g.input("eg3d.jitter", (1, 1024, 48, 1))[..., 0], g.input("eg3d.importance", (1024, 48))[None]
    noise = RayNoise(*[values - values.floor() for values in noises])
    camera = cameras(g, "camera")[:1]
    rays = pixel_rays(camera.camera_to_world, camera.intrinsics, 32)
    rendered = teacher.renderer.render_rays(teacher.planes(ws), *rays, noise)
    feature, depth, weights = (values.transpose(1, 2).unflatten(2, (32, 32))
                               for values in (rendered.feature, rendered.depth, rendered.weights))
    result = teacher.finish(feature, depth, weights, ws)
    check(result.image_raw, g.npz, "noise32.image_raw", IMAGES, "max")
    check(result.depth, g.npz, "noise32.image_depth", IMAGES, "max")
    check(result.image, g.npz, "noise32.image", IMAGES, "max")


@torch.no_grad()
def test_automatic_ray_limits_of_the_portrait_projects_copy(golden: Callable[[str], Golden]) -> None:
    g, base = golden("eg3d_autorays"), golden("eg3d")
    config = EG3DConfig(
        renderer=RendererConfig(missing_rays="official"), superresolution=SuperresolutionConfig(clamp=256.0),
        superresolution_styles="ones", clamp_images=True)
    model = load_official(EG3DGenerator(config), base.weights(), "eg3d")
    ws = model.styles(g.input("eg3d.z", (2, 512)), cameras(base, "conditioning_camera"), 0.7)
    check(ws[:, 0], g.npz, "w", IMAGES, "max")
    result = model.render(model.planes(ws), ws, cameras(g, "camera"))
    for key, value in (("weights", result.weights), ("image_raw", result.image_raw), ("image_depth", result.depth),
                       ("image", result.image)):
        check(value, g.npz, key, AUTO_RAYS, "max")


# ------------------------------------------------------------------------------------------------ discriminator

def pictures(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    low, noise = g.input("disc.low", (4, 3, 8, 8), 0, 0.9), g.input("disc.low_raw", (4, 3, 8, 8), 0, 0.3)
    image = resize(low, 512, antialias=False) + g.input("disc.image", (4, 3, 512, 512), 0, 0.2)
    raw = resize(low + noise, 128, antialias=False) + g.input("disc.image_raw", (4, 3, 128, 128), 0, 0.2)
    return image, raw, torch.from_numpy(g.npz["camera"])


@pytest.fixture(scope="module")
def judge(golden: Callable[[str], Golden]) -> DualDiscriminator:
    model = DualDiscriminator(DualDiscriminatorConfig.full())
    return load_official(model, golden("dual_discriminator").weights(), "discriminator")


@torch.no_grad()
def test_discriminator(golden: Callable[[str], Golden], judge: DualDiscriminator) -> None:
    g = golden("dual_discriminator")
    image, raw, camera = pictures(g)
    values: dict[str, Tensor] = {}
    watched = {"b512": "b512", "b64": "b64", "b8": "b8", "cmap": "mapping", "epilogue_out": "b4.out"}
    hooks = [judge.get_submodule(name).register_forward_hook(
        lambda _, __, result, key=key: values.__setitem__(key, result)) for key, name in watched.items()]
    hooks.append(judge.b4.conv.register_forward_pre_hook(
        lambda _, given: values.__setitem__("mbstd", given[0][:, -1:])))
    values["logits"] = judge(image, raw, camera)
    for hook in hooks:
        hook.remove()
    values["raw_resized"] = resize(raw, 512)
    for key, value in values.items():
        check(value, g.npz, key, DISCRIMINATOR, "max")

    noise, single = g.input("disc.c_noise", (4, 25)), g.input("disc.c_noise", (1, 25))
    check(judge(image, raw, perturb_cameras(camera, noise, 1.0)), g.npz, "logits_pose_noise", DISCRIMINATOR, "max")
    check(judge(image[:1], raw[:1], camera[:1]), g.npz, "logits_batch1", DISCRIMINATOR, "max")
    noisy = perturb_cameras(camera[:1], single, 1.0)
    check(judge(image[:1], raw[:1], noisy), g.npz, "logits_batch1_pose_noise", DISCRIMINATOR, "max")


def test_gradient_penalty(golden: Callable[[str], Golden], judge: DualDiscriminator) -> None:
    g = golden("dual_discriminator")
    image, raw, camera = (tensor[:2].clone() for tensor in pictures(g))
    image.requires_grad_()
    raw.requires_grad_()
    logits = judge(image, raw, camera)
    check(logits, g.npz, "r1.logits", DISCRIMINATOR, "max")
    gradients = torch.autograd.grad(logits.sum(), (image, raw))
    penalties = []
    for key, gradient in zip(("image", "raw"), gradients):
        strided = next(k for k in g.npz if k.startswith(f"r1.grad_{key}.") and not k.endswith("stats"))
        step = int(strided.rsplit("x", 1)[1])
        assert relative_error(gradient[..., ::step, ::step], g.npz[strided]) <= GRADIENT
        penalties.append(gradient.square().sum(dim=(1, 2, 3)).mean())
        check(penalties[-1], g.npz, f"r1.penalty_{key}", PENALTY)
    check(sum(penalties) / 2, g.npz, "r1.loss", PENALTY)


def test_resizing_modes(golden: Callable[[str], Golden]) -> None:
    g = golden("dual_discriminator")
    image = pictures(g)[0][:1]
    antialiased, plain = resize(image, 128), resize(image, 128, antialias=False)
    check(antialiased, g.npz, "resize128_antialiased", DISCRIMINATOR, "max")
    check(plain, g.npz, "resize128_none", DISCRIMINATOR, "max")
    check(torch.lerp(plain, antialiased, 0.3), g.npz, "resize128_0.3", DISCRIMINATOR, "max")
    grown = F.interpolate(upsample_2x(image), size=(258, 258), mode="bilinear", align_corners=False)
    check(fir_filter(grown, padding=0)[..., ::2, ::2], g.npz, "resize128_classic", DISCRIMINATOR, "max")
