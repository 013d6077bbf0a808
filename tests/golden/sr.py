"""Super-resolution, torso and fusion against the original's numbers.

See docs/spec/sr_torso_eg3d.md#12.
"""

import math
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.layers import stylegan
from modules.layers.stylegan import (
    ConvLayer,
    FullyConnected,
    MappingNetwork,
    MappingNetworkConfig,
    SynthesisBlock,
    SynthesisBlockConfig,
)
from modules.losses.image import binary_entropy
from modules.losses.torso import occlusion_area
from modules.official.names import load_official
from modules.portrait.build import build_htbsr
from modules.portrait.htbsr.fusion import HTBSRConfig
from modules.portrait.htbsr.torso import TorsoConfig, TorsoModel, select_keypoints
from modules.rendering.superresolution import Superresolution, SuperresolutionConfig
from tests.golden.file import Golden, checks
from tests.golden.reference import gaussian_blur, gaussian_kernel
from tests.golden.watch import watched

STYLEGAN, TORSO = 1e-5, 3e-5  # max |difference| / max |reference|
Form = Callable[[nn.Module], nn.Module]  # how a network with its weights is run


def as_trained(model: nn.Module) -> nn.Module:
    return model


# ----------------------------------------------------------------------------------------------- StyleGAN2 parts


@checks("modulated_conv")
def modulated_convolution(g: Golden) -> None:
    """With a style for each sample, and sample by sample with the style folded into the weights."""
    batch, _, height, width = g.shape("k1_up1_nodemod")
    x, styles = g.input("modconv.x", (batch, 8, height, width)), g.input("modconv.styles", (batch, 8), 1, 0.5)
    weights = {"k3": g.constant("modconv.weight3", (6, 8, 3, 3)), "k1": g.constant("modconv.weight1", (3, 8, 1, 1))}
    noises = {
        1: g.input("modconv.noise", (batch, 1, height, width), 0, 0.3),
        2: g.input("modconv.noise_up", (batch, 1, 2 * height, 2 * width), 0, 0.3),
    }
    for key in g.names(r"(k\d_up\d_\w+)"):
        kernel, up, demodulation, *noisy = key.split("_")
        up = int(up.removeprefix("up"))
        for rows in ([slice(None)], [slice(i, i + 1) for i in range(batch)]):
            parts = [
                stylegan.modulated_conv(
                    x[r], weights[kernel], styles[r], demodulation == "demod", up, noises[up][r] if noisy else None
                )
                for r in rows
            ]
            g.check(torch.cat(parts), key, STYLEGAN)


@checks("stylegan_ops")
def resampling_convolutions_and_activations(g: Golden) -> None:
    batch, channels, height, width = g.shape("downsample2d")
    image = g.input("ops.image", (batch, channels, 2 * height, 2 * width))
    taps = torch.tensor(stylegan.FIR_TAPS)
    g.check(torch.outer(taps, taps) / taps.sum() ** 2, "filter", STYLEGAN)
    g.check(stylegan.upsample_2x(image), "upsample2d", STYLEGAN)
    g.check(stylegan.downsample_2x(image), "downsample2d", STYLEGAN)
    for sigma in g.names(r"blur_sigma([\d.]+)"):
        blurred = g.input("ops.blur_image", g.shape(f"blur_sigma{sigma}"))
        g.check(gaussian_kernel(float(sigma)), f"blur_kernel_sigma{sigma}", STYLEGAN)
        g.check(gaussian_blur(blurred, float(sigma)), f"blur_sigma{sigma}", STYLEGAN)

    lrelu, gain = {"activation": "lrelu"}, math.sqrt(0.5)
    cases = {
        "conv3_lrelu": (3, lrelu, 1.0),
        "conv3_down2_lrelu": (3, {**lrelu, "down": 2}, 1.0),
        "conv3_down2_lrelu_gain": (3, {**lrelu, "down": 2}, gain),
        "conv1_down2_nobias": (1, {"down": 2, "bias": False}, 1.0),
        "conv1_lrelu_clamp": (1, {**lrelu, "clamp": 0.8}, 1.0),
        "conv1_lrelu_clamp_gain": (1, {**lrelu, "clamp": 0.8}, gain),
        "conv1_up2_nobias": (1, {"up": 2, "bias": False}, 1.0),
    }
    for key, (kernel, options, extra) in cases.items():
        layer = ConvLayer(channels, 6, kernel, **options)
        weights = {
            "weight": g.constant(f"ops.weight{kernel}", (6, channels, kernel, kernel)),
            "bias": g.constant("ops.bias6", (6,), 0, 0.5),
        }
        load_official(layer, {name: weights[name] for name in layer.state_dict()})
        g.check(layer(image, extra), key, STYLEGAN)


