"""What the image stages share: optimisers, frames of a clip, adversary, regularisation, lip terms."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.geometry.camera import Camera, pose_camera
from modules.layers.resample import resize
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from tasks.data.frame_pairs import ClipDataConfig, FramePairs, ValidationPairs, split_clips, to_float
from tasks.engine.task import OptimizerSpec, ParameterGroup, StepState
from tasks.stages.adversary import Adversary, View
from tasks.stages.learning_rates import LAZY_R1, ImageLearningRates, Share

DENSITY_POINTS = 1000      # a sample (2.6)
REFERENCE_SIZE = 512       # of the pictures for which `DILATION` is given
DILATION = 41              # side of the square by which masks grow (2.2)
FRAMES = ("source", "target")                           # of a pair, by their numbers 0 and 1
CANONICAL, SOURCE, TARGET, BEFORE, AFTER = range(5)     # the PNCCs of a batch
Batch = Mapping[str, Tensor]                            # of `FramePairs`


def image_stage_optimizers(modules: Mapping[str, nn.Module], trained: tuple[str, ...], rates: ImageLearningRates,
                           share: Share) -> list[OptimizerSpec]:
    """One Adam for the generator, with a group for each trained module, and one for the discriminator (1.1)."""
    groups = [ParameterGroup(name=name, parameters=list(modules[name].parameters()), rate=rates.of(name, share))
              for name in trained if name in modules]
    specs = [OptimizerSpec(name="generator", groups=groups, betas=(rates.beta1, 0.99))]
    if "discriminator" in modules:
        group = ParameterGroup(name="discriminator", parameters=list(modules["discriminator"].parameters()),
                               rate=rates.of("discriminator", share))
        specs.append(OptimizerSpec(name="discriminator", groups=[group], betas=(0.0, 0.99**LAZY_R1)))
    return specs


def training_pairs(config: ClipDataConfig) -> Dataset:
    """Pairs of frames to train on."""
    return FramePairs(config, split_clips(config)[0])


def validation_pairs(config: ClipDataConfig) -> Dataset:
    """Pairs of frames to validate with."""
    return ValidationPairs(FramePairs(config, split_clips(config)[1]))


# ---- the source (0) or the target (1) frame of a batch

def frame(batch: Batch, k: int) -> Tensor:
    """The whole picture [B, 3, H, W] in [-1, 1]."""
    return to_float(batch[f"{FRAMES[k]}_image"])


def frame_mask(batch: Batch, k: int, parts: tuple[int, ...]) -> Tensor:
    """Where the classes `parts` are, bool [B, 1, H, W]."""
    return part_mask(batch[f"{FRAMES[k]}_classes"], parts)


def frame_head(batch: Batch, k: int) -> Tensor:
    """The picture with everything but the head at -1."""
    return head_picture(frame(batch, k), batch[f"{FRAMES[k]}_classes"])


def frame_camera(batch: Batch, k: int, config: Real3DPortraitConfig) -> Camera:
    """The camera, which holds the pose of the head."""
    return pose_camera(batch["euler"][:, k], batch["translation"][:, k], config.focal_length)


def head_view(batch: Batch, k: int, config: Real3DPortraitConfig) -> View:
    """The head, large and small, with the camera."""
    head = frame_head(batch, k)
    return View(head, resize(head, config.neural_resolution), frame_camera(batch, k, config))


def frame_lips(batch: Batch, k: int) -> Tensor:
    """Boxes [B, 4] around the lips, see `losses.lip_boxes`."""
    size = batch[f"{FRAMES[k]}_image"].shape[-1]
    return losses.lip_boxes(batch["keypoints"][:, k] * size, size)


def frame_mouth(batch: Batch, k: int) -> Tensor:
    """Middle of the lips [B, 2] (x, y) in picture widths."""
    return batch["keypoints"][:, k, losses.LIPS].mean(dim=1)


def adapter_pictures(pncc: Tensor, driving: int, config: Real3DPortraitConfig) -> Tensor:
    """What the motion adapter reads [B, K, 3, N, N], with number `driving` of the batch's PNCCs [B, 5, 3, N, N]."""
    return config.motion_adapter.stack(pncc[:, CANONICAL], pncc[:, SOURCE], pncc[:, driving])


# ---- masks and pictures

def part_mask(classes: Tensor, parts: tuple[int, ...]) -> Tensor:
    """Class maps uint8 [B, H, W] -> bool [B, 1, H, W], true on the classes `parts`."""
    return torch.isin(classes, torch.tensor(parts, dtype=classes.dtype, device=classes.device))[:, None]


def head_picture(image: Tensor, classes: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] with everything but the head at -1; classes uint8 [B, H, W]."""
    return torch.where(part_mask(classes, HEAD_CLASSES), image, -1.0)


def grown(mask: Tensor) -> Tensor:
    """`losses.dilate` by 41 pixels of a 512 picture, scaled to this one; bool [B, 1, H, W]."""
    return losses.dilate(mask, 2 * round(DILATION * mask.shape[-1] / REFERENCE_SIZE / 2 - 0.5) + 1)


# ---- losses

def weighted(terms: Mapping[str, Callable[[], Tensor]], weights: Any) -> dict[str, Tensor]:
    """Terms times the fields of `weights` that have their names; those with the weight 0 are not computed."""
    return {name: getattr(weights, name) * term() for name, term in terms.items() if getattr(weights, name) > 0}


def adversarial_terms(adversary: Adversary | None, output: PortraitOutput, weight: float,
                      state: StepState) -> dict[str, Tensor]:
    """The generator's loss, none while `weight` is 0; keeps the pictures for the discriminator's turn."""
    if adversary is None:
        return {}
    view = View(output.image, output.image_raw, output.camera)
    state.cache["fakes"] = [view.detach()]
    return {"adversarial": weight * adversary.generator_loss(view, state.generator)} if weight > 0 else {}


def density_loss(model: Real3DPortrait, planes: Tensor, step: float, generator: torch.Generator) -> Tensor:
    """Smoothness of the raw density at random points of the box (2.6)."""
    points = losses.density_points(len(planes), DENSITY_POINTS, step, generator)
    return losses.density_l1(*(model.renderer.density(planes, p.to(planes.device)) for p in points))


def perceptual_loss(network: PerceptualLoss, prediction: Tensor, target: Tensor) -> Tensor:
    """Of images in [-1, 1]."""
    return network((prediction + 1) / 2, (target + 1) / 2)


def lip_perceptual(network: PerceptualLoss, prediction: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """Perceptual loss of the lip crops, mean over the samples; an empty crop counts 0 (2.3)."""
    pairs = zip(losses.lip_crops(prediction, boxes), losses.lip_crops(target, boxes))
    terms = [perceptual_loss(network, a, b) for a, b in pairs if a is not None and b is not None]
    return sum(terms, start=prediction.new_zeros(())) / len(prediction)
