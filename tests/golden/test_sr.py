"""Super-resolution, torso and fusion against the original's numbers (spec: super-resolution, section 12)."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.convert import load_official
from modules.htbsr.fusion import HTBSR, HTBSRConfig
from modules.htbsr.losses import occlusion_area, occlusion_entropy
from modules.htbsr.superresolution import Superresolution, SuperresolutionConfig, resize
from modules.htbsr.torso import TorsoConfig, TorsoModel, select_keypoints, volume_grid
from modules.layers import stylegan
from modules.layers.stylegan import (
    ConvLayer,
    FullyConnected,
    MappingNetwork,
    MappingNetworkConfig,
    SynthesisBlock,
    SynthesisBlockConfig,
)
from tests.conftest import Golden
from tests.golden.compare import check, relative_error

TIGHT = 1e-5          # max |difference| / max |reference| of the StyleGAN parts
LOOSE = 3e-5          # of the torso model


class Probe:
    """Inputs and outputs of submodules during a forward pass."""

    def __init__(self, root: nn.Module) -> None:
        self.root, self.values = root, {}

    def output(self, name: str, module: str) -> None:
        """Stores what `module` returns."""
        self.root.get_submodule(module).register_forward_hook(
            lambda _, __, result: self.values.__setitem__(name, result))

    def input(self, name: str, module: str) -> None:
        """Stores what `module` is given first."""
        self.root.get_submodule(module).register_forward_pre_hook(
            lambda _, arguments: self.values.__setitem__(name, arguments[0].clone()))


# ----------------------------------------------------------------------------------------------- StyleGAN2 parts

@pytest.mark.parametrize("shared_style", [False, True], ids=["styles", "folded"])
def test_modulated_convolution(golden: Callable[[str], Golden], shared_style: bool) -> None:
    g = golden("modulated_conv")
    x, styles = g.input("modconv.x", (2, 8, 9, 11)), g.input("modconv.styles", (2, 8), 1, 0.5)
    weights = {3: g.constant("modconv.weight3", (6, 8, 3, 3)), 1: g.constant("modconv.weight1", (3, 8, 1, 1))}
    noises = {1: g.input("modconv.noise", (2, 1, 9, 11), 0, 0.3),
              2: g.input("modconv.noise_up", (2, 1, 18, 22), 0, 0.3)}
    rows = [slice(0, 1), slice(1, 2)] if shared_style else [slice(0, 2)]
    for key in g.npz:
        if key == "salt":
            continue
        kernel, up, demodulate, *noisy = key.split("_")
        up = int(up[-1])
        parts = [stylegan.modulated_conv(x[r], weights[int(kernel[1])], styles[r], demodulate == "demod", up,
                                         noises[up][r] if noisy else None) for r in rows]
        check(torch.cat(parts), g.npz, key, TIGHT, "max")


def test_resampling_convolutions_and_activations(golden: Callable[[str], Golden]) -> None:
    g = golden("stylegan_ops")
    image = g.input("ops.image", (2, 4, 8, 12))
    taps = torch.tensor(stylegan.FIR_TAPS)
    check(torch.outer(taps, taps) / taps.sum() ** 2, g.npz, "filter", TIGHT, "max")
    check(stylegan.upsample_2x(image), g.npz, "upsample2d", TIGHT, "max")
    check(stylegan.downsample_2x(image), g.npz, "downsample2d", TIGHT, "max")
    blurred = g.input("ops.blur_image", (1, 3, 24, 20))
    for sigma in (1.0, 2.5):
        check(stylegan.gaussian_kernel(sigma), g.npz, f"blur_kernel_sigma{sigma}", TIGHT, "max")
        check(stylegan.gaussian_blur(blurred, sigma), g.npz, f"blur_sigma{sigma}", TIGHT, "max")

    lrelu, gain = {"activation": "lrelu"}, math.sqrt(0.5)
    cases = {"conv3_lrelu": (3, lrelu, 1.0), "conv3_down2_lrelu": (3, {**lrelu, "down": 2}, 1.0),
             "conv3_down2_lrelu_gain": (3, {**lrelu, "down": 2}, gain),
             "conv1_down2_nobias": (1, {"down": 2, "bias": False}, 1.0),
             "conv1_lrelu_clamp": (1, {**lrelu, "clamp": 0.8}, 1.0),
             "conv1_lrelu_clamp_gain": (1, {**lrelu, "clamp": 0.8}, gain),
             "conv1_up2_nobias": (1, {"up": 2, "bias": False}, 1.0)}
    for key, (kernel, options, extra) in cases.items():
        layer = ConvLayer(4, 6, kernel, **options)
        weights = {"weight": g.constant(f"ops.weight{kernel}", (6, 4, kernel, kernel)),
                   "bias": g.constant("ops.bias6", (6,), 0, 0.5)}
        load_official(layer, {name: weights[name] for name in layer.state_dict()})
        check(layer(image, extra), g.npz, key, TIGHT, "max")


def test_fully_connected_mapping_and_minibatch_std(golden: Callable[[str], Golden]) -> None:
    g = golden("stylegan_ops")
    vector, weight = g.input("ops.vector", (3, 16)), g.constant("ops.fc_weight", (5, 16))
    bias = g.constant("ops.fc_bias", (5,), 0, 0.5)
    for key, activation, multiplier in (("fc_linear", "linear", 1.0), ("fc_lrelu", "lrelu", 1.0),
                                        ("fc_lrelu_lr0.01", "lrelu", 0.01)):
        layer = FullyConnected(16, 5, activation, multiplier)
        load_official(layer, {"weight": weight / multiplier, "bias": bias / multiplier})
        check(layer(vector), g.npz, key, TIGHT, "max")

    x = g.input("ops.mbstd", (4, 6, 4, 4))
    check(stylegan.minibatch_std(x, 2), g.npz, "mbstd_group2", TIGHT, "max")
    check(stylegan.minibatch_std(x, 4), g.npz, "mbstd_group4", TIGHT, "max")
    check(stylegan.minibatch_std(x[:2], 4), g.npz, "mbstd_group4_batch2", TIGHT, "max")

    mapping = MappingNetwork(MappingNetworkConfig(z_dim=16, c_dim=25, w_dim=24, num_ws=3, num_layers=2))
    spread = {"fc0.weight": 100, "fc1.weight": 100, "fc0.bias": 10, "fc1.bias": 10, "embed.weight": 1,
              "embed.bias": 0.1, "w_avg": 0.5}
    shapes = {name: tuple(value.shape) for name, value in mapping.state_dict().items()}
    load_official(mapping, {name: g.constant(f"ops.mapping.{name}", shape, 0, spread[name])
                            for name, shape in shapes.items()})
    z, c = g.input("ops.z", (3, 16)), g.input("ops.c", (3, 25))
    check(mapping(z, c), g.npz, "mapping_psi1", TIGHT, "max")
    check(mapping(z, c, 0.7), g.npz, "mapping_psi0.7", TIGHT, "max")
    check(mapping(z, c, 0.5, 2), g.npz, "mapping_psi0.5_cutoff2", TIGHT, "max")


# ---------------------------------------------------------------------------------------------- super-resolution

def check_crop(image: Tensor, g: Golden, key: str, rows: slice, columns: slice, tolerance: float) -> None:
    assert relative_error(image[..., rows, columns], g.npz[key], "max") <= tolerance


@torch.no_grad()
def test_superresolution(golden: Callable[[str], Golden]) -> None:
    g = golden("sr")
    model = load_official(Superresolution(SuperresolutionConfig.full()), g.weights())
    rgb, x = g.input("sr.rgb", (1, 3, 128, 128), 0, 0.5), g.input("sr.x", (1, 32, 128, 128))
    middle, middle_rgb = model.block0(x, rgb)
    check(middle, g.npz, "ones.block0_x", TIGHT, "max")
    check(middle_rgb, g.npz, "ones.block0_rgb", TIGHT, "max")
    image = model(rgb, x)
    check(image, g.npz, "ones.image", TIGHT, "max")
    check_crop(image, g, "ones.image.crop", slice(100, 132), slice(200, 232), TIGHT)

    ws = g.input("sr.ws", (2, 14, 512))
    rgb64, x64 = g.input("sr.rgb64", (2, 3, 64, 64), 0, 0.5), g.input("sr.x64", (2, 32, 64, 64))
    check(model(rgb64, x64, ws, noise="const"), g.npz, "ws_const64.image", TIGHT, "max")
    rgb160, x160 = g.input("sr.rgb160", (1, 3, 160, 160), 0, 0.5), g.input("sr.x160", (1, 32, 160, 160))
    check(model(rgb160, x160, ws[:1]), g.npz, "ws_down160.image", TIGHT, "max")

    model = load_official(Superresolution(SuperresolutionConfig(clamp=256.0)), g.weights())
    check(model.block0(500 * x, rgb)[0], g.npz, "clamp256.block0_x", TIGHT, "max")
    check(model(rgb, 500 * x), g.npz, "clamp256.image", TIGHT, "max")


@torch.no_grad()
def test_synthesis_block_without_upsampling(golden: Callable[[str], Golden]) -> None:
    g = golden("sr_noup")
    config = SynthesisBlockConfig(in_channels=256, out_channels=256, resolution=256, up=False)
    block = load_official(SynthesisBlock(config), g.weights())
    ws = golden("sr").input("sr.ws", (2, 14, 512))[:1, :3]
    x, rgb = block(g.input("sr_noup.x", (1, 256, 256, 256)), g.input("sr_noup.rgb", (1, 3, 256, 256), 0, 0.5), ws,
                   noise="const")
    check(x, g.npz, "x", TIGHT, "max")
    check(rgb, g.npz, "rgb", TIGHT, "max")


# -------------------------------------------------------------------------------------------------------- torso

def classes_of(g: Golden) -> Tensor:
    """One-hot classes [2, 6, 512, 512] made of enlarged noise."""
    small = g.input("torso.seg", (2, 6, 37, 37)).argmax(dim=1)
    index = torch.arange(512) * 37 // 512
    return F.one_hot(small[:, index][:, :, index], 6).permute(0, 3, 1, 2).float()


def landmarks_of(g: Golden) -> tuple[Tensor, Tensor]:
    source = g.input("torso.kp_s", (2, 68, 3), 0, 0.5)
    driving = source + g.input("torso.kp_delta", (2, 68, 3), 0, 0.3)
    flat = torch.tensor([1.0, 1.0, 0.0])
    return (source * flat).clamp(-1, 1), (driving * flat).clamp(-1, 1)


def run_torso(g: Golden, config: TorsoConfig) -> tuple[Probe, dict[str, Tensor]]:
    model = load_official(TorsoModel(config), g.weights())
    probe = Probe(model)
    last = len(config.motion_channels) - 1
    probe.output("appearance", "appearance_extractor")
    probe.input("motion_input", "motion_field_estimator.down.0")
    probe.output("up", f"motion_field_estimator.up.{last}")
    if config.version == "v2":
        probe.output("head_feats", "motion_field_estimator.tgt_head_encoder")
        probe.input("fused", "motion_field_estimator.mask_conv")
    probe.output("mask_logits", "motion_field_estimator.mask_conv")
    probe.output("occlusion_2_64", "motion_field_estimator.occlusion_conv2")
    probe.input("warped", "deform_based_generator.in_conv")
    probe.input("gen_in", "deform_based_generator.mid_conv")
    probe.output("gen_res", f"deform_based_generator.res.{config.generator_blocks - 1}")
    image = g.input("torso.image", (2, 3, 256, 256), 0, 0.5).clamp(-1, 1)
    kp_source, kp_driving = (select_keypoints(points, config.keypoints) for points in landmarks_of(g))
    source = model.encode_source(image, classes_of(g))
    head = g.input("torso.head_image", (2, 3, 256, 256), 0, 0.5).clamp(-1, 1)
    weights = g.input("torso.head_weights", (2, 1, 256, 256), 0.5, 0.3).clamp(0, 1)
    result = model(source, kp_source, kp_driving, head, weights)
    values = {**probe.values, "kp_src": kp_source, "kp_drv": kp_driving, "compress": source.compressed,
              "deformation": result.deformation, "occlusion": result.occlusion, "hid": result.hidden,
              "rgb": result.image, "occlusion_2": result.occlusion_2}
    values["occlusion_2_64"] = values["occlusion_2_64"].sigmoid()
    return probe, values


@torch.no_grad()
@pytest.mark.parametrize(("name", "config"), [
    ("torso", TorsoConfig.full()), ("torso_v1", TorsoConfig(version="v1", keypoints=9))], ids=["v2", "v1"])
def test_torso(golden: Callable[[str], Golden], name: str, config: TorsoConfig) -> None:
    g = golden(name)
    _, values = run_torso(g, config)
    for key, value in values.items():
        check(value, g.npz, key, LOOSE, "max")
    check_crop(values["rgb"], g, "rgb.crop", slice(96, 128), slice(64, 96), LOOSE)

    losses = {"loss": (values["occlusion"], values["occlusion_2"], None)}
    mask = (g.input("torso.target_mask", (2, 128, 128)) > 0)[:, None]
    losses["loss_masked_batch1"] = (values["occlusion"][:1], values["occlusion_2"][:1], mask[:1])
    for prefix, (small, large, torso) in losses.items():
        check(occlusion_area(small, torso), g.npz, f"{prefix}.occlusion_reg_l1", LOOSE)
        check(occlusion_area(large, torso), g.npz, f"{prefix}.occlusion_2_reg_l1", LOOSE)
        check(occlusion_entropy(large), g.npz, f"{prefix}.occlusion_2_weights_entropy", LOOSE)
    # The original pairs every sample with every mask; ours pairs each with its own, the diagonal of those.
    for name in ("occlusion", "occlusion_2"):
        pairs = [occlusion_area(values[name][a:a + 1], mask[b:b + 1]) for a in range(2) for b in range(2)]
        check(torch.stack(pairs).mean(), g.npz, f"loss_masked.{name}_reg_l1", LOOSE)
    check(occlusion_entropy(values["occlusion_2"]), g.npz, "loss_masked.occlusion_2_weights_entropy", LOOSE)


# ------------------------------------------------------------------------------------------------------- fusion

def fusion_weights(g: Golden, fusion: str) -> dict[str, Tensor]:
    weights = g.weights()
    if fusion in ("v1", "concat"):
        owned = ("head_torso_alpha_predictor", "fuse_head_torso_convs", "head_torso_block")
        weights = {key: value for key, value in weights.items() if not key.startswith(owned)}
    if fusion == "concat":
        weights["fuse_fg_bg_convs.0.weight"] = g.constant("fuse_fg_bg_convs.0.weight", (64, 768, 1, 1), 0, 0.051031)
    return weights


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["v1", "v2", "v3", "concat"])
def test_fusion(golden: Callable[[str], Golden], fusion: str) -> None:
    g, prefix = golden("sr_fusion"), "none" if fusion == "concat" else fusion
    model = load_official(HTBSR(HTBSRConfig(fusion=fusion)), fusion_weights(g, fusion))
    probe = Probe(model)
    probe.output("block0_x", "block0.conv1")
    probe.output("torso_feature", "torso_encoder")
    probe.output("bg_feature", "bg_encoder")
    probe.output(f"{prefix}.fuse_out", "fuse_fg_bg_convs.4")
    if fusion in ("v2", "v3"):
        probe.output(f"{prefix}.head_torso_conv", "fuse_head_torso_convs")
        probe.output("head_torso", "head_torso_block")
        probe.output(f"{prefix}.alpha", "head_torso_alpha_predictor")
    model.block1.register_forward_pre_hook(lambda _, given: probe.values.__setitem__(f"{prefix}.rgb_in", given[1]))

    weights = F.interpolate(g.input("fusion.weights", (2, 1, 16, 16), 0.55, 0.6), size=(128, 128), mode="bilinear")
    torso, background = (g.input(f"fusion.{part}", (2, 3, 512, 512), 0, 0.5).clamp(-1, 1) for part in ("torso", "bg"))
    source = model.encode_source(torso, classes_of(g), background)
    result = model(g.input("fusion.rgb", (2, 3, 128, 128), 0, 0.5), g.input("fusion.x", (2, 32, 128, 128)),
                   weights.clamp(0, 1), source, *landmarks_of(g))

    values = {**probe.values, "torso_rgb": result.torso_image, "occlusion_2": result.occlusion_2,
              f"{prefix}.image": result.image}
    if "head_torso" in values:
        values[f"{prefix}.head_torso_x"], values[f"{prefix}.head_torso_rgb"] = values.pop("head_torso")
    if f"{prefix}.alpha" in values:
        values[f"{prefix}.alpha"] = values[f"{prefix}.alpha"].sigmoid()
    if fusion == "concat":
        values.pop(f"{prefix}.rgb_in")
    for key, value in values.items():
        check(value, g.npz, key, LOOSE, "max")
    check_crop(result.image, g, f"{prefix}.image.crop", slice(240, 272), slice(100, 132), LOOSE)


def test_the_grid_of_the_volume_includes_both_ends() -> None:
    grid = volume_grid(3, 5, torch.zeros(1))
    assert grid[0, 0, 0].tolist() == [-1, -1, -1] and grid[2, 4, 4].tolist() == [1, 1, 1]
    assert grid[1, 2, 3].tolist() == [0.5, 0, 0]


def test_resizing_to_the_same_size_changes_nothing(generator: torch.Generator) -> None:
    image = torch.randn(1, 3, 8, 8, generator=generator)
    assert resize(image, 8) is image
