"""Stage 2: the motion adapter, with fine-tuning of the image-to-plane network.

    python -m tasks.run configs/motion_adapter.yaml

See the paper, motion adapter, and docs/spec/training.md#1-3. Source and target are two frames of one clip: P_cano of
the source's head plus P_diff of the PNCCs is rendered from the target's camera. Every `self_reenactment_every` steps
the source is also its own target (self-reenactment).
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.losses import image as losses
from modules.metrics.image import psnr
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import PNCC_NAMES, PNCCInputs
from modules.portrait.initial_weights import InitialWeights, imagenet_files, load_imagenet
from modules.portrait.real3d_portrait import PortraitOutput
from tasks.data.frame_batch import AFTER, BEFORE, TARGET, Frame, FrameBatch
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.registry import register
from tasks.engine.sharding import process_mean
from tasks.engine.sheet import captioned
from tasks.engine.task import Metric, OptimizerSpec, StepState
from tasks.stages.adversary import ADVERSARIAL, AdversaryConfig
from tasks.stages.frame_pair_stage import OF_SOURCE, FramePairTask
from tasks.stages.image_terms import (
    adversarial_terms,
    density_loss,
    dilated,
    image_stage_optimizers,
    lip_perceptual,
    perceptual_loss,
)
from tasks.stages.learning_rates import ImageLearningRates, MotionAdapterUnfreezing, Share, motion_adapter_share
from tasks.stages.previews import depth_picture
from tasks.stages.sizes import adversary_of_model, data_of_model
from tasks.stages.terms import (
    LIP_BOXES,
    NEAR_PICTURES,
    NETWORK,
    PICTURE_SHAPE,
    RAW_SHAPE,
    Input,
    Inputs,
    Term,
    Weights,
    check_weights,
    weighted_terms,
)
from tasks.stages.warm_start import check_face_model, holds, warm_start, warm_start_if_present

HEAD_PARTS = ("image_to_plane", "tri_grid", "renderer", "superresolution")
TRAINED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer", "superresolution")
OUTSIDE = 0.2  # weight of pixels far from the head; docs/spec/training.md#2-1
TUNED = {"perturbation": 0.2, "eye_closing": 2.0}  # losses with auto-tuned weights -> the largest weight
TERMS = {
    "image": Term(partial(losses.masked_l1, outside=OUTSIDE), ("image", "target", "near_head")),
    "image_raw": Term(partial(losses.masked_l1, outside=OUTSIDE), ("image_raw", "target_raw", "near_head_raw")),
    "edges": Term(losses.edge_l1, ("image", "target")),
    "perceptual": Term(perceptual_loss, ("network", "image", "target")),
    "perceptual_raw": Term(perceptual_loss, ("network", "image_raw", "target_raw")),
    "lips": Term(losses.lip_l1, ("image", "target", "lip_boxes")),
    "lips_perceptual": Term(lip_perceptual, ("network", "image", "target", "lip_boxes")),
    "mask": Term(losses.weights_mask, ("ray_weights", "head_raw")),
    "entropy": Term(losses.binary_entropy, ("ray_weights",)),
}
INPUTS = {
    "image": Input(PICTURE_SHAPE, NEAR_PICTURES, "the final picture of the head"),
    "target": Input(PICTURE_SHAPE, "in [-1, 1]", "the frame's head over black"),
    "near_head": Input("[B, 1, S, S]", "bool", "the head of `target` and 20 pixels (of 512) around it"),
    "image_raw": Input(RAW_SHAPE, NEAR_PICTURES, "the raw render, before super-resolution"),
    "target_raw": Input(RAW_SHAPE, "in [-1, 1]", "`target`, reduced"),
    "near_head_raw": Input("[B, 1, R, R]", "bool", "`near_head`, reduced"),
    "lip_boxes": LIP_BOXES,
    "ray_weights": Input("[B, 1, R, R]", "in [0, 1]", "how much of each ray the head of the raw render stops"),
    "head_raw": Input("[B, 1, R, R]", "bool", "the head of `target_raw`"),
    "network": NETWORK,
}
PLANE_LOSSES = {
    "density": "Difference of the densities of neighbouring points.",
    "laplacian": "Curvature of P_diff in time.",
}
TUNED_LOSSES = {
    "perturbation": "Change of P_diff under noise on the coefficients.",
    "eye_closing": "Unevenness of P_diff while the eyes close.",
}
PLANE_LAPLACIANS = {"mean": losses.laplacian_mean, "norm": losses.laplacian_squared}


@dataclass(frozen=True, kw_only=True)
class MotionAdapterTaskConfig:
    """The keys of stage 2."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 2))
    adversary: AdversaryConfig = AdversaryConfig()
    data: ClipDataConfig = ClipDataConfig()
    loss: Weights = field(default_factory=dict)
    laplacian: Literal["mean", "norm"] = (
        "mean"  # of P_diff's curvature in time: its mean square, or the paper's squared norm
    )
    loss_targets: Weights = field(default_factory=dict)  # of losses in TUNED: a weight grows while its loss is above
    density_every: int = 4  # steps; lazy regularisation
    density_step: float = 0.005  # distance of the two points whose densities are compared, world units
    laplacian_every: int = 4  # steps; also of the losses in TUNED
    learning_rates: ImageLearningRates = ImageLearningRates()
    unfreeze: MotionAdapterUnfreezing = MotionAdapterUnfreezing()
    image_to_plane_rise: int = 0  # steps in which the rate of the image-to-plane network rises from 0
    freeze_image_to_plane_at: int | None = None  # step from which that network is fixed; null: never
    superresolution_alone_from: int | None = None  # step from which all other modules are fixed; null: never
    start_adversarial: int = 200_000  # step from which the generator has an adversarial loss
    discriminator_lead: int = 0  # the discriminator is trained from so many steps before that
    self_reenactment_every: int = 16  # interval of the steps in which the source is also its own target
    init_from: str = ""  # checkpoint or run of stage 1 or 2; empty: from scratch
    initial_weights: InitialWeights = "imagenet"  # of the encoders that init_from lacks

    def __post_init__(self) -> None:
        if self.model.stage != 2:
            raise ValueError("model: stage 2 has a motion_adapter and a superresolution")
        object.__setattr__(self, "data", data_of_model(self.data, self.model))
        if self.loss.get("adversarial", 0.0) > 0:
            object.__setattr__(self, "adversary", adversary_of_model(self.adversary, self.model))
        self.check_losses()
        if self.loss_targets:
            check_weights(self.loss_targets, {}, (), TUNED)
        if self.loss_targets.get("perturbation", 0.0) > 0 and self.data.perturbation == 0:
            raise ValueError(
                f"loss_targets.perturbation is {self.loss_targets['perturbation']} but data.perturbation "
                "0; set the latter, the size of the noise, to 0.01 or so"
            )
        if self.loss_targets.get("eye_closing", 0.0) > 0 and not self.data.eye_closing:
            raise ValueError(
                f"loss_targets.eye_closing is {self.loss_targets['eye_closing']} but data.eye_closing "
                "false; set the latter to true"
            )

    def check_losses(self) -> None:
        """Refuse weights without an effect.

        Raises:
            ValueError: there is one.
        """
        check_weights(self.loss, TERMS, INPUTS, (*PLANE_LOSSES, "adversarial"), self.data.fields)

    @property
    def share(self) -> Share:
        """Which module is trained at which step, and with which share of its rate."""
        return partial(
            motion_adapter_share,
            unfreeze=self.unfreeze,
            rise=self.image_to_plane_rise,
            freeze_at=self.freeze_image_to_plane_at,
            alone_from=self.superresolution_alone_from,
        )


