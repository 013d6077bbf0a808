"""Stage 2: motion adapter, with fine-tuning of the image-to-plane network (spec/training.md, 1.3).

    python -m tasks.run configs/motion_adapter.yaml

Source and target are two frames of one clip: the head picture of the source and three PNCCs give planes, which the
target's camera renders. Every `source_every` steps the source itself is the target too.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from data_gen.clip_format import HEAD_CLASSES
from modules import losses
from modules.camera import pose_camera
from modules.htbsr.superresolution import resize
from modules.perceptual import PerceptualLoss
from modules.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from tasks.adversary import Adversary, AdversaryConfig, View
from tasks.clips import ClipDataConfig, FramePairs, ValidationPairs, split_clips, to_float
from tasks.image_stage import (
    density_loss,
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
from tasks.schedules import RateConfig, motion_adapter_rates
from tasks.show import depth_picture, psnr
from tasks.task import OptimizerSpec, StepState, Task, grid

HEAD_PARTS = ("image_to_plane", "tri_grid", "renderer", "superresolution")
TRAINED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution")
OUTSIDE = 0.2                 # weight of pixels far from the head (2.1)
CANONICAL, SOURCE, TARGET, BEFORE, AFTER = range(5)     # the PNCCs of a batch
EYE_LIMIT = 2.0               # of the auto-tuned weight


@dataclass(frozen=True, kw_only=True)
class MotionAdapterLossConfig:
    """Weights; a part whose weights are all 0 is not built."""

    image: float = 1.0                    # masked L1
    image_raw: float = 1.0
    edges: float = 0.0
    perceptual: float = 0.1
    perceptual_raw: float = 0.1
    lips: float = 0.5
    lips_perceptual: float = 0.05
    mask: float = 0.1                     # ray weights against the head mask
    entropy: float = 0.01                 # of the ray weights
    adversarial: float = 0.002
    density: float = 0.25
    density_every: int = 4
    density_step: float = 0.005
    laplacian: float = 0.1                # squared, of the motion planes of t - 1, t, t + 1 (the paper's loss)
    laplacian_every: int = 4
    eye_closing: float = 0.3              # target of the auto-tuned eye-closing loss (2.8); 0: off

    @property
    def needs_perceptual(self) -> bool:
        return max(self.perceptual, self.perceptual_raw, self.lips_perceptual) > 0


@dataclass(frozen=True, kw_only=True)
class MotionAdapterTaskConfig:
    """Stage 2."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 2))
    adversary: AdversaryConfig = AdversaryConfig()
    data: ClipDataConfig = ClipDataConfig()
    loss: MotionAdapterLossConfig = MotionAdapterLossConfig()
    rates: RateConfig = RateConfig(floor=5e-6)
    start_adversarial: int = 200_000      # steps; from then on only super-resolution is trained
    stop_i2p: int = 70_000                # from then on the image-to-plane network is fixed
    source_every: int = 16                # source to source
    unit_planes: bool = False             # scale the planes of stage 1 to unit size before the adapter learns
    init_from: str = ""                   # checkpoint or run of stage 1 or 2; empty: from scratch

    def __post_init__(self) -> None:
        if self.model.motion_adapter is None or self.model.superresolution is None:
            raise ValueError("model: stage 2 has a motion_adapter and a superresolution")
        if self.data.pncc_size != self.model.motion_adapter.input_size:
            raise ValueError(f"data.pncc_size is {self.data.pncc_size}; the motion adapter reads "
                             f"{self.model.motion_adapter.input_size}")
        if self.data.face_model != self.model.face_model:
            raise ValueError(f"data.face_model is {self.data.face_model}, model.face_model {self.model.face_model}")


