"""Stage 2 of the demo, not in the paper: losses of patches of the raw render; stage 3 trains super-resolution."""

from dataclasses import dataclass

from torch import Tensor

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.layers.resample import resize
from modules.portrait.real3d_portrait import PortraitOutput
from tasks.demo.patches import PATCH_INPUTS, PatchConfig, patch_inputs, patch_terms, sample_patches
from tasks.engine.registry import register
from tasks.engine.task import StepState
from tasks.stages import motion_adapter
from tasks.stages.motion_adapter import PLANE_LOSSES, TUNED_LOSSES, MotionAdapterTask, MotionAdapterTaskConfig
from tasks.stages.terms import check_weights, weighted_terms

TERMS = patch_terms(motion_adapter.TERMS)


@dataclass(frozen=True, kw_only=True)
class MotionAdapterPatchesConfig(MotionAdapterTaskConfig):
    """Stage 2 trained on patches."""

    patches: PatchConfig = PatchConfig()

    def check_losses(self) -> None:
        """Refuse weights without an effect.

        Raises:
            ValueError: there is one.
        """
        check_weights(self.loss, motion_adapter.TERMS | TERMS, PATCH_INPUTS, PLANE_LOSSES, self.data.fields)


@register("motion_adapter_patches")
class MotionAdapterPatchesTask(MotionAdapterTask):
    """Train motion adapter, image-to-plane network and decoder on patches of frame pairs."""

    config_class = MotionAdapterPatchesConfig
    terms = TERMS
    term_inputs = PATCH_INPUTS
    whole_pictures = False
    other_losses = PLANE_LOSSES
    logged = {**PLANE_LOSSES, **TUNED_LOSSES}  # noqa: RUF012

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str, state: StepState) -> dict[str, Tensor]:
        """Losses of random patches and of the planes; every `self_reenactment_every` steps the source is the target."""
        frames = self.frames(batch)
        frame = frames.source if step % self.config.self_reenactment_every == 0 else frames.target
        planes, _ = self.model.drive(self.model.canonical_planes(frames.photo()), frames.driving(frame).pncc)
        target, head = frame.head_view(self.model.neural_resolution), frame.mask(HEAD_CLASSES)
        patches = sample_patches(self.config.patches, head, state.generator, frame.mouth)
        inputs = {
            **frame.fields(self.config.data.fields, repeats=patches.count),
            **patch_inputs(patches, self.model, planes, target, head, state.generator),
        }
        terms = weighted_terms(TERMS, self.config.loss, inputs, state)
        return terms | self.plane_losses(planes, frames, step, state)

    def best_prediction(self, output: PortraitOutput, target: Tensor) -> Tensor:
        """The raw render at the target's size, as super-resolution is not trained."""
        return resize(output.image_raw, target.shape[-1])