class TunedWeight(nn.Module):
    """An auto-tuned loss weight in [0, limit] (docs/spec/training.md#2-7); a buffer, so that checkpoints hold it.

    It grows while the loss is above its target and shrinks below it, by one move a step: with accumulated batches the
    loss is their mean, so far, and with several processes the mean over them, so that all have one weight.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("value", torch.tensor(0.001))
        self._seen: list[float] = []  # losses of this step
        self._next = float(self.value)

    def tuned(self, loss: Tensor, target: float) -> float:
        """The weight adapted to the losses of this step, `loss` the last of them."""
        self._seen.append(float(process_mean(loss.detach())))
        mean = sum(self._seen) / len(self._seen)
        self._next = losses.tune_weight(float(self.value), mean, target, self.limit)
        return self._next

    def finish_step(self) -> None:
        """Keep the weight of this step; the next one starts from it."""
        if self._seen:
            self.value.fill_(self._next)
            self._seen.clear()


@register("motion_adapter")
class MotionAdapterTask(FramePairTask):
    """Train motion adapter, image-to-plane network, decoder and super-resolution on frame pairs."""

    config_class = MotionAdapterTaskConfig
    terms = TERMS
    term_inputs = INPUTS
    other_losses = {**PLANE_LOSSES, "adversarial": "The adversary's."}  # noqa: RUF012
    logged = {**OF_SOURCE, **ADVERSARIAL, **PLANE_LOSSES, **TUNED_LOSSES}  # noqa: RUF012
    metrics = {  # noqa: RUF012
        **FramePairTask.metrics,
        "psnr": Metric("PSNR of the head over black, dB (of the demo: its raw render, enlarged)", "higher"),
        "psnr_raw": Metric("PSNR of the raw render, before super-resolution, dB", "higher"),
    }

    def __init__(self, config: MotionAdapterTaskConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        for name, limit in TUNED.items():
            if config.loss_targets.get(name, 0.0) > 0:
                self.modules[f"{name}_weight"] = TunedWeight(limit)

    def begin(self) -> None:
        start = self.config.init_from
        started: tuple[str, ...] = ()  # modules whose weights come from it
        if start:
            started = warm_start(start, self.modules, HEAD_PARTS)
            started = (*started, *warm_start_if_present(start, self.modules, ("motion_adapter", "discriminator")))
        if "motion_adapter" in started:
            check_face_model(start, self.config.model)
        if self.config.initial_weights == "imagenet":
            load_imagenet(self.modules, started)

    @classmethod
    def files(cls, config: MotionAdapterTaskConfig, fresh: bool) -> list[tuple[str, ...]]:
        files = super().files(config, fresh)
        if fresh and config.initial_weights == "imagenet":
            adapter = ("motion_adapter",) if holds(config.init_from, "motion_adapter") else ()
            files += imagenet_files(config.model, (*HEAD_PARTS, *adapter) if config.init_from else ())
        return files

    @property
    def reads_neighbours(self) -> bool:
        return self.config.loss.get("laplacian", 0.0) > 0

    def optimizers(self) -> list[OptimizerSpec]:
        return image_stage_optimizers(self.modules, TRAINED, self.config.learning_rates, self.config.share)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str, state: StepState) -> dict[str, Tensor]:
        frames = self.frames(batch)
        if self.adversary is not None and optimizer == "discriminator":
            if step < self.config.start_adversarial - self.config.discriminator_lead:
                return {}
            reals = [frame.head_view(self.model.neural_resolution) for frame in (frames.source, frames.target)]
            return self.adversary.discriminator_losses(state.cache["fakes"], reals, step, state)
        source, target = self.model.encode(frames.photo()), frames.driving(frames.target)
        output = self.model(source, target, state.generator)
        terms = weighted_terms(TERMS, self.config.loss, self.inputs(output, frames.target), state)
        weight = self.config.loss.get("adversarial", 0.0) if step >= self.config.start_adversarial else 0.0
        terms |= adversarial_terms(self.adversary, output, target.camera, weight, state)
        if step % self.config.self_reenactment_every == 0:
            again = self.model(source, frames.driving(frames.source), state.generator)
            terms |= weighted_terms(TERMS, self.config.loss, self.inputs(again, frames.source), state, "source_")
        return terms | self.plane_losses(output.planes, frames, step, state)

    def inputs(self, output: PortraitOutput, frame: Frame) -> Inputs:
        """The inputs of the losses of the source frame or the target frame."""
        target, size = frame.head_view(self.model.neural_resolution), self.model.neural_resolution
        head = frame.mask(HEAD_CLASSES)
        return {
            **frame.fields(self.config.data.fields),
            "image": lambda: output.image,
            "target": lambda: target.image,
            "image_raw": lambda: output.image_raw,
            "target_raw": lambda: target.image_raw,
            "near_head": lambda: dilated(head),
            "near_head_raw": lambda: losses.resize_mask(dilated(head), size),
            "lip_boxes": lambda: frame.lip_boxes,
            "ray_weights": lambda: output.rendered.weights,
            "head_raw": lambda: losses.resize_mask(head, size),
            "network": lambda: self.frozen["perceptual"],
        }

    def plane_losses(self, planes: Tensor, frames: FrameBatch, step: int, state: StepState) -> dict[str, Tensor]:
        """Weighted losses of planes, each computed at an interval (lazy regularisation).

        They are the density's smoothness, the paper's Laplacian loss of P_diff over time, and two losses of the
        original: insensitivity to noise on the coefficients, and even closing of the eyes. A loss of modules that the
        schedule fixes trains nothing and is not computed.
        """
        config = self.config
        terms: dict[str, Tensor] = {}
        density, laplacian = (config.loss.get(name, 0.0) for name in PLANE_LOSSES)
        trained = {name for name in TRAINED if config.share(name, step) is not None}
        if density > 0 and (step + 1) % config.density_every == 0 and trained != {"superresolution"}:
            loss = density_loss(self.model, planes, config.density_step, state.generator)
            terms |= state.weigh("density", density * config.density_every, loss)
        if (step + 1) % config.laplacian_every != 0 or "motion_adapter" not in trained:
            return terms
        if laplacian > 0:
            motion = self.compared_planes([frames.pncc_of(k) for k in (TARGET, BEFORE, AFTER)])
            loss = PLANE_LAPLACIANS[config.laplacian](*motion)
            terms |= state.weigh("laplacian", laplacian * config.laplacian_every, loss)
        if "perturbation_weight" in self.modules:
            loss = losses.perturbation_l1(*self.compared_planes(frames.perturbed()))
            terms |= state.weigh("perturbation", self.tuned("perturbation", loss) * config.laplacian_every, loss)
        if "eye_closing_weight" in self.modules:
            first, middle, last = self.compared_planes(frames.closed())
            loss = losses.laplacian_l1(middle, first, last)
            terms |= state.weigh("eye_closing", self.tuned("eye_closing", loss) * config.laplacian_every, loss)
        return terms

    def tuned(self, name: str, loss: Tensor) -> float:
        """The auto-tuned weight of the loss `name` for this step."""
        return self.modules[f"{name}_weight"].tuned(loss, self.config.loss_targets[name])

    def after_step(self, step: int, state: StepState) -> None:
        for module in self.modules.values():
            if isinstance(module, TunedWeight):
                module.finish_step()

    def compared_planes(self, pncc: list[PNCCInputs]) -> tuple[Tensor, ...]:
        """P_diff of each of several inputs, for comparison: without dropout and with fixed statistics."""
        adapter = self.model.adapter()
        training = adapter.training
        adapter.eval()
        together = PNCCInputs(*(torch.cat([getattr(p, name) for p in pncc]) for name in PNCC_NAMES))
        planes = self.model.motion_planes(together).chunk(len(pncc))
        adapter.train(training)
        return planes

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        frames = self.frames(batch)
        output, target = self.reenacted(frames), frames.target.head_view(self.model.neural_resolution)
        image = self.best_prediction(output, target.image)
        return {
            "psnr": psnr(image, target.image),
            "psnr_raw": psnr(output.image_raw, target.image_raw),
            "psnr_of_the_source": psnr(frames.source.head, target.image),
            "lips_l1": losses.lip_l1(image, target.image, frames.target.lip_boxes),
            **self.perceptual(image, target.image),
        }

    def reenacted(self, frames: FrameBatch) -> PortraitOutput:
        """Render the source with the target's expression from the target's camera."""
        return self.model(self.model.encode(frames.photo()), frames.driving(frames.target))

    def best_prediction(self, output: PortraitOutput, target: Tensor) -> Tensor:
        """The prediction to compare with the target, at the target's size."""
        return output.image

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        frames = self.frames(batch)
        output, truth = self.reenacted(frames), frames.target.head
        best = self.best_prediction(output, truth)
        rows = {
            "photo": frames.source.head,
            "truth": truth,
            f"output, PSNR {float(psnr(best, truth)):.1f} dB": best,
            "raw render": output.image_raw,
            "depth (near is bright)": depth_picture(output.rendered.depth, output.rendered.weights),
            "driving PNCC": frames.pncc(TARGET)[0],
        }
        return {"source_target_output": captioned(rows)}

    def video_columns(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Source, driving PNCC, prediction and target of one frame."""
        frames = self.frames(batch)
        output = self.best_prediction(self.reenacted(frames), frames.target.head)
        return [frames.source.head, *frames.pncc(TARGET), output, frames.target.head]