class TunedWeight(nn.Module):
    """A loss weight that adapts itself (2.7); a buffer, so that it is saved with the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(0.001))

    def update(self, loss: Tensor, target: float) -> float:
        """The weight for this step."""
        value = losses.tune_weight(float(self.value), float(loss.detach()), target, EYE_LIMIT)
        self.value.fill_(value)
        return value


@register("motion_adapter")
class MotionAdapterTask(Task):
    """Frame pairs -> motion adapter, image-to-plane network, decoder and super-resolution."""

    config_class = MotionAdapterTaskConfig
    best_metric, best_is_lowest = "psnr", False

    def __init__(self, config: MotionAdapterTaskConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        with seeded(generator):
            self.model = Real3DPortrait(config.model)
            self.adversary = Adversary(config.adversary) if config.loss.adversarial > 0 else None
        self.modules = dict(self.model.named_children())
        if self.adversary is not None:
            self.modules["discriminator"] = self.adversary.discriminator
        if config.loss.eye_closing > 0:
            self.modules["eye_closing_weight"] = TunedWeight()
        if config.loss.needs_perceptual:
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        if config.init_from:
            warm_start(config.init_from, self.modules, HEAD_PARTS)
            known = tuple(name for name in ("motion_adapter", "discriminator") if has_weights(config.init_from, name))
            warm_start(config.init_from, self.modules, known)
            if config.unit_planes and "motion_adapter" not in known:
                self.model.scale_planes(1 / self.plane_size())

    def optimizers(self) -> list[OptimizerSpec]:
        config = self.config
        official = partial(motion_adapter_rates, config.rates, start_adversarial=config.start_adversarial,
                           stop_i2p=config.stop_i2p)
        return image_stage_optimizers(self.modules, TRAINED, config.rates, official)

    def train_dataset(self) -> Dataset:
        return FramePairs(self.config.data, split_clips(self.config.data)[0])

    def validation_dataset(self) -> Dataset:
        return ValidationPairs(FramePairs(self.config.data, split_clips(self.config.data)[1]))

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        adversarial = step >= self.config.start_adversarial
        if optimizer == "discriminator":
            if step < self.config.start_adversarial - 10_000:
                return {}
            return self.adversary.discriminator_losses(state.cache["fakes"], [source, target], step, state.generator)
        canonical = self.model.canonical_planes(source.image)
        pncc = to_float(batch["pncc"])                                            # [B, 5, 3, N, N]
        output = self.model(canonical, target.camera, self.driven_by(pncc, TARGET), generator=state.generator)
        found = self.view_losses(output, target, batch, 1)
        if self.adversary is not None:
            view = View(output.image, output.image_raw, output.camera)
            state.cache["fakes"] = [view.detach()]
            if adversarial:
                weight = self.config.loss.adversarial
                found["adversarial"] = weight * self.adversary.generator_loss(view, state.generator)
        if step % self.config.source_every == 0:
            again = self.model(canonical, source.camera, self.driven_by(pncc, SOURCE), generator=state.generator)
            found |= {f"source_{name}": loss for name, loss in self.view_losses(again, source, batch, 0).items()}
        return found | self.plane_losses(output, batch, step, state)

    @torch.no_grad()
    def plane_size(self, people: int = 8) -> float:
        """Standard deviation of the canonical planes of the first training clips."""
        data = self.train_dataset()
        items = [data[index] for index in range(min(people, len(data)))]
        batch = {name: torch.stack([item[name] for item in items]) for name in ("source_image", "source_classes")}
        heads = head_picture(to_float(batch["source_image"]), batch["source_classes"])
        self.model.image_to_plane.eval()
        return float(self.model.canonical_planes(heads).std())

    def truth(self, batch: dict[str, Tensor], k: int) -> View:
        """The head of the source (0) or the target (1) frame."""
        name = ("source", "target")[k]
        head = head_picture(to_float(batch[f"{name}_image"]), batch[f"{name}_classes"])
        camera = pose_camera(batch["euler"][:, k], batch["translation"][:, k], self.config.model.focal_length)
        return View(head, resize(head, self.config.model.neural_resolution), camera)

    def driven_by(self, pncc: Tensor, driving: int) -> Tensor:
        """The adapter's pictures [B, K, 3, N, N]: canonical, (source,) and number `driving` of the batch's five."""
        return pncc[:, [CANONICAL, driving] if self.config.model.motion_adapter.pictures == 2
                    else [CANONICAL, SOURCE, driving]]

    def view_losses(self, output: PortraitOutput, truth: View, batch: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        """Weighted reconstruction losses of the source (0) or the target (1) frame."""
        head = part_mask(batch[f"{('source', 'target')[k]}_classes"], HEAD_CLASSES)
        wide, small = grown(head), output.weights.shape[-1]
        size = truth.image.shape[-1]
        boxes = losses.lip_boxes(batch["keypoints"][:, k] * size, size)
        perceptual, network = partial(perceptual_loss, self.frozen.get("perceptual")), self.frozen.get("perceptual")
        terms = {
            "image": lambda: losses.masked_l1(output.image, truth.image, wide, OUTSIDE),
            "image_raw": lambda: losses.masked_l1(output.image_raw, truth.image_raw, losses.resize_mask(wide, small),
                                                  OUTSIDE),
            "edges": lambda: losses.edge_l1(output.image, truth.image),
            "perceptual": lambda: perceptual(output.image, truth.image),
            "perceptual_raw": lambda: perceptual(output.image_raw, truth.image_raw),
            "lips": lambda: losses.lip_l1(output.image, truth.image, boxes),
            "lips_perceptual": lambda: lip_perceptual(network, output.image, truth.image, boxes),
            "mask": lambda: losses.weights_mask(output.weights, losses.resize_mask(head, small)),
            "entropy": lambda: losses.binary_entropy(output.weights),
        }
        weights = self.config.loss
        return {name: getattr(weights, name) * term() for name, term in terms.items() if getattr(weights, name) > 0}

    def plane_losses(self, output: PortraitOutput, batch: dict[str, Tensor], step: int,
                     state: StepState) -> dict[str, Tensor]:
        """Lazy regularisation of planes: density, Laplacian in time, even closing of the eyes."""
        weights, pncc, found = self.config.loss, to_float(batch["pncc"]), {}
        if weights.density > 0 and (step + 1) % weights.density_every == 0:
            density = density_loss(self.model, output.planes, weights.density_step, state.generator)
            found["density"] = weights.density * weights.density_every * density
        if (step + 1) % weights.laplacian_every != 0:
            return found
        if weights.laplacian > 0:
            planes = self.compared_planes([self.driven_by(pncc, k) for k in (TARGET, BEFORE, AFTER)])
            found["laplacian"] = weights.laplacian * weights.laplacian_every * losses.laplacian_squared(*planes)
        if weights.eye_closing > 0:
            closed = to_float(batch["closed"])                                    # [B, 3, 3, N, N]
            first, middle, last = self.compared_planes(
                [self.driven_by(torch.cat([pncc[:, :TARGET], closed[:, k, None]], dim=1), TARGET) for k in range(3)])
            loss = losses.laplacian_l1(middle, first, last)
            tuned = self.modules["eye_closing_weight"].update(loss, weights.eye_closing)
            found["eye_closing"] = tuned * weights.laplacian_every * loss
        return found

    def compared_planes(self, pncc: list[Tensor]) -> tuple[Tensor, ...]:
        """Motion planes of several inputs that are compared: without dropout and with fixed statistics."""
        adapter = self.model.motion_adapter
        training = adapter.training
        adapter.eval()
        planes = self.model.motion_planes(torch.cat(pncc)).chunk(len(pncc))
        adapter.train(training)
        return planes

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        output = self.driven(batch, source, target)
        size = target.image.shape[-1]
        boxes = losses.lip_boxes(batch["keypoints"][:, 1] * size, size)
        return {"psnr": psnr(output.image, target.image), "psnr_raw": psnr(output.image_raw, target.image_raw),
                "psnr_of_the_source": psnr(source.image, target.image),
                "lips_l1": losses.lip_l1(output.image, target.image, boxes)}

    def driven(self, batch: dict[str, Tensor], source: View, target: View) -> PortraitOutput:
        """The source with the target's expression from the target's camera."""
        return self.model(self.model.canonical_planes(source.image), target.camera,
                          self.driven_by(to_float(batch["pncc"]), TARGET))

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        output = self.driven(batch, source, target)
        return {"source_target_output": grid([
            source.image, target.image, output.image, output.image_raw, depth_picture(output.depth, output.weights),
            to_float(batch["pncc"][:, TARGET])])}
