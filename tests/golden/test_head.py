"""Golden numbers of the head model's parts: renderer, image-to-plane, tri-grid refinement, motion adapter."""

import dataclasses
import json
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.camera import Camera
from modules.convert import load_official
from modules.image_to_plane import INPUT_MODES, ImageToPlane, ImageToPlaneConfig
from modules.motion_adapter import MotionAdapter, MotionAdapterConfig
from modules.rendering.compositing import expected_depth, interval_weights, sample_weights
from modules.rendering.planes import colours, sample_planes
from modules.rendering.rays import box_limits, official_limits, pixel_rays
from modules.rendering.renderer import RayNoise, RendererConfig, VolumeRenderer
from modules.rendering.sampling import importance_depths, smooth_weights
from modules.tri_grid import TriGridRefiner, TriGridRefinerConfig
from tests.golden.compare import check


def frac(values: Tensor) -> Tensor:
    return values - values.floor()


@pytest.fixture(scope="module")
def gold(golden):
    return golden("renderer")


@pytest.fixture(scope="module")
def rays(gold):
    camera = Camera.from_vector(torch.from_numpy(gold.npz["in.camera"]))
    origins, directions = pixel_rays(camera.camera_to_world, camera.intrinsics, 8)
    return origins.expand_as(directions), directions


def planes_of(gold, depth: int) -> Tensor:
    return gold.input(f"renderer.planes{depth}", (2, 3, 32 * depth, 16, 16), std=2.0)


def renderer_of(gold, **changes) -> VolumeRenderer:
    renderer = VolumeRenderer(RendererConfig(missing_rays="official", **changes))
    return load_official(renderer, gold.weights())


