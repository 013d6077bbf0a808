"""Stage 3: head-torso-background super-resolution (HTB-SR) on a fixed head.

    python -m tasks.run configs/htbsr.yaml

See the paper, HTB-SR model, and docs/spec/training.md#1-4.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor

from modules.analysis.segmentation_classes import HEAD_CLASSES, TORSO_CLASSES
from modules.layers.resample import resize
from modules.losses import image as losses
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
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.htbsr.fusion import HTBSR, HTBSROutput
from modules.portrait.real3d_portrait import PortraitOutput, Source
from modules.system.checkpoint import load_state
from modules.system.errors import UserError
from tasks.data.frame_batch import TARGET, Frame, FrameBatch
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.registry import register
from tasks.engine.sheet import captioned
from tasks.engine.task import OptimizerSpec, StepState
from tasks.stages.adversary import ADVERSARIAL, AdversaryConfig
from tasks.stages.frame_pair_stage import OF_SOURCE, FramePairTask
from tasks.stages.image_terms import (
    adversarial_terms,
    dilated,
    image_stage_optimizers,
    lip_perceptual,
    mean_l1,
    perceptual_loss,
)
from tasks.stages.learning_rates import ImageLearningRates, always
from tasks.stages.sizes import adversary_of_model, data_of_model
from tasks.stages.terms import (
    LIP_BOXES,
    NEAR_PICTURES,
    NETWORK,
    PICTURE_SHAPE,
    Input,
    Inputs,
    Term,
    Weights,
    check_weights,
    weighted_terms,
)
from tasks.stages.warm_start import BLOCKS, check_face_model, source_of, warm_start, warm_start_if_present

FIXED = ("image_to_plane", "tri_grid", "motion_adapter", "renderer")
OUTSIDE = 0.5  # weight of pixels far from the torso; docs/spec/training.md#2-1
TERMS = {
    "image": Term(partial(losses.masked_l1, outside=OUTSIDE), ("image", "target", "near_torso")),
    "l1": Term(mean_l1, ("image", "target")),  # unlike `image`, large errors are not limited
    "edges": Term(losses.edge_l1, ("image", "target")),
    "perceptual": Term(perceptual_loss, ("network", "image", "target")),
    "lips": Term(losses.lip_l1, ("image", "target", "lip_boxes")),
    "lips_perceptual": Term(lip_perceptual, ("network", "image", "target", "lip_boxes")),
    "occlusion_entropy": Term(losses.binary_entropy, ("torso_alpha",)),
    "occlusion": Term(occlusion_area, ("feature_occlusion", "near_torso")),
    "occlusion_2": Term(occlusion_area, ("torso_alpha", "near_torso")),
    "torso_cover": Term(torso_cover, ("torso_alpha", "torso_half", "head_half")),
    "torso_image": Term(torso_l1, ("torso_image", "target_half", "torso_half")),
}
INPUTS = {
    "image": Input(PICTURE_SHAPE, NEAR_PICTURES, "the final picture"),
    "target": Input(PICTURE_SHAPE, "in [-1, 1]", "the person over the clip's background; targets=raw: the frame"),
    "near_torso": Input("[B, 1, S, S]", "bool", "the torso of `target` and 20 pixels (of 512) around it"),
    "lip_boxes": LIP_BOXES,
    "torso_alpha": Input("[B, 1, S/2, S/2]", "in [0, 1]", "where the torso covers the background"),
    "feature_occlusion": Input("[B, 1, S/8, S/8]", "in [0, 1]", "how much of the moved torso features is kept"),
    "torso_image": Input("[B, 3, S/2, S/2]", NEAR_PICTURES, "the torso's own picture"),
    "target_half": Input("[B, 3, S/2, S/2]", "in [-1, 1]", "`target`, reduced"),
    "torso_half": Input("[B, 1, S/2, S/2]", "bool", "the torso of `target`"),
    "head_half": Input("[B, 1, S/2, S/2]", "bool", "the head of `target`"),
    "network": NETWORK,
}
KEYPOINT_TERMS = {  # losses of learned key points
    "equivariance": Term(keypoint_equivariance, ("points", "moved_points", "matrices")),
    "spread": Term(keypoint_spread, ("points",)),
}
KEYPOINT_INPUTS = ("points", "moved_points", "matrices")


@dataclass(frozen=True, kw_only=True)
class HTBSRTaskConfig:
    """The keys of stage 3."""

    model: Real3DPortraitConfig = field(default_factory=partial(Real3DPortraitConfig.full, 3))
    adversary: AdversaryConfig = AdversaryConfig()
    data: ClipDataConfig = ClipDataConfig(torso=True)
    loss: Weights = field(default_factory=dict)
    learning_rates: ImageLearningRates = ImageLearningRates()
    start_adversarial: int = 40_000  # step from which the generator has an adversarial loss
    discriminator_lead: int = 0  # the discriminator is trained from so many steps before that
    self_reenactment_every: int = 4  # interval of the steps in which the source is also its own target
    background: Literal["inpainted", "source"] = "inpainted"  # source: the photo with the person in it (ablation)
    targets: Literal["composed", "raw"] = "composed"  # frames: the person over the clip's one background, or as filmed
    init_from: str = ""  # checkpoint or run of stage 2 or 3; empty: a random head (for tests)

    def __post_init__(self) -> None:
        if self.model.stage != 3 or self.model.htbsr is None or self.model.motion_adapter is None:
            raise ValueError("model: stage 3 has a motion_adapter and an htbsr")
        if not self.data.torso:
            raise ValueError("data.torso is false; stage 3 needs torso and background pictures")
        object.__setattr__(self, "data", data_of_model(self.data, self.model))
        if self.loss.get("adversarial", 0.0) > 0:
            object.__setattr__(self, "adversary", adversary_of_model(self.adversary, self.model))
        learned = self.model.htbsr.torso.keypoint_source == "learned"
        check_weights(
            self.loss,
            {**TERMS, **KEYPOINT_TERMS},
            (*INPUTS, *(KEYPOINT_INPUTS if learned else ())),
            ("adversarial",),
            self.data.fields,
        )


@register("htbsr")
class HTBSRTask(FramePairTask):
    """Train HTB-SR on frame pairs."""

    config_class = HTBSRTaskConfig
    terms = TERMS
    term_inputs = INPUTS
    other_losses = {  # noqa: RUF012
        "adversarial": "The adversary's.",
        **{name: term.meaning for name, term in KEYPOINT_TERMS.items()},
    }
    logged = {**other_losses, **OF_SOURCE, **ADVERSARIAL}  # noqa: RUF012

    def begin(self) -> None:
        if start := self.config.init_from:
            warm_start(start, self.modules, FIXED)
            check_face_model(start, self.config.model)
            present = warm_start_if_present(start, self.modules, ("htbsr", "discriminator"))
            if "htbsr" not in present:
                start_from_superresolution(self.decoder, start)

    @property
    def composed(self) -> bool:
        return self.config.targets == "composed"

    @property
    def decoder(self) -> HTBSR:
        """HTB-SR, the module that is trained."""
        return cast(HTBSR, self.model.decoder)

    def optimizers(self) -> list[OptimizerSpec]:
        return image_stage_optimizers(self.modules, ("htbsr",), self.config.learning_rates, always)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str, state: StepState) -> dict[str, Tensor]:
        frames = self.frames(batch)
        if self.adversary is not None and optimizer == "discriminator":
            if step < self.config.start_adversarial - self.config.discriminator_lead:
                return {}
            real = replace(frames.target.head_view(self.model.neural_resolution), image=frames.target.image)
            return self.adversary.discriminator_losses(state.cache["fakes"], [real], step, state)
        output = self.reenacted(frames, frames.target, state.generator)
        terms = weighted_terms(TERMS, self.config.loss, self.inputs(output, frames.target), state)
        weight = self.config.loss.get("adversarial", 0.0) if step >= self.config.start_adversarial else 0.0
        terms |= adversarial_terms(self.adversary, output, frames.target.camera, weight, state)
        terms |= self.keypoint_losses(frames, state)
        if step % self.config.self_reenactment_every == 0:
            again = self.reenacted(frames, frames.source, state.generator)
            terms |= weighted_terms(TERMS, self.config.loss, self.inputs(again, frames.source), state, "source_")
        return terms

    def reenacted(self, frames: FrameBatch, frame: Frame, generator: torch.Generator | None = None) -> PortraitOutput:
        """Reenact the source as the source frame or the target frame; the modules of the head get no gradients."""
        photo = frames.photo_with_surroundings(self.decoder, self.config.background == "inpainted")
        with torch.no_grad():
            planes = self.model.canonical_planes(photo)
        source = Source(planes, self.decoder.encode(photo))
        return self.model(source, frames.driving_with_keypoints(frame, self.decoder), generator)

    def keypoint_losses(self, frames: FrameBatch, state: StepState) -> dict[str, Tensor]:
        """Weighted losses that regularise learned key points on the target frame; empty without such weights."""
        if max(self.config.loss.get(name, 0.0) for name in KEYPOINT_TERMS) == 0:
            return {}
        image, decoder = frames.target.image, self.decoder
        matrices = random_affine(len(image), state.generator).to(image)
        return weighted_terms(
            KEYPOINT_TERMS,
            self.config.loss,
            {
                "points": lambda: frames.keypoints(frames.target, decoder),
                "matrices": lambda: matrices,
                "moved_points": lambda: decoder.torso_model.keypoint_detector(transformed(image, matrices)),
            },
            state,
        )

    def inputs(self, output: PortraitOutput, frame: Frame) -> Inputs:
        """The inputs of the losses of the source frame or the target frame."""
        htbsr = cast(HTBSROutput, output.decoded)
        half = htbsr.torso_image.shape[-1]

        def mask_half(parts: tuple[int, ...]) -> Tensor:
            return losses.resize_mask(frame.mask(parts), half)

        return {
            **frame.fields(self.config.data.fields),
            "image": lambda: output.image,
            "target": lambda: frame.image,
            "near_torso": lambda: dilated(frame.mask(TORSO_CLASSES)),
            "lip_boxes": lambda: frame.lip_boxes,
            "torso_alpha": lambda: htbsr.occlusion_2,
            "feature_occlusion": lambda: htbsr.occlusion,
            "torso_image": lambda: htbsr.torso_image,
            "target_half": lambda: resize(frame.image, half),
            "torso_half": lambda: mask_half(TORSO_CLASSES),
            "head_half": lambda: mask_half(HEAD_CLASSES),
            "network": lambda: self.frozen["perceptual"],
        }

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        frames = self.frames(batch)
        image, target = self.reenacted(frames, frames.target).image, frames.target.image
        return {
            "psnr": psnr(image, target),
            "lips_l1": losses.lip_l1(image, target, frames.target.lip_boxes),
            "psnr_of_the_source": psnr(frames.source.image, target),
            **self.perceptual(image, target),
        }

    def pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        frames = self.frames(batch)
        output = self.reenacted(frames, frames.target)
        htbsr = cast(HTBSROutput, output.decoded)
        rows = {
            "photo": frames.source.image,
            "truth": frames.target.image,
            f"output, PSNR {float(psnr(output.image, frames.target.image)):.1f} dB": output.image,
            "raw render of the head": output.image_raw,
            "torso of the network": htbsr.torso_image,
            "torso of the photo, continued": to_float(batch["torso"]),
            "where the torso covers": 2 * htbsr.occlusion_2 - 1,
        }
        return {"source_target_output": captioned(rows)}

    def video_columns(self, batch: dict[str, Tensor]) -> list[Tensor]:
        """Source, driving PNCC, prediction and target of one frame."""
        frames = self.frames(batch)
        output = self.reenacted(frames, frames.target)
        return [frames.source.image, *frames.pncc(TARGET), output.image, frames.target.image]


def start_from_superresolution(htbsr: HTBSR, path: str) -> None:
    """Initialise block0 and block1 with the super-resolution of a stage-2 checkpoint; the rest stays as it is.

    Raises:
        UserError: there is no such checkpoint.
    """
    folder = source_of(path, "superresolution")
    if folder is None:
        raise UserError(f"init_from is {path}, which has neither htbsr nor a superresolution to begin it with")
    state = load_state(folder, "superresolution")
    for name in BLOCKS:
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        getattr(htbsr, name).load_state_dict(part)
