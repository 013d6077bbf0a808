"""Stage 3: head, torso and background super-resolution; the head's parts are fixed (spec/training.md, 1.4).

    python -m tasks.run configs/htbsr.yaml
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.data import Dataset

from data_gen.clip_format import TORSO_CLASSES
from modules import losses
from modules.camera import Camera, pose_camera
from modules.checkpoint import find_checkpoint, load_state
from modules.htbsr.fusion import HTBSR
from modules.htbsr.losses import occlusion_area, occlusion_entropy
from modules.htbsr.superresolution import resize
from modules.perceptual import PerceptualLoss
from modules.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from tasks.adversary import Adversary, AdversaryConfig, View
from tasks.clips import ClipDataConfig, FramePairs, ValidationPairs, split_clips, to_float
from tasks.image_stage import (
    grown,
    has_weights,
    head_picture,
    image_stage_optimizers,
    lip_perceptual,
    part_mask,
    perceptual_loss,
    seeded,
    warm_start,
)
from tasks.registry import register
from tasks.schedules import RateConfig, htbsr_rates
from tasks.show import psnr
from tasks.task import OptimizerSpec, StepState, Task, grid

FIXED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer")
OUTSIDE = 0.5                # weight of pixels far from the torso (2.1)
CLASSES = 6
CANONICAL, SOURCE, TARGET = range(3)


@dataclass(frozen=True, kw_only=True)
class HTBSRLossConfig:
    """Weights; a part whose weights are all 0 is not built."""

    image: float = 1.0
    edges: float = 0.0
    perceptual: float = 0.1
    lips: float = 0.2
    lips_perceptual: float = 0.02
    adversarial: float = 0.001
    occlusion_entropy: float = 0.001
    occlusion: float = 0.0               # area of the occlusion of the warped features
    occlusion_2: float = 0.0             # area of the torso over the background

    @property
    def needs_perceptual(self) -> bool:
        return max(self.perceptual, self.lips_perceptual) > 0


@dataclass(frozen=True, kw_only=True)
class HTBSRTaskConfig:
    """Stage 3."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 3))
    adversary: AdversaryConfig = AdversaryConfig()
    data: ClipDataConfig = ClipDataConfig(torso=True)
    loss: HTBSRLossConfig = HTBSRLossConfig()
    rates: RateConfig = RateConfig(generator=1e-5, floor=1e-6, decay=0.5, decay_interval=50_000)
    start_adversarial: int = 40_000      # steps
    source_every: int = 4                # source to source
    init_from: str = ""                  # checkpoint or run of stage 2 or 3; empty: a random head (for tests)

    def __post_init__(self) -> None:
        if self.model.motion_adapter is None or self.model.htbsr is None:
            raise ValueError("model: stage 3 has a motion_adapter and an htbsr")
        if not self.data.torso:
            raise ValueError("data.torso is false; stage 3 needs torso and background pictures")
        if self.data.pncc_size != self.model.motion_adapter.input_size:
            raise ValueError(f"data.pncc_size is {self.data.pncc_size}; the motion adapter reads "
                             f"{self.model.motion_adapter.input_size}")


