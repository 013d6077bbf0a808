"""The losses of all stages, schedules, batches, and perceptual networks against losses.npz.

See docs/spec/training.md#11.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modules.audio import amplitude
from modules.face3d.blink import close_eyes
from modules.losses import image as losses
from modules.losses import speech as motion
from modules.losses.perceptual import PerceptualLoss, PerceptualLossConfig
from tasks.data.speech_clips import length_buckets
from tasks.engine.settings import read_settings
from tasks.stages.learning_rates import always
from tests.conftest import ROOT
from tests.golden.file import Golden, checks
from tests.golden.reference import continuity, mean_absolute, velocity, vgg19_only

EXACT, GRADIENTS = 1e-5, 1e-4
CLIPS, TOKENS = 12, 900  # at most in a batch
OTHER_DONOR, BY_HOW_MUCH = 200, 40  # pixels of closed eyes with several nearest donors, and bytes


def normal(g: Golden, name: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
    return g.input("losses." + name, shape, mean, std)


# ----------------------------------------------------------------------------------------------- image stages


def pictures(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    prediction, target = (normal(g, name, (2, 3, 64, 64), 0, 0.5).clamp(-1, 1) for name in ("pred", "gt"))
    return prediction, target, normal(g, "mask", (2, 1, 64, 64)) > 0.3


@checks("losses")
def masked_l1_and_its_gradient(g: Golden) -> None:
    prediction, target, mask = pictures(g)
    for outside, squared in g.names(r"masked_l1\.u(0\.\d)(_mse)?"):
        loss = losses.masked_l1(prediction, target, mask, float(outside), squared=bool(squared), pooled=True)
        g.check(loss, f"masked_l1.u{outside}{squared or ''}", EXACT)
    near = target + normal(g, "near", (2, 3, 64, 64), 0, 0.1)
    g.check(losses.masked_l1(near, target, mask, 0.2, pooled=True), "masked_l1.near", EXACT)
    g.check((prediction - target).abs().mean(), "l1", EXACT)
    g.check((prediction - target).square().mean(), "mse", EXACT)
    prediction.requires_grad_()
    for outside in g.names(r"masked_l1\.u(0\.\d)\.grad"):
        loss = losses.masked_l1(prediction, target, mask, float(outside), pooled=True)
        (gradient,) = torch.autograd.grad(loss, prediction)
        g.check(1e4 * gradient, f"masked_l1.u{outside}.grad", GRADIENTS)
        g.check(gradient.abs().sum(), f"masked_l1.u{outside}.grad.sum_abs", GRADIENTS)


@checks("losses")
def oddities_of_the_original_masks_as_weights(g: Golden) -> None:
    prediction, target, mask = pictures(g)
    integer = torch.where(mask, 1 - 2 * 0.2, -0.2)
    g.check(losses.weighted_l1(prediction, target, integer, pooled=True), "masked_l1.int_mask", EXACT)
    broadcast = torch.where(mask[:, 0], 1.0, 0.5)
    g.check(losses.weighted_l1(prediction, target, broadcast, pooled=True), "masked_l1.broadcast", EXACT)


@checks("losses")
def dilation_and_lip_boxes(g: Golden) -> None:
    dots = normal(g, "dots", (2, 1, 128, 128)) > 3.4
    for kernel in g.names(r"dilate\.(\d+)"):
        g.equal(np.packbits(losses.dilate(dots, int(kernel)).numpy().reshape(-1)), f"dilate.{kernel}")
    lips = normal(g, "lip", (8, 68, 2), 256, 40)
    lips[1, :, 0] -= 230
    lips[2, :, 1] += 235
    lips[3] *= 0.1
    lips[4] = lips[4] * 0.2 + 400
    lips[5] += torch.tensor([215.0, -215.0])
    g.equal(losses.lip_boxes(lips), "lip_rect")


@checks("losses")
def adversarial_losses_and_gradient_penalty(g: Golden) -> None:
    logits = normal(g, "logits", (6, 1), 0, 2)
    g.check(losses.adversarial_real(logits), "gan.generator", EXACT)
    g.check(losses.adversarial_fake(logits), "gan.fake", EXACT)
    g.check(losses.adversarial_real(logits), "gan.real", EXACT)
    weights = {
        name: g.constant("losses.r1." + name, shape, 0, std).requires_grad_()
        for name, shape, std in (("w_image", (8, 3, 3, 3), 0.3), ("w_raw", (8, 3, 3, 3), 0.3), ("w_out", (8,), 0.5))
    }
    batch = g.shape("r1.logits")[0]
    image = normal(g, "r1_image", (batch, 3, 16, 16), 0, 0.5).requires_grad_()
    raw = normal(g, "r1_raw", (batch, 3, 8, 8), 0, 0.5).requires_grad_()
    features = F.softplus(F.conv2d(image, weights["w_image"], stride=2, padding=1)).mean(dim=(2, 3))
    features = features + F.softplus(F.conv2d(raw, weights["w_raw"], padding=1)).mean(dim=(2, 3))
    logits = (features.square() * weights["w_out"]).sum(dim=1, keepdim=True)
    g.check(logits, "r1.logits", EXACT)
    g.check(losses.gradient_penalty(logits, (image,)), "r1.penalty_image", EXACT)
    g.check(losses.gradient_penalty(logits, (raw,)), "r1.penalty_raw", EXACT)
    penalty = losses.gradient_penalty(logits, (image, raw))
    g.check(penalty, "r1.penalty", EXACT)
    for name, gradient in zip(weights, torch.autograd.grad(5 * 16 * penalty, list(weights.values()))):
        g.check(gradient, f"r1.grad.{name}", GRADIENTS)


@checks("losses")
def losses_of_planes_and_rays(g: Golden) -> None:
    sigma = normal(g, "sigma", (2, 2000, 1), 0, 3)
    g.check(losses.density_l1(sigma[:, :1000], sigma[:, 1000:]), "density_l1", EXACT)
    base, before, after = (normal(g, f"plane{i}", (2, 3, 32, 16, 16), 0, 0.7) for i in range(3))
    g.check(losses.laplacian_l1(base, before, after), "plane.laplacian_l1", EXACT)
    g.check(losses.perturbation_l1(base, before), "plane.perturb_l1", EXACT)
    g.check(losses.laplacian_mean(base, before, after), "plane.laplacian_squared_mean", EXACT)
    g.check(losses.laplacian_squared(base, before, after), "plane.laplacian_squared_sum", EXACT)
    alpha = normal(g, "alpha", (2, 1, 32, 32), 0.5, 0.4).clamp(0, 1)
    g.check(losses.binary_entropy(alpha), "weights.entropy", EXACT)
    g.check(losses.weights_mask(alpha, normal(g, "face", (2, 1, 32, 32)) > 0), "weights.mask", EXACT)


@checks("losses")
def tuned_weights(g: Golden) -> None:
    for key, limit, target in (("blink", 2, 0.3), ("perturb", 0.2, 0.5), ("off", 2, 0)):
        weight, found = 0.001, []
        for current in g.npz["in.lambda.current"]:
            weight = losses.tune_weight(weight, float(current), target, limit)
            found.append(weight)
        g.check(torch.tensor(found), f"lambda.{key}", EXACT)


@checks("losses")
def closed_eyes(g: Golden) -> None:
    picture = g["in.pncc"].float() / 127.5 - 1
    for amount in g.names(r"eyes\.([\d.]+)"):
        found = ((close_eyes(picture, float(amount), scale_distances=False) + 1) * 127.5).round()
        difference = (found - g[f"eyes.{amount}"].float()).abs().amax(dim=0)
        assert (difference > 0).sum() <= OTHER_DONOR and difference.max() <= BY_HOW_MUCH


# ---------------------------------------------------------------------------------------------- audio stages


def frame_mask() -> Tensor:
    """Three samples of 40, 31 and 24 frames."""
    return (torch.arange(40) < torch.tensor([[40], [31], [24]])).float()


@checks("losses")
def terms_of_the_motion_loss(g: Golden) -> None:
    mask = frame_mask()
    shapes = {"exp_gt": 64, "exp_pred": 64, "lm_gt": 1404, "lm_pred": 1404}
    truth, pred, marks, marks_pred = (normal(g, name, (*mask.shape, size)) for name, size in shapes.items())
    pred.requires_grad_()
    smooth = motion.laplacian_zero_ends(pred, mask)
    smooth.backward()
    found = {
        "mse": motion.mean_square(pred, truth, mask),
        "mae": mean_absolute(pred, truth, mask),
        "l2_reg": motion.magnitude(pred, mask),
        "velocity": velocity(pred, mask),
        "continuity": continuity(pred, truth, mask),
        "laplacian": smooth,
        "lm468": motion.landmark_square(marks_pred, marks, mask),
        "lm68": motion.landmark_square(marks_pred[..., :204], marks[..., :204], mask),
    }
    for key, value in found.items():
        g.check(value, f"a2m.{key}", EXACT)
    g.check(1e3 * pred.grad, "a2m.laplacian.grad", GRADIENTS)


@checks("losses")
def divergences_and_annealing(g: Golden) -> None:
    mean, draw, prior = (normal(g, f"kl_{name}", (3, 16, 10)) for name in ("m", "eps", "zp"))
    log_scale = normal(g, "kl_logs", (3, 16, 10), -0.5, 0.3)
    mask = frame_mask()[:, None, ::4]
    latent = mean + log_scale.exp() * draw
    g.check(motion.kl_flow(mean, log_scale, latent, prior, mask), "a2m.kl_flow", EXACT)
    g.check(motion.kl_normal(mean, log_scale, mask), "a2m.kl_plain", EXACT)
    weights = torch.tensor([motion.kl_weight(int(step), 0.02) for step in g.npz["in.kl_steps"]])
    g.check(weights, "a2m.kl_weight", EXACT)


@checks("losses")
def sync_terms(g: Golden) -> None:
    count = g.shape("sync.cosine")[0]
    sound, mouth = (F.normalize(normal(g, f"emb_{name}", (count, 32)).relu(), dim=-1) for name in ("audio", "mouth"))
    labels, valid = normal(g, "sync_label", (count,)) > 0, normal(g, "sync_ok", (count,)) > -0.5
    cosine = torch.cosine_similarity(sound, mouth)
    positive = motion.binary_cross_entropy(cosine, torch.ones(count))
    g.check(cosine, "sync.cosine", EXACT)
    g.check(motion.binary_cross_entropy(cosine, labels).mean(), "sync.mean", EXACT)
    g.check(positive, "sync.positive", EXACT)
    g.check(motion.mean_where(positive, valid), "sync.masked", EXACT)


@checks("losses")
def blinks_and_amplitudes_of_smoothed_landmarks(g: Golden) -> None:
    for points in g.names(r"blink\.(\d+)"):
        frames = g.shape(f"blink.{points}")[0]
        landmarks = normal(g, f"lm{points}", (frames, int(points), 3), 0, 0.05)
        padded = torch.cat([landmarks[:1].expand(3, -1, -1), landmarks, landmarks[-1:].expand(3, -1, -1)])
        landmarks = torch.stack([padded[i : i + frames] for i in range(7)]).mean(0)
        g.equal(amplitude.blink_units(landmarks), f"blink.{points}")
        g.check(amplitude.eye_amplitude(landmarks), f"eye_amp.{points}", EXACT)
        g.check(amplitude.mouth_amplitude(landmarks), f"mouth_amp.{points}", EXACT)


# ------------------------------------------------------------------------------------------- training as a whole


@checks("losses")
def batches_by_length(g: Golden) -> None:
    buckets = length_buckets(g.npz["in.bucket.sizes"].tolist(), max_clips=CLIPS, max_tokens=TOKENS)
    g.equal([len(bucket) for bucket in buckets], "bucket.counts")
    g.equal([number for bucket in buckets for number in bucket], "bucket.order")


@checks("losses")
def learning_rates(g: Golden) -> None:
    """Those of the full configs. The original leaves the rates as they are when super-resolution is trained alone."""
    configs = {
        stage: read_settings(ROOT / f"configs/{stage}.yaml").task_config
        for stage in ("i2p", "motion_adapter", "htbsr", "syncnet", "a2m")
    }
    shares = {
        "i2p": configs["i2p"].unfreeze.share,
        "htbsr": always,
        "motion_adapter": replace(configs["motion_adapter"], superresolution_alone_from=None).share,
    }
    groups = {
        "i2p": ("image_to_plane", "renderer", "superresolution", "discriminator"),
        "motion_adapter": ("image_to_plane", "motion_adapter", "renderer", "superresolution", "discriminator"),
        "htbsr": ("htbsr", "discriminator"),
    }
    for stage, config in configs.items():
        rates = config.learning_rates
        of_groups = [rates.of(group, shares[stage]) for group in groups.get(stage, ())]
        of_groups = of_groups or [lambda step, progress, rates=rates: rates.at(rates.generator, step, progress)]
        found = [[rate(int(step), 0.0) for rate in of_groups] for step in g.npz["in.schedule.steps"]]
        g.check(torch.tensor(found), f"schedule.{stage}", EXACT)


# ---------------------------------------------------------------------------------------------------- perceptual


def perceptual_loss(g: Golden) -> PerceptualLoss:
    loss = PerceptualLoss(PerceptualLossConfig())
    loss.vgg19.load_vgg19(g.weights("vgg19"))
    loss.vggface.load_vggface(g.weights("vggface"))
    return loss


def perceptual_pair(g: Golden) -> list[Tensor]:
    """Two pictures [1, 3, 512, 512] in [-1, 1]."""
    pair = []
    for name in ("pred", "gt"):
        low = F.interpolate(
            normal(g, f"vgg_low_{name}", (1, 3, 24, 24), 0, 0.4), (512, 512), mode="bilinear", align_corners=False
        )
        pair.append((low + normal(g, f"vgg_{name}", (1, 3, 512, 512), 0, 0.1)).clamp(-1, 1))
    return pair


@checks("losses")
@torch.no_grad()
def perceptual_losses(g: Golden) -> None:
    loss, pair = g.once(perceptual_loss), g.once(perceptual_pair)
    small = [F.interpolate(x, (128, 128), mode="bilinear", antialias=True, align_corners=False) for x in pair]
    variants = {
        "range01": [(x + 1) / 2 for x in pair],
        "raw128": small,
        "lips48": [x[..., 300:348, 200:248] for x in pair],
    }
    for key, (x, y) in variants.items():
        terms = loss.terms(x, y)
        g.check(torch.as_tensor(terms), f"perceptual.{key}.terms", EXACT)
        g.check(loss.combine(terms), f"perceptual.{key}", EXACT)
    alone = vgg19_only(loss, *[x[..., 128:256, 128:256] for x in pair])
    g.check(alone, "perceptual.vgg19_only", EXACT)


@checks("losses")
@torch.no_grad()
def perceptual_features(g: Golden) -> None:
    loss, image = g.once(perceptual_loss), (g.once(perceptual_pair)[0] + 1) / 2
    inputs = {"vgg19": (image - loss.mean) / loss.std, "vggface": 255 * image - loss.face_mean}
    for network, normalised in inputs.items():
        for layer, features in getattr(loss, network)(normalised).items():
            key, middle = f"perceptual.{network}.{layer}", features.shape[-1] // 2
            channels = torch.arange(16) * (features.shape[1] // 16)
            block = slice(middle - 2, middle + 2)
            g.check(features[0, channels][:, block, block], f"{key}.crop", GRADIENTS)
            stats = torch.stack([features.mean(), features.std(), features.max()])
            stored = g[f"{key}.stats"]
            g.note(f"{key}.stats", float(((stats - stored) / stored).abs().max()), EXACT)
