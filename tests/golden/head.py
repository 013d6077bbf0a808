"""Golden numbers of the head model's parts: renderer, image-to-plane, tri-grid refinement, motion adapter.

See docs/spec/head.md#12.
"""

import dataclasses
import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.geometry.camera import Camera
from modules.official.names import load_official
from modules.portrait.image_to_plane import INPUT_MODES, ImageToPlane, ImageToPlaneConfig
from modules.portrait.motion_adapter import MotionAdapter, MotionAdapterConfig
from modules.portrait.tri_grid import TriGridRefiner, TriGridRefinerConfig
from modules.rendering.compositing import expected_depth, interval_weights, sample_weights
from modules.rendering.planes import colours, sample_planes
from modules.rendering.rays import box_limits, official_limits, pixel_rays
from modules.rendering.renderer import RayNoise, RendererConfig, VolumeRenderer
from modules.rendering.sampling import importance_depths, smooth_weights
from tests.golden.file import Golden, checks
from tests.golden.watch import watched

EXACT, RENDERS, NETWORKS = 1e-5, 1e-3, 1e-4  # whole renders have samples on the faces of the cube


def fraction(values: Tensor) -> Tensor:
    return values - values.floor()


# ------------------------------------------------------------------------------------------- renderer


def rays_of(g: Golden) -> tuple[Tensor, Tensor]:
    camera = Camera.from_vector(g["in.camera"])
    resolution = math.isqrt(g.shape("rays.directions")[1])
    origins, directions = pixel_rays(camera.camera_to_world, camera.intrinsics, resolution)
    return origins.expand_as(directions), directions


def planes_of(g: Golden, depth: int) -> Tensor:
    return g.input(f"renderer.planes{depth}", (g.shape("in.camera")[0], 3, 32 * depth, 16, 16), std=2.0)


def renderer_of(g: Golden, missing_rays: str = "official", **changes: float) -> VolumeRenderer:
    return load_official(VolumeRenderer(RendererConfig(missing_rays=missing_rays, **changes)), g.weights())


@checks("renderer")
def rays_and_limits(g: Golden) -> None:
    origins, directions = rays_of(g)
    g.check(origins, "rays.origins", EXACT)
    g.check(directions, "rays.directions", EXACT)
    for size in g.names(r"limits\.box([\d.]+)\.near"):
        near, far, valid = box_limits(origins, directions, float(size))
        prefix = f"limits.box{size}"
        g.equal(valid, f"{prefix}.valid")
        g.check(torch.where(valid, near, -1.0), f"{prefix}.near", EXACT)
        g.check(torch.where(valid, far, -2.0), f"{prefix}.far", EXACT)
        near, far = official_limits(origins, directions, float(size))
        g.check(near, f"{prefix}.near_filled", EXACT)
        g.check(far, f"{prefix}.far_filled", EXACT)


@checks("renderer")
def lookup_and_decoder(g: Golden) -> None:
    batch, count = g.shape("decode.depth1.sigma")[:2]
    points = g.input("renderer.points", (batch, count, 3), std=0.35)
    for depth, size in g.names(r"sample\.depth(\d+)\.box([\d.]+)"):
        planes = planes_of(g, int(depth))
        planes = planes if depth == "1" else planes.unflatten(2, (32, int(depth)))
        g.check(sample_planes(planes, points, float(size)), f"sample.depth{depth}.box{size}", EXACT)
    for size in g.names(r"sample\.trigrid_depth1\.box([\d.]+)"):
        one_slice = planes_of(g, 1).unflatten(2, (32, 1))
        g.check(sample_planes(one_slice, points, float(size)), f"sample.trigrid_depth1.box{size}", EXACT)
    for depth in g.names(r"decode\.depth(\d+)\.sigma"):
        sigma, logits = renderer_of(g, plane_depth=int(depth)).query(planes_of(g, int(depth)), points)
        g.check(sigma, f"decode.depth{depth}.sigma", EXACT)
        g.check(colours(logits), f"decode.depth{depth}.rgb", EXACT)