def test_rays_and_limits(gold, rays):
    origins, directions = rays
    check(origins, gold.npz, "rays.origins", 1e-5)
    check(directions, gold.npz, "rays.directions", 1e-5)
    for size in (1.0, 1.6):
        near, far, valid = box_limits(origins, directions, size)
        prefix = f"limits.box{size}"
        assert (valid == torch.from_numpy(gold.npz[f"{prefix}.valid"])).all()
        check(torch.where(valid, near, -1.0), gold.npz, f"{prefix}.near", 1e-5)
        check(torch.where(valid, far, -2.0), gold.npz, f"{prefix}.far", 1e-5)
        near, far = official_limits(origins, directions, size)
        check(near, gold.npz, f"{prefix}.near_filled", 1e-5)
        check(far, gold.npz, f"{prefix}.far_filled", 1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_lookup_and_decoder(gold, depth):
    points = gold.input("renderer.points", (2, 60, 3), std=0.35)
    planes = planes_of(gold, depth)
    grid = planes if depth == 1 else planes.unflatten(2, (32, depth))
    for size in (1.0, 1.6):
        check(sample_planes(grid, points, size), gold.npz, f"sample.depth{depth}.box{size}", 1e-5)
    if depth == 1:
        check(sample_planes(planes.unflatten(2, (32, 1)), points, 1.0), gold.npz, "sample.trigrid_depth1.box1.0", 1e-5)
    sigma, logits = renderer_of(gold, plane_depth=depth).query(planes, points)
    check(sigma, gold.npz, f"decode.depth{depth}.sigma", 1e-5)
    check(colours(logits), gold.npz, f"decode.depth{depth}.rgb", 1e-5)


def test_march(gold):
    colour = torch.sigmoid(gold.input("renderer.colors", (2, 6, 12, 5)))
    sigma = gold.input("renderer.sigma", (2, 6, 12, 1), mean=1.0, std=5.0)[..., 0]
    sigma[0, 0] = -200.0
    depths = torch.from_numpy(gold.npz["in.march.depths"])[..., 0]
    weights = interval_weights(depths, sigma)
    check(weights[..., None], gold.npz, "march.weights", 1e-5)
    check(expected_depth(weights, depths, depths.min(), depths.max()), gold.npz, "march.depth", 1e-5)
    feature = (sample_weights(weights)[..., None] * colour).sum(dim=2)
    check(feature * 2 - 1, gold.npz, "march.white_back0.feature", 1e-5)
    white = feature + 1 - weights.sum(dim=-1, keepdim=True)
    check(white * 2 - 1, gold.npz, "march.white_back1.feature", 1e-5)
    uniform = frac(gold.input("renderer.u", (12, 10)))
    fine = importance_depths(depths.flatten(0, 1), weights.flatten(0, 1), uniform)
    check(fine.view(2, 6, 10, 1), gold.npz, "importance.fine", 1e-5)
    check(smooth_weights(weights.flatten(0, 1)), gold.npz, "importance.smoothed", 1e-5)


CASES = {
    "depth1.mid": {}, "depth1.noise": {}, "depth1.coarse_only": {"samples_coarse": 16, "samples_fine": 0},
    "depth3.mid": {}, "depth3.noise": {"samples_coarse": 48, "samples_fine": 48},
    "depth1.white": {"white_background": True},
}


@pytest.mark.parametrize("case", CASES)
def test_whole_renders(gold, rays, case):
    depth = int(case[5])
    renderer = renderer_of(gold, plane_depth=depth, **{"samples_coarse": 12, "samples_fine": 12, **CASES[case]})
    config = renderer.config
    noise = RayNoise.centred(config, torch.device("cpu"))
    if case.endswith("noise"):
        jitter = frac(gold.input("renderer.jitter", (2, 64, config.samples_coarse, 1)))
        importance = frac(gold.input("renderer.importance", (128, config.samples_fine)))
        noise = RayNoise(jitter=jitter[..., 0], importance=importance.view(2, 64, -1))
    with torch.no_grad():
        result = renderer.render_rays(planes_of(gold, depth), *rays, noise)
    found = {"feature": result.feature, "depth": result.depth, "weights": result.weights}
    if f"render.{case}.sigma_all" in gold.npz:
        found |= {"depths_coarse": result.coarse_depths[..., None], "weights_coarse": result.coarse_weights[..., None],
                  "depths_fine": result.fine_depths[..., None], "sigma_all": result.sigma[..., None]}
    for key, value in found.items():
        check(value, gold.npz, f"render.{case}.{key}", 1e-3)


def test_missing_rays_are_the_only_difference_to_the_official_rules(gold, rays):
    origins, directions = rays
    hit = box_limits(origins, directions, 1.0)[2][..., 0]
    assert not hit.all()
    noise = RayNoise.centred(RendererConfig(), torch.device("cpu"))
    planes = planes_of(gold, 1)
    official = renderer_of(gold)
    ours = VolumeRenderer(RendererConfig())
    ours.load_state_dict(official.state_dict())
    with torch.no_grad():
        a, b = (renderer.render_rays(planes, origins, directions, noise) for renderer in (official, ours))
    torch.testing.assert_close(a.feature[hit], b.feature[hit])
    assert (b.feature[~hit] == -1).all() and (b.weights[~hit] == 0).all()


# ------------------------------------------------------------------------------------------- shared inputs

def bilinear(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def photo(gold, name: str, count: int, size: int) -> Tensor:
    """The photo recipe of the goldens: [count, 3, size, size]."""
    low = bilinear(gold.input(f"{name}_low", (count, 3, 12, 12), std=0.7), size)
    image = (low + gold.input(name, (count, 3, size, size), std=0.1)).clamp(-1, 1)
    mask = bilinear(gold.input(f"{name}_mask", (count, 1, 6, 6), mean=0.4), size)
    return torch.where(mask <= 0, -1.0, image)


def pncc(gold, name: str, which: str, count: int, size: int) -> Tensor:
    """The PNCC recipe of the goldens: [count, 3, size, size]."""
    image = bilinear(gold.input(f"{name}_{which}_low", (count, 3, 9, 9), std=0.6), size).clamp(-1, 1)
    mask = bilinear(gold.input(f"{name}_mask", (count, 1, 5, 5), mean=0.4), size)
    return torch.where(mask <= 0, -1.0, image)


# ------------------------------------------------------------------------------------------- image to plane

@pytest.fixture(scope="module")
def i2p_gold(golden):
    return golden("i2p")


def record(found: dict[str, Tensor], name: str):
    """A forward hook that keeps a module's output (the first, if there are several)."""
    def hook(module, inputs, output) -> None:
        found[name] = output[0] if isinstance(output, tuple) else output
    return hook


def i2p_of(gold, input_mode: str = "rgb", scale: str = "standard") -> ImageToPlane:
    state = gold.weights()
    channels = INPUT_MODES[input_mode]
    rows = {row["name"]: row for row in json.loads((gold.folder / "i2p.manifest.json").read_text())["tensors"]}
    if channels != 5:
        for key in ("low_reso_encoder.encoder.conv1.weight", "high_reso_encoder.first.weight"):
            state[key] = gold.constant(key, (64, channels, 7, 7), std=rows[key]["std"])
    if "camera" in input_mode:
        state["camera_to_channel.weight"] = gold.constant("camera_to_channel.weight", (3, 25), std=0.2)
        state["camera_to_channel.bias"] = gold.constant("camera_to_channel.bias", (3,), std=0.1)
    model = ImageToPlane(dataclasses.replace(ImageToPlaneConfig.full(scale), input_mode=input_mode))
    wanted = model.state_dict()
    for key in wanted.keys() - state.keys():
        first = re.sub(r"\.block\d+\.", ".block1.", key)
        if first in rows:
            row = rows[first]
            state[key] = gold.constant(key, tuple(row["shape"]), row["mean"], row["std"])
    return load_official(model, {key: value for key, value in state.items() if key in wanted})


def test_image_to_plane_of_a_full_picture(i2p_gold):
    gold, found = i2p_gold, {}
    model = i2p_of(gold)
    encoder, vit, predictor = model.low_reso_encoder, model.low_reso_vit, model.triplane_predictor_vit
    hooks = {"aspp": encoder.decoder[0], "feat_low": encoder.decoder, "vit.patch_embed": vit.patch_embed,
             "vit.block1": vit.block1, "vit.block5": vit.block5, "vit.out": vit,
             "feat_high": model.high_reso_encoder, "predictor.second_conv": predictor.second_conv,
             "predictor.patch_embed": predictor.patch_embed, "predictor.block1": predictor.block1,
             "predictor.third_conv": predictor.third_conv_after_cat}
    hooks |= {f"encoder.layer{i}": getattr(encoder.encoder, f"layer{i}") for i in range(1, 5)}
    for name, module in hooks.items():
        module.register_forward_hook(record(found, name))
    image = photo(gold, "i2p.image", 1, 512)
    check(image, gold.npz, "in.image", 1e-5, "max")
    with torch.no_grad():
        planes = model(image)
    for name, value in found.items():
        check(value, gold.npz, f"mid.{name}", 1e-4, "max")
    check(planes, gold.npz, "out.planes", 1e-4, "max")
    check(planes[:, :, 5, 100:116, 60:76], gold.npz, "out.planes.crop", 1e-4, "max")


I2P_CASES = {"rgb128": {}, "rgb_alpha": {"input_mode": "rgb_alpha"}, "rgb_alpha_given": {"input_mode": "rgb_alpha"},
             "rgb_camera": {"input_mode": "rgb_camera"}, "rgb_alpha_camera": {"input_mode": "rgb_alpha_camera"},
             "small": {"scale": "small"}, "large": {"scale": "large"}}


@pytest.mark.parametrize("case", I2P_CASES)
def test_image_to_plane_input_modes_and_scales(i2p_gold, case):
    gold = i2p_gold
    image = photo(gold, "i2p.small_image", 2, 128)
    model = i2p_of(gold, **I2P_CASES[case])
    extras = {}
    if case == "rgb_alpha_given":
        extras["alpha"] = (gold.input("i2p.alpha", (2, 1, 128, 128)) > 0).float()
    if "camera" in case:
        extras["camera"] = gold.input("i2p.camera", (2, 25))
    with torch.no_grad():
        if case == "rgb_alpha_camera":
            check(model.network_input(image, **extras), gold.npz, f"{case}.network_input", 1e-5, "max")
        check(model(image, **extras), gold.npz, f"{case}.planes", 1e-4, "max")


# ------------------------------------------------------------------------------------------- tri-grid refinement

@pytest.mark.parametrize("depth", [3, 4])
def test_tri_grid_refinement(golden, depth):
    gold = golden("plane2grid")
    state = {key.removeprefix(f"depth{depth}."): value for key, value in gold.weights().items()
             if key.startswith(f"depth{depth}.")}
    refiner = load_official(TriGridRefiner(TriGridRefinerConfig(plane_depth=depth)), state)
    planes = gold.input(f"plane2grid.planes{depth}", (2, 96 * depth, 12, 10)).unflatten(1, (3, -1))
    with torch.no_grad():
        check(refiner(planes).flatten(1, 2), gold.npz, f"out.depth{depth}", 1e-5, "max")


# ------------------------------------------------------------------------------------------- motion adapter

@pytest.fixture(scope="module")
def adapter_gold(golden):
    return golden("motion_adapter")


def pncc_stack(gold, names: tuple[str, ...], name: str, count: int, size: int) -> Tensor:
    return torch.stack([pncc(gold, name, which, count, size) for which in names], dim=1)


def test_motion_adapter_of_full_pictures(adapter_gold):
    gold, found = adapter_gold, {}
    model = load_official(MotionAdapter(MotionAdapterConfig.full()), gold.weights())
    hooks = {"prenet": model.prenet, "linear_fuse": model.fuse_head.linear_fuse.conv, "fuse_head": model.fuse_head}
    for stage in range(1, 5):
        hooks |= {f"c{stage}.patch_embed": model.mix_vit.get_submodule(f"patch_embed{stage}"),
                  f"c{stage}.block0": model.mix_vit.get_submodule(f"block{stage}.0"),
                  f"c{stage}.norm": model.mix_vit.get_submodule(f"norm{stage}")}
    for name, module in hooks.items():
        module.register_forward_hook(record(found, name))
    stack = pncc_stack(gold, ("cano", "src", "tgt"), "adapter.pncc", 1, 512)
    check(stack.flatten(1, 2), gold.npz, "in.pncc", 1e-5, "max")
    with torch.no_grad():
        planes = model(stack)
    for name, value in found.items():
        check(value, gold.npz, f"mid.{name}", 1e-4, "max")
    check(planes, gold.npz, "out.planes", 1e-4, "max")
    check(planes[:, :, 5, 100:116, 60:76], gold.npz, "out.planes.crop", 1e-4, "max")


@pytest.mark.parametrize("case", ["cano_src_tgt128", "cano_tgt128", "b2_depth3"])
def test_motion_adapter_conditions_and_scales(adapter_gold, case):
    gold = adapter_gold
    state, config, names = gold.weights(), MotionAdapterConfig.full(), ("cano", "src", "tgt")
    if case == "cano_tgt128":
        state["prenet.weight"] = gold.constant("prenet.weight", (3, 6, 1, 1))
        config, names = dataclasses.replace(config, pictures=2), ("cano", "tgt")
    if case == "b2_depth3":
        state = gold.weights("motion_adapter_b2")
        config = dataclasses.replace(MotionAdapterConfig.full("b2"), plane_depth=3)
    model = load_official(MotionAdapter(config), state)
    with torch.no_grad():
        planes = model(pncc_stack(gold, names, "adapter.small_pncc", 2, 128))
    check(planes, gold.npz, f"{case}.planes", 1e-4, "max")
