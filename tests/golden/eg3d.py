"""The EG3D teacher and the dual discriminator against the original's numbers.

See docs/spec/sr_torso_eg3d.md#12.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.geometry.camera import Camera
from modules.layers.resample import resize
from modules.layers.stylegan import fir_filter, upsample_2x
from modules.official.names import load_official
from modules.portrait.discriminator import DualDiscriminator, DualDiscriminatorConfig, perturb_cameras
from modules.rendering.planes import colours
from modules.rendering.rays import box_limits, pixel_rays
from modules.rendering.renderer import RayNoise, RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from tests.golden.file import Golden, checks
from tests.golden.watch import watched

IMAGES = 2e-4  # max |difference| / max |reference|
AUTO_RAYS = 1e-3  # samples sit on the faces of the box, where zero padding starts
DISCRIMINATOR = 1e-5
PENALTY, GRADIENT = 2e-5, 2e-3


def cameras(g: Golden, key: str) -> Camera:
    return Camera.from_vector(g[key])


# --------------------------------------------------------------------------------------------------------- EG3D


def teacher(g: Golden) -> EG3DGenerator:
    return load_official(EG3DGenerator(EG3DConfig.full()), g.weights(), "eg3d")


def latents(g: Golden, batch: int) -> Tensor:
    return g.input("eg3d.z", (batch, 512))


@checks("eg3d", slow=True)
@torch.no_grad()
def images_of_the_teacher(g: Golden) -> None:
    model, conditioning = g.once(teacher), cameras(g, "conditioning_camera")
    for psi in g.names(r"psi([\d.]+)\.w"):
        ws = model.styles(latents(g, len(conditioning)), conditioning, float(psi))
        g.check(ws[:, 0], f"psi{psi}.w", IMAGES)
        planes = model.planes(ws)
        g.check(planes.flatten(1, 2), f"psi{psi}.planes", IMAGES)
        result = model.render(planes, ws, cameras(g, "camera"))
        for key, value in (
            ("weights", result.weights),
            ("feature", result.feature),
            ("image_raw", result.image_raw),
            ("image_depth", result.depth),
            ("image", result.image),
        ):
            g.check(value, f"psi{psi}.{key}", IMAGES)
        g.check(result.image[..., 240:272, 240:272], f"psi{psi}.image.crop", IMAGES)
        if float(psi) == 1:
            points = g.input("eg3d.points", g.shape("points.sigma")[:2] + (3,), 0, 0.3)
            sigma, logits = model.renderer.query(planes, points)
            g.check(sigma, "points.sigma", IMAGES)
            g.check(colours(logits), "points.rgb", IMAGES)


@checks("eg3d", slow=True)
@torch.no_grad()
def truncation_of_the_first_styles_without_noise(g: Golden) -> None:
    model, conditioning = g.once(teacher), cameras(g, "conditioning_camera")
    for psi, cutoff in g.names(r"psi([\d.]+)_cutoff(\d+)\.w"):
        prefix = f"psi{psi}_cutoff{cutoff}"
        ws = model.styles(latents(g, len(conditioning)), conditioning, float(psi), int(cutoff))
        g.check(ws[:, [0, 13]], f"{prefix}.w", IMAGES)
        planes = model.planes(ws[:1], noise="none")
        g.check(planes.flatten(1, 2), f"{prefix}_nonoise.planes", IMAGES)
        image = model.render(planes, ws[:1], cameras(g, "camera")[:1]).image
        g.check(image, f"{prefix}_nonoise.image", IMAGES)


@checks("eg3d", slow=True)
@torch.no_grad()
def jittered_samples(g: Golden) -> None:
    model, camera = g.once(teacher), cameras(g, "camera")[:1]
    ws = model.styles(latents(g, 1), cameras(g, "conditioning_camera")[:1], 1.0)
    for name in g.names(r"noise(\d+)\.image_raw"):
        size = int(name)
        jitter, importance = g.input("eg3d.jitter", (1, size**2, 48, 1)), g.input("eg3d.importance", (size**2, 48))
        noise = RayNoise(*[values - values.floor() for values in (jitter[..., 0], importance[None])])
        rays = pixel_rays(camera.camera_to_world, camera.intrinsics, size)
        rendered = model.renderer.render_rays(model.planes(ws), *rays, noise)
        feature, depth, weights = (
            values.transpose(1, 2).unflatten(2, (size, size))
            for values in (rendered.feature, rendered.depth, rendered.weights)
        )
        result = model.finish(feature, depth, weights, ws)
        g.check(result.image_raw, f"noise{name}.image_raw", IMAGES)
        g.check(result.depth, f"noise{name}.image_depth", IMAGES)
        g.check(result.image, f"noise{name}.image", IMAGES)


@checks("eg3d_autorays", slow=True)
@torch.no_grad()
def automatic_ray_limits_of_the_portrait_projects_copy(g: Golden) -> None:
    base, camera = g.sibling("eg3d"), cameras(g, "camera")
    config = EG3DConfig(
        renderer=RendererConfig(missing_rays="official"),
        superresolution=SuperresolutionConfig(clamp=256.0),
        superresolution_styles="ones",
        clamp_images=True,
    )
    model = load_official(EG3DGenerator(config), base.weights(), "eg3d")
    ws = model.styles(latents(g, len(camera)), cameras(base, "conditioning_camera"), 0.7)
    g.check(ws[:, 0], "w", AUTO_RAYS)
    result = model.render(model.planes(ws), ws, camera)
    for key, value in (
        ("weights", result.weights),
        ("image_raw", result.image_raw),
        ("image_depth", result.depth),
        ("image", result.image),
    ):
        g.check(value, key, AUTO_RAYS)
    rays = pixel_rays(camera.camera_to_world, camera.intrinsics, config.neural_resolution)
    valid = box_limits(*rays, config.renderer.box_size)[2].unflatten(1, (config.neural_resolution,) * 2)
    g.check(valid[..., 0], "ray_valid", 1e-6)  # exact but for the rounding of the statistics


# ------------------------------------------------------------------------------------------------ discriminator


def pictures(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    camera = g["camera"]
    batch = len(camera)
    low, noise = g.input("disc.low", (batch, 3, 8, 8), 0, 0.9), g.input("disc.low_raw", (batch, 3, 8, 8), 0, 0.3)
    image = resize(low, 512, antialias=False) + g.input("disc.image", (batch, 3, 512, 512), 0, 0.2)
    raw = resize(low + noise, 128, antialias=False) + g.input("disc.image_raw", (batch, 3, 128, 128), 0, 0.2)
    return image, raw, camera


def discriminator(g: Golden) -> DualDiscriminator:
    return load_official(DualDiscriminator(DualDiscriminatorConfig.full()), g.weights(), "discriminator")


@checks("dual_discriminator", slow=True)
@torch.no_grad()
def logits_and_their_way(g: Golden) -> None:
    model, (image, raw, camera) = g.once(discriminator), pictures(g)
    blocks = {name: model.get_submodule(name) for name in g.names(r"(b\d+)")}
    with watched(blocks | {"cmap": model.mapping, "epilogue_out": model.b4.out}, {"mbstd": model.b4.conv}) as values:
        values["logits"] = model(image, raw, camera)
    values["mbstd"] = values["mbstd"][0][:, -1:]
    values["raw_resized"] = resize(raw, 512)
    for key, value in values.items():
        g.check(value, key, DISCRIMINATOR)
    noise, single = g.input("disc.c_noise", (len(camera), 25)), g.input("disc.c_noise", (1, 25))
    g.check(model(image, raw, perturb_cameras(camera, noise, 1.0)), "logits_pose_noise", DISCRIMINATOR)
    g.check(model(image[:1], raw[:1], camera[:1]), "logits_batch1", DISCRIMINATOR)
    noisy = perturb_cameras(camera[:1], single, 1.0)
    g.check(model(image[:1], raw[:1], noisy), "logits_batch1_pose_noise", DISCRIMINATOR)


@checks("dual_discriminator", slow=True)
def gradient_penalty(g: Golden) -> None:
    count = g.shape("r1.logits")[0]
    image, raw, camera = (tensor[:count].clone() for tensor in pictures(g))
    image.requires_grad_()
    raw.requires_grad_()
    logits = g.once(discriminator)(image, raw, camera)
    g.check(logits, "r1.logits", DISCRIMINATOR)
    gradients = dict(zip(("image", "raw"), torch.autograd.grad(logits.sum(), (image, raw))))
    penalties = {name: gradient.square().sum(dim=(1, 2, 3)).mean() for name, gradient in gradients.items()}
    for name in gradients:
        g.check(gradients[name], f"r1.grad_{name}", GRADIENT, norm="l2")  # the sign of a leaky ReLU may flip
        g.check(penalties[name], f"r1.penalty_{name}", PENALTY)
    g.check(sum(penalties.values()) / 2, "r1.loss", PENALTY)


@checks("dual_discriminator", slow=True)
def resizing_modes(g: Golden) -> None:
    image = pictures(g)[0][:1]
    for name in g.names(r"resize(\d+)_none"):
        size = int(name)
        antialiased, plain = resize(image, size), resize(image, size, antialias=False)
        g.check(antialiased, f"resize{size}_antialiased", DISCRIMINATOR)
        g.check(plain, f"resize{size}_none", DISCRIMINATOR)
        for share in g.names(rf"resize{size}_([\d.]+)"):
            g.check(torch.lerp(plain, antialiased, float(share)), f"resize{size}_{share}", DISCRIMINATOR)
        grown = F.interpolate(upsample_2x(image), size=(2 * size + 2,) * 2, mode="bilinear", align_corners=False)
        g.check(fir_filter(grown, padding=0)[..., ::2, ::2], f"resize{size}_classic", DISCRIMINATOR)