@checks("renderer")
def march_and_importance(g: Golden) -> None:
    depths = g["in.march.depths"]  # [B, R, N, 1]
    channels, fine_samples = g.shape("march.white_back0.feature")[2], g.shape("importance.fine")[2]
    colour = torch.sigmoid(g.input("renderer.colors", (*depths.shape[:3], channels)))
    sigma = g.input("renderer.sigma", tuple(depths.shape), mean=1.0, std=5.0)[..., 0]
    sigma[0, 0] = -200.0
    depths = depths[..., 0]
    weights = interval_weights(depths, sigma)
    g.check(weights[..., None], "march.weights", EXACT)
    g.check(expected_depth(weights, depths, depths.min(), depths.max()), "march.depth", EXACT)
    feature = (sample_weights(weights)[..., None] * colour).sum(dim=2)
    g.check(feature * 2 - 1, "march.white_back0.feature", EXACT)
    white = feature + 1 - weights.sum(dim=-1, keepdim=True)
    g.check(white * 2 - 1, "march.white_back1.feature", EXACT)
    depths, weights = depths.flatten(0, 1), weights.flatten(0, 1)
    uniform = fraction(g.input("renderer.u", (len(depths), fine_samples)))
    g.check(importance_depths(depths, weights, uniform).view(g.shape("importance.fine")), "importance.fine", EXACT)
    g.check(smooth_weights(weights), "importance.smoothed", EXACT)


SAMPLES = {"coarse_only": (16, 0), "depth3.noise": (48, 48)}  # coarse and fine; others 12 and 12


@checks("renderer")
def whole_renders(g: Golden) -> None:
    rays = rays_of(g)
    batch, count = rays[1].shape[:2]
    for case in g.names(r"render\.(.+)\.feature"):
        depth = int(case.partition(".")[0].removeprefix("depth"))
        coarse, fine = next((samples for end, samples in SAMPLES.items() if case.endswith(end)), (12, 12))
        renderer = renderer_of(
            g, plane_depth=depth, samples_coarse=coarse, samples_fine=fine, white_background=case.endswith("white")
        )
        noise = RayNoise.centred(renderer.config, torch.device("cpu"))
        if case.endswith("noise"):
            jitter = fraction(g.input("renderer.jitter", (batch, count, coarse, 1)))
            importance = fraction(g.input("renderer.importance", (batch * count, fine)))
            noise = RayNoise(jitter=jitter[..., 0], importance=importance.view(batch, count, -1))
        with torch.no_grad():
            result = renderer.render_rays(planes_of(g, depth), *rays, noise)
        found = {"feature": result.feature, "depth": result.depth, "weights": result.weights}
        if f"render.{case}.sigma_all" in g.npz:
            found |= {
                "depths_coarse": result.coarse_depths[..., None],
                "weights_coarse": result.coarse_weights[..., None],
                "depths_fine": result.fine_depths[..., None],
                "sigma_all": result.sigma[..., None],
            }
        for key, value in found.items():
            g.check(value, f"render.{case}.{key}", RENDERS)


@checks("renderer")
def missing_rays_are_the_only_difference_to_the_official_rules(g: Golden) -> None:
    rays = rays_of(g)
    hit = box_limits(*rays, 1.0)[2][..., 0]
    assert not hit.all()
    noise, renderers = RayNoise.centred(RendererConfig(), torch.device("cpu")), (renderer_of(g), renderer_of(g, "skip"))
    with torch.no_grad():
        a, b = (renderer.render_rays(planes_of(g, 1), *rays, noise) for renderer in renderers)
    torch.testing.assert_close(a.feature[hit], b.feature[hit])
    assert (b.feature[~hit] == -1).all() and (b.weights[~hit] == 0).all()


# ------------------------------------------------------------------------------------------- shared inputs