@checks("stylegan_ops")
def fully_connected_layers_and_minibatch_deviation(g: Golden) -> None:
    vector = g.input("ops.vector", (g.shape("fc_linear")[0], 16))
    weight, bias = g.constant("ops.fc_weight", (5, 16)), g.constant("ops.fc_bias", (5,), 0, 0.5)
    for key, activation, multiplier in (
        ("fc_linear", "linear", 1.0),
        ("fc_lrelu", "lrelu", 1.0),
        ("fc_lrelu_lr0.01", "lrelu", 0.01),
    ):
        layer = FullyConnected(16, 5, activation, multiplier)
        load_official(layer, {"weight": weight / multiplier, "bias": bias / multiplier})
        g.check(layer(vector), key, STYLEGAN)
    for group in g.names(r"mbstd_group(\d+)"):
        batch, _, height, width = g.shape(f"mbstd_group{group}")
        x = g.input("ops.mbstd", (batch, 6, height, width))
        g.check(stylegan.minibatch_std(x, int(group)), f"mbstd_group{group}", STYLEGAN)
    for group, batch in g.names(r"mbstd_group(\d+)_batch(\d+)"):
        few = g.input("ops.mbstd", (int(batch), 6, *g.shape(f"mbstd_group{group}_batch{batch}")[2:]))
        g.check(stylegan.minibatch_std(few, int(group)), f"mbstd_group{group}_batch{batch}", STYLEGAN)


@checks("stylegan_ops")
def mapping_network_and_truncation(g: Golden) -> None:
    mapping = MappingNetwork(MappingNetworkConfig(z_dim=16, c_dim=25, w_dim=24, num_ws=3, num_layers=2))
    spread = {
        "fc0.weight": 100,
        "fc1.weight": 100,
        "fc0.bias": 10,
        "fc1.bias": 10,
        "embed.weight": 1,
        "embed.bias": 0.1,
        "w_avg": 0.5,
    }
    shapes = {name: tuple(value.shape) for name, value in mapping.state_dict().items()}
    load_official(
        mapping, {name: g.constant(f"ops.mapping.{name}", shape, 0, spread[name]) for name, shape in shapes.items()}
    )
    batch = g.shape("mapping_psi1")[0]
    z, camera = g.input("ops.z", (batch, 16)), g.input("ops.c", (batch, 25))
    for psi, cutoff in g.names(r"mapping_psi([\d.]+)(_cutoff\d+)?"):
        last = int(cutoff.removeprefix("_cutoff")) if cutoff else None
        g.check(mapping(z, camera, float(psi), last), f"mapping_psi{psi}{cutoff or ''}", STYLEGAN)


# ---------------------------------------------------------------------------------------------- super-resolution


def render_inputs(g: Golden, batch: int, size: int, name: str = "") -> tuple[Tensor, Tensor]:
    """Picture and features of a volume render."""
    return (g.input(f"sr.rgb{name}", (batch, 3, size, size), 0, 0.5), g.input(f"sr.x{name}", (batch, 32, size, size)))


@checks("sr")
@torch.no_grad()
def superresolution(g: Golden) -> None:
    model = load_official(Superresolution(SuperresolutionConfig.full()), g.weights())
    rgb, x = render_inputs(g, g.shape("ones.image")[0], 128)
    middle, middle_rgb = model.block0(x, rgb)
    g.check(middle, "ones.block0_x", STYLEGAN)
    g.check(middle_rgb, "ones.block0_rgb", STYLEGAN)
    image = model(rgb, x)
    g.check(image, "ones.image", STYLEGAN)
    g.check(image[..., 100:132, 200:232], "ones.image.crop", STYLEGAN)
    ws = g.input("sr.ws", (2, 14, 512))
    for mode, size in g.names(r"ws_(const|down)(\d+)\.image"):
        batch = g.shape(f"ws_{mode}{size}.image")[0]
        rgb, x = render_inputs(g, batch, int(size), size)
        image = model(rgb, x, ws[:batch], noise="const" if mode == "const" else "none")
        g.check(image, f"ws_{mode}{size}.image", STYLEGAN)


@checks("sr")
@torch.no_grad()
def clamped_superresolution(g: Golden) -> None:
    for clamp in g.names(r"clamp(\d+)\.image"):
        model = load_official(Superresolution(SuperresolutionConfig(clamp=float(clamp))), g.weights())
        rgb, x = render_inputs(g, g.shape(f"clamp{clamp}.image")[0], 128)
        g.check(model.block0(500 * x, rgb)[0], f"clamp{clamp}.block0_x", STYLEGAN)
        g.check(model(rgb, 500 * x), f"clamp{clamp}.image", STYLEGAN)


