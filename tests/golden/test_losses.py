"""The losses of the image stages against losses.npz (spec/training.md, section 11)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modules import losses
from modules.perceptual import PerceptualLoss, PerceptualLossConfig
from tasks import schedules
from tests.golden.compare import check


@pytest.fixture(scope="module")
def reference(golden):
    return golden("losses")


def normal(reference, name, shape, mean=0.0, std=1.0):
    return reference.input("losses." + name, shape, mean, std)


def agrees(actual, reference, key, tolerance=1e-5):
    check(torch.as_tensor(actual), reference.npz, key, tolerance, norm="max")


@pytest.fixture(scope="module")
def pictures(reference):
    prediction = normal(reference, "pred", (2, 3, 64, 64), 0, 0.5).clamp(-1, 1)
    target = normal(reference, "gt", (2, 3, 64, 64), 0, 0.5).clamp(-1, 1)
    return prediction, target, normal(reference, "mask", (2, 1, 64, 64)) > 0.3


def test_masked_l1(reference, pictures):
    prediction, target, mask = pictures
    agrees(losses.masked_l1(prediction, target, mask, 0.5, pooled=True), reference, "masked_l1.u0.5")
    agrees(losses.masked_l1(prediction, target, mask, 0.1, squared=True, pooled=True), reference,
           "masked_l1.u0.1_mse")
    near = target + normal(reference, "near", (2, 3, 64, 64), 0, 0.1)
    agrees(losses.masked_l1(near, target, mask, 0.2, pooled=True), reference, "masked_l1.near")
    agrees((prediction - target).abs().mean(), reference, "l1")
    agrees((prediction - target).square().mean(), reference, "mse")


def test_masked_l1_gradient(reference, pictures):
    prediction, target, mask = pictures
    prediction = prediction.clone().requires_grad_()
    loss = losses.masked_l1(prediction, target, mask, 0.2, pooled=True)
    (gradient,) = torch.autograd.grad(loss, prediction)
    agrees(loss, reference, "masked_l1.u0.2")
    agrees(1e4 * gradient, reference, "masked_l1.u0.2.grad", 1e-4)
    agrees(gradient.abs().sum(), reference, "masked_l1.u0.2.grad.sum_abs", 1e-4)


def test_oddities_of_the_original_masks_as_weights(reference, pictures):
    prediction, target, mask = pictures
    integer = torch.where(mask, 1 - 2 * 0.2, -0.2)
    agrees(losses.weighted_l1(prediction, target, integer, pooled=True), reference, "masked_l1.int_mask")
    broadcast = torch.where(mask[:, 0], 1.0, 0.5)
    agrees(losses.weighted_l1(prediction, target, broadcast, pooled=True), reference, "masked_l1.broadcast")


@pytest.mark.parametrize("kernel", [5, 21, 41])
def test_dilation(reference, kernel):
    dots = normal(reference, "dots", (2, 1, 128, 128)) > 3.4
    packed = np.packbits(losses.dilate(dots, kernel).numpy().reshape(-1))
    assert np.array_equal(packed, reference.npz[f"dilate.{kernel}"])


def test_adversarial_losses(reference):
    logits = normal(reference, "logits", (6, 1), 0, 2)
    agrees(losses.adversarial_generator(logits), reference, "gan.generator")
    agrees(losses.adversarial_fake(logits), reference, "gan.fake")
    agrees(losses.adversarial_real(logits), reference, "gan.real")


def test_gradient_penalty(reference):
    weights = {name: reference.constant("losses.r1." + name, shape, 0, std).requires_grad_()
               for name, shape, std in (("w_image", (8, 3, 3, 3), 0.3), ("w_raw", (8, 3, 3, 3), 0.3),
                                        ("w_out", (8,), 0.5))}
    image = normal(reference, "r1_image", (3, 3, 16, 16), 0, 0.5).requires_grad_()
    raw = normal(reference, "r1_raw", (3, 3, 8, 8), 0, 0.5).requires_grad_()
    features = F.softplus(F.conv2d(image, weights["w_image"], stride=2, padding=1)).mean(dim=(2, 3))
    features = features + F.softplus(F.conv2d(raw, weights["w_raw"], padding=1)).mean(dim=(2, 3))
    logits = (features.square() * weights["w_out"]).sum(dim=1, keepdim=True)
    agrees(logits, reference, "r1.logits")
    agrees(losses.gradient_penalty(logits, (image,)), reference, "r1.penalty_image")
    agrees(losses.gradient_penalty(logits, (raw,)), reference, "r1.penalty_raw")
    penalty = losses.gradient_penalty(logits, (image, raw))
    agrees(penalty, reference, "r1.penalty")
    for name, gradient in zip(weights, torch.autograd.grad(5 * 16 * penalty, list(weights.values()))):
        agrees(gradient, reference, f"r1.grad.{name}", 1e-4)


def test_density(reference):
    sigma = normal(reference, "sigma", (2, 2000, 1), 0, 3)
    agrees(losses.density_l1(sigma[:, :1000], sigma[:, 1000:]), reference, "density_l1")


def test_motion_plane_losses(reference):
    base, before, after = (normal(reference, f"plane{i}", (2, 3, 32, 16, 16), 0, 0.7) for i in range(3))
    agrees(losses.laplacian_l1(base, before, after), reference, "plane.laplacian_l1")
    agrees(losses.perturbation_l1(base, before), reference, "plane.perturb_l1")
    mean = losses.laplacian_squared(base, before, after)
    agrees(mean, reference, "plane.laplacian_squared_mean")
    agrees(mean * base[0].numel(), reference, "plane.laplacian_squared_sum")


@pytest.mark.parametrize(("key", "limit", "target"), [("blink", 2, 0.3), ("perturb", 0.2, 0.5), ("off", 2, 0)])
def test_tuned_weight(reference, key, limit, target):
    weight, found = 0.001, []
    for current in reference.npz["in.lambda.current"]:
        weight = losses.tune_weight(weight, float(current), target, limit)
        found.append(weight)
    agrees(torch.tensor(found), reference, f"lambda.{key}")


def test_ray_weight_losses(reference):
    alpha = normal(reference, "alpha", (2, 1, 32, 32), 0.5, 0.4).clamp(0, 1)
    face = normal(reference, "face", (2, 1, 32, 32)) > 0
    agrees(losses.binary_entropy(alpha), reference, "weights.entropy")
    agrees(losses.weights_mask(alpha, face), reference, "weights.mask")


def test_lip_boxes(reference):
    lips = normal(reference, "lip", (8, 68, 2), 256, 40)
    lips[1, :, 0] -= 230
    lips[2, :, 1] += 235
    lips[3] *= 0.1
    lips[4] = lips[4] * 0.2 + 400
    lips[5] += torch.tensor([215.0, -215.0])
    assert np.array_equal(losses.lip_boxes(lips).numpy(), reference.npz["lip_rect"])


def test_learning_rates(reference):
    steps = reference.npz["in.schedule.steps"].tolist()
    i2p = [list(schedules.i2p_rates(schedules.RateConfig(), s, 30_000).values()) for s in steps]
    agrees(torch.tensor(i2p), reference, "schedule.i2p")
    rates = schedules.RateConfig(floor=5e-6)
    adapter = [list(schedules.motion_adapter_rates(rates, s, 200_000, 70_000).values()) for s in steps]
    agrees(torch.tensor(adapter), reference, "schedule.motion_adapter")
    rates = schedules.RateConfig(generator=1e-5, floor=1e-6, decay=0.5, decay_interval=50_000)
    agrees(torch.tensor([list(schedules.htbsr_rates(rates, s).values()) for s in steps]), reference,
           "schedule.htbsr")


@pytest.mark.parametrize("amount", ["0.0", "0.25", "0.6", "1.0"])
def test_closing_the_eyes_of_a_pncc(reference, amount):
    pncc = pytest.importorskip("modules.face3d.pncc")
    picture = torch.from_numpy(reference.npz["in.pncc"]).float() / 127.5 - 1
    closed = pncc.close_eyes(picture, float(amount), scale_distances=False)
    found = ((closed + 1) * 127.5).round()
    difference = (found - torch.from_numpy(reference.npz[f"eyes.{amount}"]).float()).abs().amax(dim=0)
    assert (difference > 0).sum() <= 200
    assert difference.max() <= 40


@pytest.fixture(scope="module")
def perceptual(golden, reference):
    loss = PerceptualLoss(PerceptualLossConfig())
    loss.vgg19.load_vgg19(reference.weights("vgg19"))
    loss.vggface.load_vggface(reference.weights("vggface"))
    return loss


@pytest.fixture(scope="module")
def perceptual_pair(reference):
    pair = []
    for name in ("pred", "gt"):
        low = normal(reference, f"vgg_low_{name}", (1, 3, 24, 24), 0, 0.4)
        low = F.interpolate(low, (512, 512), mode="bilinear", align_corners=False)
        pair.append((low + normal(reference, f"vgg_{name}", (1, 3, 512, 512), 0, 0.1)).clamp(-1, 1))
    return tuple(pair)


def variants(a, b):
    small = [F.interpolate(x, (128, 128), mode="bilinear", antialias=True, align_corners=False) for x in (a, b)]
    lips = [x[..., 300:348, 200:248] for x in (a, b)]
    return {"range01": ((a + 1) / 2, (b + 1) / 2), "raw128": small, "lips48": lips}


@pytest.mark.parametrize("key", ["range01", "raw128", "lips48"])
def test_perceptual_loss(reference, perceptual, perceptual_pair, key):
    x, y = variants(*perceptual_pair)[key]
    terms = perceptual.terms(x, y)
    agrees(terms, reference, f"perceptual.{key}.terms")
    agrees(perceptual.combine(terms), reference, f"perceptual.{key}")


def test_perceptual_loss_with_vgg19_alone(reference, perceptual, perceptual_pair):
    x, y = (image[..., 128:256, 128:256] for image in perceptual_pair)
    agrees(perceptual.vgg19_only(x, y), reference, "perceptual.vgg19_only")


def test_perceptual_features(reference, perceptual, perceptual_pair):
    image = (perceptual_pair[0] + 1) / 2
    inputs = {"vgg19": (image - perceptual.mean) / perceptual.std, "vggface": 255 * image - perceptual.face_mean}
    with torch.no_grad():
        for name, normalised in inputs.items():
            for layer, features in getattr(perceptual, name)(normalised).items():
                key, middle = f"perceptual.{name}.{layer}", features.shape[-1] // 2
                channels = torch.arange(16) * (features.shape[1] // 16)
                block = slice(middle - 2, middle + 2)
                agrees(features[0, channels][:, block, block], reference, key + ".crop", 1e-4)
                stats = torch.stack([features.mean(), features.std(), features.max()])
                torch.testing.assert_close(stats, torch.from_numpy(reference.npz[key + ".stats"]), rtol=1e-5, atol=0)
