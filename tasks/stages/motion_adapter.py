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

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.layers.resample import resize
from modules.losses import image as losses
from modules.losses.perceptual import PerceptualLoss
from modules.media.pixels import to_float
from modules.metrics.image import psnr
from modules.portrait.initial_weights import InitialWeights, load_imagenet
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from tasks.data.frame_pairs import ClipDataConfig
from tasks.demo.patches import WindowConfig, sample_windows, window_losses
from tasks.engine.registry import register
from tasks.engine.task import OptimizerSpec, StepState, Task, grid
from tasks.stages.adversary import Adversary, AdversaryConfig, View
from tasks.stages.image_terms import (
    AFTER,
    BEFORE,
    SOURCE,
    TARGET,
    adapter_pictures,
    adversarial_terms,
    density_loss,
    frame_camera,
    frame_head,
    frame_lips,
    frame_mask,
    frame_mouth,
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
from tasks.stages.learning_rates import RateConfig, motion_adapter_rates
from tasks.stages.previews import depth_picture
from tasks.stages.short_videos import clip_video

HEAD_PARTS = ("image_to_plane", "tri_grid", "renderer", "superresolution")
TRAINED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution")
OUTSIDE = 0.2                 # weight of pixels far from the head (2.1)
TUNED = {"perturbation": 0.2, "eye_closing": 2.0}       # losses whose weights tune themselves, and the largest weights


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
    edges_raw: float = 0.0                # as edges, of image_raw; with windows alone
    planes: float = 0.0                   # mean square of the planes; with windows alone
    perturbation: float = 0.0             # target of the auto-tuned loss of noisy coefficients (2.7, randn); 0: off
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
    windows: WindowConfig | None = None   # train on windows of image_raw alone, with the losses of `window_losses`
    init_from: str = ""                   # checkpoint or run of stage 1 or 2; empty: from scratch
    initial_weights: InitialWeights = "imagenet"       # of the encoders that init_from does not have

    def __post_init__(self) -> None:
        if self.model.motion_adapter is None or self.model.superresolution is None:
            raise ValueError("model: stage 2 has a motion_adapter and a superresolution")
        if self.data.pncc_size != self.model.motion_adapter.input_size:
            raise ValueError(f"data.pncc_size is {self.data.pncc_size}; the motion adapter reads "
                             f"{self.model.motion_adapter.input_size}")
        if self.data.face_model != self.model.face_model:
            raise ValueError(f"data.face_model is {self.data.face_model}, model.face_model {self.model.face_model}")
        if self.windows is not None and self.loss.adversarial > 0:
            raise ValueError(f"loss.adversarial is {self.loss.adversarial}; it must be 0 with windows")
        if self.loss.perturbation > 0 and self.data.perturbation == 0:
            raise ValueError(f"loss.perturbation is {self.loss.perturbation} but data.perturbation 0; set the latter, "
                             "the size of the noise, to 0.01 or so")


class TunedWeight(nn.Module):
    """A loss weight in [0, limit] that adapts itself (2.7); a buffer, so that it is saved with the weights."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("value", torch.tensor(0.001))

    def update(self, loss: Tensor, target: float) -> float:
        """The weight for this step."""
        value = losses.tune_weight(float(self.value), float(loss.detach()), target, self.limit)
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
        for name, limit in TUNED.items():
            if getattr(config.loss, name) > 0:
                self.modules[f"{name}_weight"] = TunedWeight(limit)
        if config.loss.needs_perceptual:
            self.frozen["perceptual"] = PerceptualLoss.from_assets()
        self.started: tuple[str, ...] = ()             # modules that init_from has
        if config.init_from:
            warm_start(config.init_from, self.modules, HEAD_PARTS)
            known = warm_start_known(config.init_from, self.modules, ("motion_adapter", "discriminator"))
            self.started = (*HEAD_PARTS, *known)

    def begin(self) -> None:
        if self.config.initial_weights == "imagenet":
            load_imagenet(self.modules, self.started)

    def optimizers(self) -> list[OptimizerSpec]:
        config = self.config
        official = partial(motion_adapter_rates, config.rates, start_adversarial=config.start_adversarial,
                           stop_i2p=config.stop_i2p)
        return image_stage_optimizers(self.modules, TRAINED, config.rates, official)

    def train_dataset(self) -> Dataset:
        return training_pairs(self.config.data)

    def validation_dataset(self) -> Dataset:
        return validation_pairs(self.config.data)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        if self.config.windows is not None:
            return self.window_step(batch, step, state)
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        if optimizer == "discriminator":
            if step < self.config.start_adversarial - 10_000:
                return {}
            return self.adversary.discriminator_losses(state.cache["fakes"], [source, target], step, state.generator)
        canonical = self.model.canonical_planes(source.image, source.camera)
        pncc = to_float(batch["pncc"])                                            # [B, 5, 3, N, N]
        output = self.model(canonical, target.camera, self.driven_by(pncc, TARGET), generator=state.generator)
        found = self.view_losses(output, target, batch, 1)
        weight = self.config.loss.adversarial if step >= self.config.start_adversarial else 0.0
        found |= adversarial_terms(self.adversary, output, weight, state)
        if step % self.config.source_every == 0:
            again = self.model(canonical, source.camera, self.driven_by(pncc, SOURCE), generator=state.generator)
            found |= {f"source_{name}": loss for name, loss in self.view_losses(again, source, batch, 0).items()}
        return found | self.plane_losses(output.planes, batch, step, state)

    def window_step(self, batch: dict[str, Tensor], step: int, state: StepState) -> dict[str, Tensor]:
        """Losses of random windows of the target frame, or of the source now and then, and of the planes."""
        k = int(step % self.config.source_every > 0)
        pncc = self.driven_by(to_float(batch["pncc"]), (SOURCE, TARGET)[k])
        canonical = self.model.canonical_planes(frame_head(batch, 0), frame_camera(batch, 0, self.config.model))
        planes, _ = self.model.drive(canonical, pncc)
        truth, head = self.truth(batch, k), frame_mask(batch, k, HEAD_CLASSES)
        windows = sample_windows(self.config.windows, head, state.generator, frame_mouth(batch, k))
        found = window_losses(self.config.loss, windows, self.model, planes, truth, head, state.generator)
        return found | self.plane_losses(planes, batch, step, state)

    def truth(self, batch: dict[str, Tensor], k: int) -> View:
        """The head of the source (0) or the target (1) frame."""
        return head_view(batch, k, self.config.model)

    def driven_by(self, pncc: Tensor, driving: int) -> Tensor:
        """The adapter's pictures [B, K, 3, N, N] of number `driving` of the batch's PNCCs."""
        return adapter_pictures(pncc, driving, self.config.model)

    def view_losses(self, output: PortraitOutput, truth: View, batch: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        """Weighted reconstruction losses of the source (0) or the target (1) frame."""
        head, boxes = frame_mask(batch, k, HEAD_CLASSES), frame_lips(batch, k)
        wide, small = grown(head), output.weights.shape[-1]
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
        return weighted(terms, self.config.loss)

    def plane_losses(self, planes: Tensor, batch: dict[str, Tensor], step: int,
                     state: StepState) -> dict[str, Tensor]:
        """Lazy regularisation of planes: density, Laplacian in time, noise of the coefficients, closing of the eyes."""
        weights, pncc, found = self.config.loss, to_float(batch["pncc"]), {}
        if weights.density > 0 and (step + 1) % weights.density_every == 0:
            density = density_loss(self.model, planes, weights.density_step, state.generator)
            found["density"] = weights.density * weights.density_every * density
        if (step + 1) % weights.laplacian_every != 0:
            return found
        if weights.laplacian > 0:
            motion = self.compared_planes([self.driven_by(pncc, k) for k in (TARGET, BEFORE, AFTER)])
            found["laplacian"] = weights.laplacian * weights.laplacian_every * losses.laplacian_squared(*motion)
        if weights.perturbation > 0:
            loss = losses.perturbation_l1(*self.planes_driven_by(pncc, to_float(batch["perturbed"])))
            found["perturbation"] = self.tuned("perturbation", loss) * weights.laplacian_every
        if weights.eye_closing > 0:
            first, middle, last = self.planes_driven_by(pncc, to_float(batch["closed"]))
            loss = losses.laplacian_l1(middle, first, last)
            found["eye_closing"] = self.tuned("eye_closing", loss) * weights.laplacian_every
        return found

    def tuned(self, name: str, loss: Tensor) -> Tensor:
        """The loss `name` times its weight for this step."""
        return self.modules[f"{name}_weight"].update(loss, getattr(self.config.loss, name)) * loss

    def planes_driven_by(self, pncc: Tensor, driving: Tensor) -> tuple[Tensor, ...]:
        """Compared motion planes of the driving PNCCs [B, N, 3, H, W], with the batch's canonical and source ones."""
        return self.compared_planes([self.driven_by(torch.cat([pncc[:, :TARGET], picture[:, None]], dim=1), TARGET)
                                     for picture in driving.unbind(dim=1)])

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
        image = self.shown(output, target)
        return {"psnr": psnr(image, target.image), "psnr_raw": psnr(output.image_raw, target.image_raw),
                "psnr_of_the_source": psnr(source.image, target.image),
                "lips_l1": losses.lip_l1(image, target.image, frame_lips(batch, 1))}

    def driven(self, batch: dict[str, Tensor], source: View, target: View) -> PortraitOutput:
        """The source with the target's expression from the target's camera."""
        return self.model(self.model.canonical_planes(source.image, source.camera), target.camera,
                          self.driven_by(to_float(batch["pncc"]), TARGET))

    def shown(self, output: PortraitOutput, truth: View) -> Tensor:
        """The best picture there is, at the truth's size."""
        if self.config.windows is None:
            return output.image
        return resize(output.image_raw, truth.image.shape[-1])                    # super-resolution is not trained

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        output = self.driven(batch, source, target)
        return {"source_target_output": grid([
            source.image, target.image, output.image, output.image_raw, depth_picture(output.depth, output.weights),
            to_float(batch["pncc"][:, TARGET])])}

    def videos(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"source_pncc_output_truth": clip_video(self.config.data, self.device, self.video_columns)}

    def video_columns(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Source, driving PNCC, output and truth of a frame."""
        source, target = self.truth(batch, 0), self.truth(batch, 1)
        output = self.shown(self.driven(batch, source, target), target)
        return [source.image, to_float(batch["pncc"][:, TARGET]), output, target.image]