@checks("sr_noup")
@torch.no_grad()
def synthesis_block_without_upsampling(g: Golden) -> None:
    config = SynthesisBlockConfig(in_channels=256, out_channels=256, resolution=256, up=False)
    block = load_official(SynthesisBlock(config), g.weights())
    batch = g.shape("x")[0]
    ws = g.input("sr.ws", (batch, 14, 512))[:, :3]
    x, rgb = block(
        g.input("sr_noup.x", (batch, 256, 256, 256)),
        g.input("sr_noup.rgb", (batch, 3, 256, 256), 0, 0.5),
        ws,
        noise="const",
    )
    g.check(x, "x", STYLEGAN)
    g.check(rgb, "rgb", STYLEGAN)


# -------------------------------------------------------------------------------------------------------- torso


def classes_of(g: Golden, batch: int) -> Tensor:
    """One-hot classes [batch, 6, 512, 512] made of enlarged noise."""
    small = g.input("torso.seg", (batch, 6, 37, 37)).argmax(dim=1)
    index = torch.arange(512) * 37 // 512
    return F.one_hot(small[:, index][:, :, index], 6).permute(0, 3, 1, 2).float()


def landmarks_of(g: Golden, batch: int) -> tuple[Tensor, Tensor]:
    source = g.input("torso.kp_s", (batch, 68, 3), 0, 0.5)
    driving = source + g.input("torso.kp_delta", (batch, 68, 3), 0, 0.3)
    flat = torch.tensor([1.0, 1.0, 0.0])
    return (source * flat).clamp(-1, 1), (driving * flat).clamp(-1, 1)


def run_torso(g: Golden, form: Form = as_trained) -> dict[str, Tensor]:
    """Everything that the file holds, of one pass."""
    steering = "keypoints_only" if g.name.endswith("v1") else "head_guided"
    config = TorsoConfig(steering=steering, keypoints=g.shape("kp_src")[1])
    model = form(load_official(TorsoModel(config), g.weights()))
    field, generator = model.motion_field_estimator, model.deform_based_generator
    outputs = {
        "appearance": model.appearance_extractor,
        "up": field.up[-1],
        "mask_logits": field.mask_conv,
        "occlusion_2_64": field.occlusion_conv2,
        "gen_res": generator.res[-1],
    }
    inputs = {"motion_input": field.down[0], "warped": generator.in_conv, "gen_in": generator.mid_conv}
    if config.steering == "head_guided":
        outputs["head_feats"], inputs["fused"] = field.tgt_head_encoder, field.mask_conv
    batch = g.shape("kp_src")[0]
    image = g.input("torso.image", (batch, 3, 256, 256), 0, 0.5).clamp(-1, 1)
    kp_source, kp_driving = (select_keypoints(points, config.keypoints) for points in landmarks_of(g, batch))
    head = g.input("torso.head_image", (batch, 3, 256, 256), 0, 0.5).clamp(-1, 1)
    weights = g.input("torso.head_weights", (batch, 1, 256, 256), 0.5, 0.3).clamp(0, 1)
    with torch.no_grad(), watched(outputs, inputs) as seen:
        source = model.encode_source(image, classes_of(g, batch))
        result = model(source, kp_source, kp_driving, head, weights)
    given = {name: seen.pop(name)[0] for name in inputs}
    seen["occlusion_2_64"] = seen["occlusion_2_64"].sigmoid()
    return {
        **seen,
        **given,
        "kp_src": kp_source,
        "kp_drv": kp_driving,
        "compress": source.compressed,
        "deformation": result.deformation,
        "occlusion": result.occlusion,
        "hid": result.hidden,
        "rgb": result.image,
        "occlusion_2": result.occlusion_2,
    }


