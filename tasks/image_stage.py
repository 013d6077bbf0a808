"""What the three image stages share: optimisers, warm starts, composed pictures, regularisation, lip terms."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from data_gen.clip_format import HEAD_CLASSES
from modules import losses
from modules.checkpoint import find_checkpoint, load_module
from modules.perceptual import PerceptualLoss
from modules.real3d_portrait import Real3DPortrait
from tasks.schedules import LAZY_R1, RateConfig
from tasks.task import OptimizerSpec, ParameterGroup

DENSITY_POINTS = 1000      # a sample (2.6)
REFERENCE_SIZE = 512       # of the pictures for which `DILATION` is given
DILATION = 41              # side of the square by which masks grow (2.2)


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


def has_weights(path: str, name: str) -> bool:
    """Whether a checkpoint or a run holds the weights of the module `name`."""
    return (find_checkpoint(path) / f"{name}.safetensors").is_file()


def part_mask(classes: Tensor, parts: tuple[int, ...]) -> Tensor:
    """Class maps uint8 [B, H, W] -> bool [B, 1, H, W], true on the classes `parts`."""
    return torch.isin(classes, torch.tensor(parts, dtype=classes.dtype, device=classes.device))[:, None]


def head_picture(image: Tensor, classes: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] with everything but the head at -1; classes uint8 [B, H, W]."""
    return torch.where(part_mask(classes, HEAD_CLASSES), image, -1.0)


def grown(mask: Tensor) -> Tensor:
    """`losses.dilate` by 41 pixels of a 512 picture, scaled to this one; bool [B, 1, H, W]."""
    return losses.dilate(mask, 2 * round(DILATION * mask.shape[-1] / REFERENCE_SIZE / 2 - 0.5) + 1)


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
