"""What the image stages share: optimisers, warm starts, frames of a clip, adversary, regularisation, lip terms."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.analysis.segmentation_classes import HEAD_CLASSES, part_mask
from modules.face3d.landmark_sets import OUTER_LIPS_68
from modules.geometry.camera import Camera, pose_camera
from modules.layers.resample import resize
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.media.pixels import to_float
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.system.checkpoint import find_checkpoint, load_module
from tasks.data.frame_pairs import ClipDataConfig, FramePairs, ValidationPairs, split_clips
from tasks.engine.task import OptimizerSpec, ParameterGroup, StepState
from tasks.stages.adversary import Adversary, View
from tasks.stages.learning_rates import LAZY_R1, RateConfig

DENSITY_POINTS = 1000      # a sample (2.6)
REFERENCE_SIZE = 512       # of the pictures for which `DILATION` is given
DILATION = 41              # side of the square by which masks grow (2.2)
FRAMES = ("source", "target")                           # of a pair, by their numbers 0 and 1
CANONICAL, SOURCE, TARGET, BEFORE, AFTER = range(5)     # the PNCCs of a batch
Batch = Mapping[str, Tensor]                            # of `FramePairs`


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Modules built inside get their first weights from `generator`; PyTorch's own numbers continue as before."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def image_stage_optimizers(modules: Mapping[str, nn.Module], trained: tuple[str, ...], rates: RateConfig,
                           official: Callable[[int], dict[str, float]]) -> list[OptimizerSpec]:
    """One Adam for the generator, with a group for each trained module, and one for the discriminator (1.1)."""
    groups = [ParameterGroup(name=name, parameters=list(modules[name].parameters()), rate=rates.of(name, official))
              for name in trained if name in modules]
    specs = [OptimizerSpec(name="generator", groups=groups, betas=(rates.momentum, 0.99))]
    if "discriminator" in modules:
        group = ParameterGroup(name="discriminator", parameters=list(modules["discriminator"].parameters()),
                               rate=rates.of("discriminator", official))
        specs.append(OptimizerSpec(name="discriminator", groups=[group], betas=(0.0, 0.99**LAZY_R1)))
    return specs


def warm_start(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> None:
    """Load those of `names` that are among `modules` from a checkpoint or a run.

    Raises:
        UserError: no checkpoint, or weights that do not fit.
    """
    folder = find_checkpoint(path)
    for name in names:
        if name in modules:
            load_module(folder, name, modules[name])


def warm_start_known(path: str, modules: Mapping[str, nn.Module], names: tuple[str, ...]) -> tuple[str, ...]:
    """`warm_start` with those of `names` that the checkpoint or run has; returns them."""
    known = tuple(name for name in names if (find_checkpoint(path) / f"{name}.safetensors").is_file())
    warm_start(path, modules, known)
    return known


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
    return batch["keypoints"][:, k, OUTER_LIPS_68].mean(dim=1)


def adapter_pictures(pncc: Tensor, driving: int, config: Real3DPortraitConfig) -> Tensor:
    """What the motion adapter reads [B, K, 3, N, N], with number `driving` of the batch's PNCCs [B, 5, 3, N, N]."""
    return config.motion_adapter.stack(pncc[:, CANONICAL], pncc[:, SOURCE], pncc[:, driving])


# ---- masks and pictures


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