@checks("torso", "torso_v1")
def torso_model_and_its_losses(g: Golden) -> None:
    values = run_torso(g)
    for key, value in values.items():
        g.check(value, key, TORSO)
    g.check(values["rgb"][..., 96:128, 64:96], "rgb.crop", TORSO)

    occlusions = {name: values[name] for name in ("occlusion", "occlusion_2")}
    batch = len(values["kp_src"])
    mask = (g.input("torso.target_mask", (batch, 128, 128)) > 0)[:, None]
    for name, value in occlusions.items():
        g.check(occlusion_area(value), f"loss.{name}_reg_l1", TORSO)
        g.check(occlusion_area(value[:1], mask[:1]), f"loss_masked_batch1.{name}_reg_l1", TORSO)
        # The original pairs every sample with every mask; ours pairs each with its own, the diagonal of those.
        pairs = [occlusion_area(value[a : a + 1], mask[b : b + 1]) for a in range(batch) for b in range(batch)]
        g.check(torch.stack(pairs).mean(), f"loss_masked.{name}_reg_l1", TORSO)
    for prefix, count in (("loss", batch), ("loss_masked", batch), ("loss_masked_batch1", 1)):
        entropy = binary_entropy(occlusions["occlusion_2"][:count])
        g.check(entropy, f"{prefix}.occlusion_2_weights_entropy", TORSO)


# ------------------------------------------------------------------------------------------------------- fusion


def fusion_weights(g: Golden, fusion: str) -> dict[str, Tensor]:
    weights = g.weights()
    if fusion in ("blend", "concat"):
        owned = ("head_torso_alpha_predictor", "fuse_head_torso_convs", "head_torso_block")
        weights = {key: value for key, value in weights.items() if not key.startswith(owned)}
    if fusion == "concat":
        weights["fuse_fg_bg_convs.0.weight"] = g.constant("fuse_fg_bg_convs.0.weight", (64, 768, 1, 1), 0, 0.051031)
    return weights


def run_fusion(g: Golden, mode: str, form: Form = as_trained) -> dict[str, Tensor]:
    """Everything that the file holds of one fusion, without its prefix where `mode` has none."""
    fusion = {"v1": "blend", "v2": "head_weights", "v3": "predicted_alpha", "none": "concat"}[mode]
    model = form(load_official(build_htbsr(HTBSRConfig(fusion=fusion)), fusion_weights(g, fusion)))
    outputs = {
        "block0_x": model.block0.conv1,
        "torso_feature": model.torso_encoder,
        "bg_feature": model.bg_encoder,
        f"{mode}.fuse_out": model.fuse_fg_bg_convs[-1],
    }
    if model.config.blends:
        outputs |= {f"{mode}.head_torso_conv": model.fuse_head_torso_convs, "head_torso": model.head_torso_block}
    if fusion == "predicted_alpha":
        outputs[f"{mode}.alpha"] = model.head_torso_alpha_predictor
    batch = g.shape("occlusion_2")[0]
    weights = F.interpolate(g.input("fusion.weights", (batch, 1, 16, 16), 0.55, 0.6), size=(128, 128), mode="bilinear")
    torso, background = (
        g.input(f"fusion.{part}", (batch, 3, 512, 512), 0, 0.5).clamp(-1, 1) for part in ("torso", "bg")
    )
    rgb, x = g.input("fusion.rgb", (batch, 3, 128, 128), 0, 0.5), g.input("fusion.x", (batch, 32, 128, 128))
    fuse = patch.object(model, "_fuse_background", wraps=model._fuse_background)
    with torch.no_grad(), fuse as fused, watched(outputs, {"block1": model.block1}) as seen:
        kp_source, kp_driving = landmarks_of(g, batch)
        source = model.encode_source(torso, classes_of(g, batch), background, kp_source)
        result = model(rgb, x, weights.clamp(0, 1), source, kp_driving)
    # `fuse_in` never exists here (the background's half of that convolution is applied once): made of its parts.
    person, cover, _ = fused.call_args.args
    shares = (1.0, 1.0) if cover is None else (cover, 1 - cover)
    seen[f"{mode}.fuse_in"] = torch.cat([shares[0] * person, shares[1] * seen["bg_feature"]], dim=1)
    _, blended = seen.pop("block1")
    if fusion != "concat":
        seen[f"{mode}.rgb_in"] = blended
    if model.config.blends:
        seen[f"{mode}.head_torso_x"], seen[f"{mode}.head_torso_rgb"] = seen.pop("head_torso")
    if fusion == "predicted_alpha":
        seen[f"{mode}.alpha"] = seen[f"{mode}.alpha"].sigmoid()
    return seen | {"torso_rgb": result.torso_image, "occlusion_2": result.occlusion_2, f"{mode}.image": result.image}


@checks("sr_fusion", slow=True)
def fusions(g: Golden) -> None:
    for mode in g.names(r"(v\d|none)\.image"):
        values = run_fusion(g, mode)
        for key, value in values.items():
            g.check(value, key, TORSO)
        g.check(values[f"{mode}.image"][..., 240:272, 100:132], f"{mode}.image.crop", TORSO)