def bilinear(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def photo(g: Golden, name: str, count: int, size: int) -> Tensor:
    """The photo recipe of the goldens: [count, 3, size, size]."""
    low = bilinear(g.input(f"{name}_low", (count, 3, 12, 12), std=0.7), size)
    image = (low + g.input(name, (count, 3, size, size), std=0.1)).clamp(-1, 1)
    mask = bilinear(g.input(f"{name}_mask", (count, 1, 6, 6), mean=0.4), size)
    return torch.where(mask <= 0, -1.0, image)


def pncc_stack(g: Golden, name: str, pictures: tuple[str, ...], count: int, size: int) -> Tensor:
    """The PNCC recipe of the goldens for each of the pictures: [count, K, 3, size, size]."""
    mask = bilinear(g.input(f"{name}_mask", (count, 1, 5, 5), mean=0.4), size)
    images = [
        bilinear(g.input(f"{name}_{picture}_low", (count, 3, 9, 9), std=0.6), size).clamp(-1, 1) for picture in pictures
    ]
    return torch.stack([torch.where(mask <= 0, -1.0, image) for image in images], dim=1)


def check_seen(g: Golden, seen: dict[str, Tensor | tuple]) -> None:
    """The outputs of watched modules (the first, of several) under `mid.`."""
    for name, value in seen.items():
        g.check(value[0] if isinstance(value, tuple) else value, f"mid.{name}", NETWORKS)


def check_planes(g: Golden, planes: Tensor) -> None:
    g.check(planes, "out.planes", NETWORKS)
    g.check(planes[:, :, 5, 100:116, 60:76], "out.planes.crop", NETWORKS)


# ------------------------------------------------------------------------------------------- image to plane


def image_to_plane_of(g: Golden, input_mode: str = "rgb", scale: str = "standard") -> ImageToPlane:
    state, rows, channels = g.weights(), g.rows(), INPUT_MODES[input_mode]
    if channels != 5:
        for key in ("low_reso_encoder.encoder.conv1.weight", "high_reso_encoder.first.weight"):
            state[key] = g.constant(key, (64, channels, 7, 7), std=rows[key]["std"])
    if "camera" in input_mode:
        state["camera_to_channel.weight"] = g.constant("camera_to_channel.weight", (3, 25), std=0.2)
        state["camera_to_channel.bias"] = g.constant("camera_to_channel.bias", (3,), std=0.1)
    model = ImageToPlane(dataclasses.replace(ImageToPlaneConfig.full(scale), input_mode=input_mode))
    wanted = model.state_dict()
    for key in wanted.keys() - state.keys():
        row = rows.get(re.sub(r"\.block\d+\.", ".block1.", key))
        if row is not None:
            state[key] = g.constant(key, tuple(row["shape"]), row["mean"], row["std"])
    return load_official(model, {key: value for key, value in state.items() if key in wanted})


@checks("i2p")
def a_full_picture(g: Golden) -> None:
    model = image_to_plane_of(g)
    encoder, vit, predictor = model.low_reso_encoder, model.low_reso_vit, model.triplane_predictor_vit
    modules = {
        "aspp": encoder.decoder[0],
        "feat_low": encoder.decoder,
        "vit.patch_embed": vit.patch_embed,
        "vit.out": vit,
        "feat_high": model.high_reso_encoder,
        "predictor.second_conv": predictor.second_conv,
        "predictor.patch_embed": predictor.patch_embed,
        "predictor.block1": predictor.block1,
        "predictor.third_conv": predictor.third_conv_after_cat,
    }
    modules |= {f"encoder.layer{i}": encoder.encoder.get_submodule(f"layer{i}") for i in range(1, 5)}
    modules |= {f"vit.block{i}": vit.get_submodule(f"block{i}") for i in g.names(r"mid\.vit\.block(\d+)")}
    image = photo(g, "i2p.image", g.shape("in.image")[0], 512)
    g.check(image, "in.image", EXACT)
    with torch.no_grad(), watched(modules) as seen:
        planes = model(image)
    check_seen(g, seen)
    check_planes(g, planes)


I2P_CASES = {
    "rgb128": {},
    "rgb_alpha": {"input_mode": "rgb_alpha"},
    "rgb_alpha_given": {"input_mode": "rgb_alpha"},
    "rgb_camera": {"input_mode": "rgb_camera"},
    "rgb_alpha_camera": {"input_mode": "rgb_alpha_camera"},
    "small": {"scale": "small"},
    "large": {"scale": "large"},
}


@checks("i2p", slow=True)
def input_modes_and_scales(g: Golden) -> None:
    count = g.shape("in.small_image")[0]
    image = photo(g, "i2p.small_image", count, 128)
    g.check(image, "in.small_image", EXACT)
    for case in g.names(r"(\w+)\.planes"):
        if case == "out":
            continue
        model, extras = image_to_plane_of(g, **I2P_CASES[case]), {}
        if case == "rgb_alpha_given":
            extras["alpha"] = (g.input("i2p.alpha", (count, 1, 128, 128)) > 0).float()
        if "camera" in case:
            extras["camera"] = g.input("i2p.camera", (count, 25))
        with torch.no_grad():
            if case == "rgb_alpha_camera":
                g.check(model.network_input(image, **extras), f"{case}.network_input", EXACT)
            g.check(model(image, **extras), f"{case}.planes", NETWORKS)


# ------------------------------------------------------------------------------------------- tri-grid refinement


@checks("plane2grid")
def tri_grid_refinement(g: Golden) -> None:
    for depth in g.names(r"out\.depth(\d+)"):
        prefix = f"depth{depth}."
        state = {key.removeprefix(prefix): value for key, value in g.weights().items() if key.startswith(prefix)}
        refiner = load_official(TriGridRefiner(TriGridRefinerConfig(plane_depth=int(depth))), state)
        batch, _, height, width = g.shape(f"out.depth{depth}")
        planes = g.input(f"plane2grid.planes{depth}", (batch, 96 * int(depth), height, width)).unflatten(1, (3, -1))
        with torch.no_grad():
            g.check(refiner(planes).flatten(1, 2), f"out.depth{depth}", EXACT)


# ------------------------------------------------------------------------------------------- motion adapter


@checks("motion_adapter")
def full_pictures(g: Golden) -> None:
    model = load_official(MotionAdapter(MotionAdapterConfig.full()), g.weights())
    modules = {"prenet": model.prenet, "linear_fuse": model.fuse_head.linear_fuse.conv, "fuse_head": model.fuse_head}
    for stage in range(1, 5):
        modules |= {
            f"c{stage}.patch_embed": model.mix_vit.get_submodule(f"patch_embed{stage}"),
            f"c{stage}.block0": model.mix_vit.get_submodule(f"block{stage}.0"),
            f"c{stage}.norm": model.mix_vit.get_submodule(f"norm{stage}"),
        }
    stack = pncc_stack(g, "adapter.pncc", ("cano", "src", "tgt"), g.shape("in.pncc")[0], 512)
    g.check(stack.flatten(1, 2), "in.pncc", EXACT)
    with torch.no_grad(), watched(modules) as seen:
        planes = model(stack)
    check_seen(g, seen)
    check_planes(g, planes)


@checks("motion_adapter")
def conditions_and_scales(g: Golden) -> None:
    full, three = MotionAdapterConfig.full(), ("cano", "src", "tgt")
    state = g.weights()
    two_pictures = state | {"prenet.weight": g.constant("prenet.weight", (3, 6, 1, 1))}
    cases = {
        "cano_src_tgt128": (full, state, three),
        "cano_tgt128": (dataclasses.replace(full, pncc_inputs=("canonical", "driving")), two_pictures, ("cano", "tgt")),
        "b2_depth3": (
            dataclasses.replace(MotionAdapterConfig.full("b2"), plane_depth=3),
            g.weights("motion_adapter_b2"),
            three,
        ),
    }
    for case, (config, weights, pictures) in cases.items():
        model = load_official(MotionAdapter(config), weights)
        stack = pncc_stack(g, "adapter.small_pncc", pictures, g.shape(f"{case}.planes")[0], 128)
        with torch.no_grad():
            g.check(model(stack), f"{case}.planes", NETWORKS)
