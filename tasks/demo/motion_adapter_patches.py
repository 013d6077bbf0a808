"""Stage 2 of the demo: patches of the raw render alone; super-resolution is trained in stage 3. Not in the paper."""

from dataclasses import dataclass

from torch import Tensor

from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.layers.resample import resize
from modules.portrait.real3d_portrait import PortraitOutput
from tasks.demo.patches import PATCH_INPUTS, PATCH_TERMS, PatchConfig, patch_losses, sample_patches
from tasks.engine.registry import register
from tasks.engine.task import StepState
from tasks.stages.motion_adapter import PLANE_LOSSES, MotionAdapterTask, MotionAdapterTaskConfig
from tasks.stages.terms import check_weights


@dataclass(frozen=True, kw_only=True)
class MotionAdapterPatchesConfig(MotionAdapterTaskConfig):
    """Stage 2 by patches."""

    patches: PatchConfig = PatchConfig()

    def check_losses(self) -> None:
        """Raises ValueError: a weight would have no effect."""
        check_weights(self.loss, PATCH_TERMS, PATCH_INPUTS, PLANE_LOSSES)


@register("motion_adapter_patches")
class MotionAdapterPatchesTask(MotionAdapterTask):
    """Frame pairs -> motion adapter, image-to-plane network and decoder."""

    config_class = MotionAdapterPatchesConfig

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str,
                      state: StepState) -> dict[str, Tensor]:
        """Losses of random patches of the target frame, or of the source now and then, and of the planes."""
        frames = self.frames(batch)
        frame = frames.source if step % self.config.self_reenactment_every == 0 else frames.target
        planes, _ = self.model.drive(self.model.canonical_planes(frames.photo()), frames.driving(frame).pncc)
        target, head = frame.head_view(self.model.neural_resolution), frame.mask(HEAD_CLASSES)
        patches = sample_patches(self.config.patches, head, state.generator, frame.mouth)
        terms = patch_losses(self.config.loss, patches, self.model, planes, target, head, state.generator)
        return terms | self.plane_losses(planes, frames, step, state)

    def best_prediction(self, output: PortraitOutput, target: Tensor) -> Tensor:
        """The raw render, at the target's size: super-resolution is not trained."""
        return resize(output.image_raw, target.shape[-1])
