"""Stage 3: head, torso and background super-resolution; the head's parts are fixed (spec/training.md, 1.4).

    python -m tasks.run configs/htbsr.yaml
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from modules.analysis.segmentation_classes import HEAD_CLASSES, TORSO_CLASSES, one_hot
from modules.layers.resample import resize
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.losses.torso import (
    keypoint_equivariance,
    keypoint_spread,
    occlusion_area,
    random_affine,
    torso_cover,
    torso_l1,
    transformed,
)
from modules.media.pixels import to_float
from modules.metrics.image import psnr
from modules.portrait.htbsr.fusion import HTBSR
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.system.checkpoint import find_checkpoint, load_state
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.registry import register
from tasks.engine.task import OptimizerSpec, StepState, Task, grid
from tasks.stages.adversary import Adversary, AdversaryConfig
from tasks.stages.image_terms import (
    SOURCE,
    TARGET,
    adapter_pictures,
    adversarial_terms,
    frame,
    frame_camera,
    frame_head,
    frame_lips,
    frame_mask,
    grown,
    head_view,
    image_stage_optimizers,
    lip_perceptual,
    perceptual_loss,
    seeded,
    training_pairs,
    validation_pairs,
    warm_start,
    warm_start_known,
    weighted,
)
from tasks.stages.learning_rates import RateConfig, htbsr_rates
from tasks.stages.short_videos import clip_video

FIXED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer")
OUTSIDE = 0.5                # weight of pixels far from the torso (2.1)


@dataclass(frozen=True, kw_only=True)
class HTBSRLossConfig:
    """Weights; a part whose weights are all 0 is not built."""

    image: float = 1.0
    l1: float = 0.0                      # of all pixels alike, without the limit of `image` on large errors
    edges: float = 0.0
    perceptual: float = 0.1
    lips: float = 0.2
    lips_perceptual: float = 0.02
    adversarial: float = 0.001
    occlusion_entropy: float = 0.001
    occlusion: float = 0.0               # area of the occlusion of the warped features
    occlusion_2: float = 0.0             # area of the torso over the background
    torso_cover: float = 0.0             # the torso's cover of the background against its mask
    torso_image: float = 0.0             # L1 of the torso's own picture where the torso is seen
    equivariance: float = 0.0            # of learned key points: they move with the picture
    spread: float = 0.0                  # of learned key points: they keep apart

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
    background: Literal["inpainted", "source"] = "inpainted"     # source: the photo with the person in it (ablation)
    init_from: str = ""                  # checkpoint or run of stage 2 or 3; empty: a random head (for tests)

    def __post_init__(self) -> None:
        if self.model.motion_adapter is None or self.model.htbsr is None:
            raise ValueError("model: stage 3 has a motion_adapter and an htbsr")
        if not self.data.torso:
            raise ValueError("data.torso is false; stage 3 needs torso and background pictures")
        if self.data.pncc_size != self.model.motion_adapter.input_size:
            raise ValueError(f"data.pncc_size is {self.data.pncc_size}; the motion adapter reads "
                             f"{self.model.motion_adapter.input_size}")
        learned = self.model.htbsr.torso.keypoint_source == "learned"
        if max(self.loss.equivariance, self.loss.spread) > 0 and not learned:
            raise ValueError(f"loss.equivariance is {self.loss.equivariance}, loss.spread {self.loss.spread}; they are "
                             "for model.htbsr.torso.keypoint_source learned")


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
            known = warm_start_known(config.init_from, self.modules, ("htbsr", "discriminator"))
            if "htbsr" not in known:
                start_from_superresolution(self.model.htbsr, config.init_from)

    def optimizers(self) -> list[OptimizerSpec]:
        return image_stage_optimizers(self.modules, ("htbsr",), self.config.rates,
                                      partial(htbsr_rates, self.config.rates))

    def train_dataset(self) -> Dataset:
        return training_pairs(self.config.data)

    def validation_dataset(self) -> Dataset:
        return validation_pairs(self.config.data)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        if optimizer == "discriminator":
            if step < self.config.start_adversarial - 10_000:
                return {}
            real = replace(head_view(batch, 1, self.config.model), image=frame(batch, 1))
            return self.adversary.discriminator_losses(state.cache["fakes"], [real], step, state.generator)
        output = self.frames(batch, 1, state.generator)
        found = self.view_losses(output, batch, 1)
        weight = self.config.loss.adversarial if step >= self.config.start_adversarial else 0.0
        found |= adversarial_terms(self.adversary, output, weight, state)
        found |= self.keypoint_losses(batch, state.generator)
        if step % self.config.source_every == 0:
            again = self.view_losses(self.frames(batch, 0, state.generator), batch, 0)
            found |= {f"source_{name}": loss for name, loss in again.items()}
        return found

    def frames(self, batch: dict[str, Tensor], k: int, generator: torch.Generator | None = None) -> PortraitOutput:
        """The source frame (0) or the target frame (1) made from the source."""
        inpainted = self.config.background == "inpainted"
        background = to_float(batch["background"]) if inpainted else frame(batch, 0)
        source = self.model.encode_source(to_float(batch["torso"]), one_hot(batch["source_classes"]), background)
        with torch.no_grad():
            planes = self.model.canonical_planes(frame_head(batch, 0), frame_camera(batch, 0, self.config.model))
        pncc = adapter_pictures(to_float(batch["pncc"]), (SOURCE, TARGET)[k], self.config.model)
        return self.model(planes, frame_camera(batch, k, self.config.model), pncc, source, self.keypoints(batch, 0),
                          self.keypoints(batch, k), generator)

    def keypoints(self, batch: dict[str, Tensor], k: int) -> Tensor:
        """What moves the torso: the landmarks of a frame [B, 68, 3], or the learned points found on it [B, K, 3]."""
        landmarks = F.pad(2 * batch["keypoints"][:, k] - 1, (0, 1))                # z = 0
        return self.model.torso_keypoints(landmarks, frame(batch, k))

    def keypoint_losses(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted regularisation of learned key points on the target frame."""
        if max(self.config.loss.equivariance, self.config.loss.spread) == 0:
            return {}
        image, points = frame(batch, 1), self.keypoints(batch, 1)
        matrices = random_affine(len(image), generator).to(image)
        detector = self.model.htbsr.torso_model.keypoint_detector
        terms = {
            "equivariance": lambda: keypoint_equivariance(points, detector(transformed(image, matrices)), matrices),
            "spread": lambda: keypoint_spread(points),
        }
        return weighted(terms, self.config.loss)

    def view_losses(self, output: PortraitOutput, batch: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        """Weighted losses of the source (0) or the target (1) frame."""
        truth, torso, boxes = frame(batch, k), grown(frame_mask(batch, k, TORSO_CLASSES)), frame_lips(batch, k)
        network, htbsr = self.frozen.get("perceptual"), output.htbsr
        small = htbsr.torso_image.shape[-1]

        def seen(parts: tuple[int, ...]) -> Tensor:
            return losses.resize_mask(frame_mask(batch, k, parts), small)

        terms = {
            "image": lambda: losses.masked_l1(output.image, truth, torso, OUTSIDE),
            "l1": lambda: (output.image - truth).abs().mean(),
            "edges": lambda: losses.edge_l1(output.image, truth),
            "perceptual": lambda: perceptual_loss(network, output.image, truth),
            "lips": lambda: losses.lip_l1(output.image, truth, boxes),
            "lips_perceptual": lambda: lip_perceptual(network, output.image, truth, boxes),
            "occlusion_entropy": lambda: losses.binary_entropy(htbsr.occlusion_2),
            "occlusion": lambda: occlusion_area(htbsr.occlusion, torso),
            "occlusion_2": lambda: occlusion_area(htbsr.occlusion_2, torso),
            "torso_cover": lambda: torso_cover(htbsr.occlusion_2, seen(TORSO_CLASSES), seen(HEAD_CLASSES)),
            "torso_image": lambda: torso_l1(htbsr.torso_image, resize(truth, small), seen(TORSO_CLASSES)),
        }
        return weighted(terms, self.config.loss)

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output, truth = self.frames(batch, 1), frame(batch, 1)
        return {"psnr": psnr(output.image, truth), "lips_l1": losses.lip_l1(output.image, truth, frame_lips(batch, 1)),
                "psnr_of_the_source": psnr(frame(batch, 0), truth)}

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output = self.frames(batch, 1)
        return {"source_target_output": grid([
            frame(batch, 0), frame(batch, 1), output.image, output.image_raw, output.htbsr.torso_image,
            to_float(batch["torso"]), 2 * output.htbsr.occlusion_2 - 1])}

    def videos(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"source_pncc_output_truth": clip_video(self.config.data, self.device, self.video_columns)}

    def video_columns(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Source, driving PNCC, output and truth of a frame."""
        return [frame(batch, 0), to_float(batch["pncc"][:, TARGET]), self.frames(batch, 1).image, frame(batch, 1)]


def start_from_superresolution(htbsr: HTBSR, path: str) -> None:
    """Take over block0 and block1 of a stage-2 checkpoint's super-resolution; the rest keeps its first weights.

    Raises:
        UserError: no such checkpoint.
    """
    state = load_state(find_checkpoint(path), "superresolution")
    for name in ("block0", "block1"):
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        getattr(htbsr, name).load_state_dict(part)
