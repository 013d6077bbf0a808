"""Parts that the image stages share: optimisers, data sets, and losses that need a network or the model."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from modules.geometry.camera import Camera
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.portrait.discriminator import DualView
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait
from modules.rendering.planes import rescale_planes
from tasks.engine.task import OptimizerSpec, ParameterGroup, StepState, Task
from tasks.stages.adversary import Adversary
from tasks.stages.learning_rates import LAZY_R1, ImageLearningRates, Share

DENSITY_POINTS = 1000  # points of each sample; docs/spec/training.md#2-6
REFERENCE_SIZE = 512  # side of the images for which `DILATION` is given
DILATION = 41  # side of the square by which masks are dilated; docs/spec/training.md#2-2


def image_stage_optimizers(
    modules: Mapping[str, nn.Module], trained: tuple[str, ...], rates: ImageLearningRates, share: Share
) -> list[OptimizerSpec]:
    """One Adam for the generator, with a group for each trained module, and one for the discriminator.

    See docs/spec/training.md#1-1.
    """
    groups = [
        ParameterGroup(name=name, parameters=list(modules[name].parameters()), rate=rates.of(name, share))
        for name in trained
        if name in modules
    ]
    specs = [OptimizerSpec(name="generator", groups=groups, betas=(rates.beta1, 0.99))]
    if "discriminator" in modules:
        group = ParameterGroup(
            name="discriminator",
            parameters=list(modules["discriminator"].parameters()),
            rate=rates.of("discriminator", share),
        )
        specs.append(OptimizerSpec(name="discriminator", groups=[group], betas=(0.0, 0.99**LAZY_R1)))
    return specs


def best_image_metric(without: str, task: Task, perceptual: str = "perceptual") -> str:
    """The metric that picks the best checkpoint of an image stage.

    It is the perceptual loss, which stands in for LPIPS, where the stage has its networks. PSNR prefers blurred
    pictures to those of an adversary, so that it is no measure where there is one.

    Args:
        without: the metric of a stage that has neither perceptual networks nor an adversary.
        perceptual: the metric's name in the stage.
    """
    if "perceptual" in task.frozen:
        return perceptual
    return "" if "discriminator" in task.modules else without


# ---- losses


def dilated(mask: Tensor) -> Tensor:
    """Dilate masks, bool [B, 1, H, W], by a square of 41 pixels at 512, scaled to their size."""
    return losses.dilate(mask, 2 * round(DILATION * mask.shape[-1] / REFERENCE_SIZE / 2 - 0.5) + 1)


ImageError = Callable[[Tensor, Tensor], Tensor]  # images, targets [B, 3, H, W] -> mean error


def image_error(error: ImageError, prediction: Tensor, target: Tensor) -> Tensor:
    """The error of images [B, 3, H, W] in [-1, 1] that is configured, mean over all values."""
    return error(prediction, target)


def mean_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of images [B, 3, H, W] in [-1, 1]."""
    return (prediction - target).abs().mean()


def perceptual_loss(network: PerceptualLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """Perceptual loss of images [B, 3, H, W] in [-1, 1]."""
    return network((prediction + 1) / 2, (target + 1) / 2)


def lip_perceptual(network: PerceptualLoss, prediction: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """Perceptual loss of the lip crops of images [B, 3, H, W], mean over the samples; an empty crop counts as 0.

    Args:
        boxes: [B, 4], see `losses.lip_boxes`.
    """
    pairs = zip(losses.lip_crops(prediction, boxes), losses.lip_crops(target, boxes))
    terms = [perceptual_loss(network, a, b) for a, b in pairs if a is not None and b is not None]
    return sum(terms, start=prediction.new_zeros(())) / len(prediction)


def density_loss(model: Real3DPortrait, planes: Tensor, step: float, generator: torch.Generator) -> Tensor:
    """Density regularisation: L1 difference of the raw densities of neighbouring random points in the box.

    Args:
        planes: [B, 3, C*D, H, W].
        step: distance of neighbours, world units.
        generator: draws the points on the CPU.
    """
    points = losses.density_points(len(planes), DENSITY_POINTS, step, generator)
    least_scale = model.renderer.config.least_plane_scale
    if least_scale < 1:
        planes = rescale_planes(planes, least_scale, float(torch.rand((), generator=generator)))
    with torch.autocast(planes.device.type, enabled=False):  # bf16 rounds the difference of neighbours to 0
        return losses.density_l1(*(model.renderer.density(planes.float(), p.to(planes.device)) for p in points))


def adversarial_terms(
    adversary: Adversary | None, output: PortraitOutput, camera: Camera, weight: float, state: StepState
) -> dict[str, Tensor]:
    """The generator's weighted adversarial loss, empty while `weight` is 0.

    It also keeps the images, detached, in `state.cache["fakes"]` for the discriminator.
    """
    if adversary is None:
        return {}
    view = DualView(output.image, output.image_raw, camera)
    state.cache["fakes"] = [view.detach()]
    return state.weigh("adversarial", weight, adversary.generator_loss(view, state.generator)) if weight > 0 else {}