@register("htbsr")
class HTBSRTask(Task):
    """Frame pairs -> HTB-SR."""

    config_class = HTBSRTaskConfig
    best_metric, best_is_lowest = "psnr", False

    def __init__(self, config: HTBSRTaskConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.model = Real3DPortrait(config.model)
            self.adversary = Adversary(config.adversary) if config.loss.adversarial > 0 else None
        self.modules = dict(self.model.named_children())
        if self.adversary is not None:
            self.modules["discriminator"] = self.adversary.discriminator
        if config.loss.needs_perceptual:
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        if config.init_from:
            warm_start(config.init_from, self.modules, FIXED)
            known = tuple(name for name in ("htbsr", "discriminator") if has_weights(config.init_from, name))
            warm_start(config.init_from, self.modules, known)
            if "htbsr" not in known:
                start_from_superresolution(self.model.htbsr, config.init_from)

    def optimizers(self) -> list[OptimizerSpec]:
        return image_stage_optimizers(self.modules, ("htbsr",), self.config.rates,
                                      partial(htbsr_rates, self.config.rates))

    def train_dataset(self) -> Dataset:
        return FramePairs(self.config.data, split_clips(self.config.data)[0])

    def validation_dataset(self) -> Dataset:
        return ValidationPairs(FramePairs(self.config.data, split_clips(self.config.data)[1]))

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        if optimizer == "discriminator":
            if step < self.config.start_adversarial - 10_000:
                return {}
            return self.adversary.discriminator_losses(state.cache["fakes"], [self.real(batch)], step, state.generator)
        output = self.frames(batch, 1, state.generator)
        found = self.view_losses(output, batch, 1)
        if self.adversary is not None:
            view = View(output.image, output.image_raw, output.camera)
            state.cache["fakes"] = [view.detach()]
            if step >= self.config.start_adversarial:
                weight = self.config.loss.adversarial
                found["adversarial"] = weight * self.adversary.generator_loss(view, state.generator)
        if step % self.config.source_every == 0:
            again = self.view_losses(self.frames(batch, 0, state.generator), batch, 0)
            found |= {f"source_{name}": loss for name, loss in again.items()}
        return found

    def frames(self, batch: dict[str, Tensor], k: int, generator: torch.Generator | None = None) -> PortraitOutput:
        """The source frame (0) or the target frame (1) made from the source."""
        image = to_float(batch["source_image"])
        one_hot = rearrange(F.one_hot(batch["source_classes"].long(), CLASSES), "b h w c -> b c h w").float()
        source = self.model.encode_source(to_float(batch["torso"]), one_hot, to_float(batch["background"]))
        keypoints = F.pad(2 * batch["keypoints"] - 1, (0, 1))                     # [B, 2, 68, 3], z = 0
        with torch.no_grad():
            planes = self.model.canonical_planes(head_picture(image, batch["source_classes"]))
        return self.model(planes, self.camera(batch, k), self.driving_pncc(batch, (SOURCE, TARGET)[k]), source,
                          keypoints[:, 0], keypoints[:, k], generator)

    def driving_pncc(self, batch: dict[str, Tensor], driving: int) -> Tensor:
        """The adapter's pictures [B, K, 3, N, N]."""
        pncc = to_float(batch["pncc"])
        two = self.config.model.motion_adapter.pictures == 2
        return pncc[:, [CANONICAL, driving] if two else [CANONICAL, SOURCE, driving]]

    def camera(self, batch: dict[str, Tensor], k: int) -> Camera:
        return pose_camera(batch["euler"][:, k], batch["translation"][:, k], self.config.model.focal_length)

    def real(self, batch: dict[str, Tensor]) -> View:
        """What the discriminator takes for real: the target frame and its head alone."""
        image = to_float(batch["target_image"])
        head = resize(head_picture(image, batch["target_classes"]), self.config.model.neural_resolution)
        return View(image, head, self.camera(batch, 1))

    def view_losses(self, output: PortraitOutput, batch: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        """Weighted losses of the source (0) or the target (1) frame."""
        name = ("source", "target")[k]
        truth = to_float(batch[f"{name}_image"])
        torso, size = grown(part_mask(batch[f"{name}_classes"], TORSO_CLASSES)), truth.shape[-1]
        boxes = losses.lip_boxes(batch["keypoints"][:, k] * size, size)
        network, htbsr = self.frozen.get("perceptual"), output.htbsr
        terms = {
            "image": lambda: losses.masked_l1(output.image, truth, torso, OUTSIDE),
            "edges": lambda: losses.edge_l1(output.image, truth),
            "perceptual": lambda: perceptual_loss(network, output.image, truth),
            "lips": lambda: losses.lip_l1(output.image, truth, boxes),
            "lips_perceptual": lambda: lip_perceptual(network, output.image, truth, boxes),
            "occlusion_entropy": lambda: occlusion_entropy(htbsr.occlusion_2),
            "occlusion": lambda: occlusion_area(htbsr.occlusion, torso),
            "occlusion_2": lambda: occlusion_area(htbsr.occlusion_2, torso),
        }
        weights = self.config.loss
        return {name: getattr(weights, name) * term() for name, term in terms.items() if getattr(weights, name) > 0}

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output, truth = self.frames(batch, 1), to_float(batch["target_image"])
        size = truth.shape[-1]
        boxes = losses.lip_boxes(batch["keypoints"][:, 1] * size, size)
        return {"psnr": psnr(output.image, truth), "lips_l1": losses.lip_l1(output.image, truth, boxes),
                "psnr_of_the_source": psnr(to_float(batch["source_image"]), truth)}

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output = self.frames(batch, 1)
        return {"source_target_output": grid([
            to_float(batch["source_image"]), to_float(batch["target_image"]), output.image, output.image_raw,
            output.htbsr.torso_image, to_float(batch["torso"]), 2 * output.htbsr.occlusion_2 - 1])}


def start_from_superresolution(htbsr: HTBSR, path: str) -> None:
    """Take over block0 and block1 of a stage-2 checkpoint's super-resolution; the rest keeps its first weights.

    Raises:
        UserError: no such checkpoint.
    """
    state = load_state(find_checkpoint(path), "superresolution")
    for name in ("block0", "block1"):
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        getattr(htbsr, name).load_state_dict(part)
