"""Stage 1 of the demo, not in the paper: losses of patches of the raw render; stage 3 trains super-resolution."""

from dataclasses import dataclass

from torch import Tensor

from modules.metrics.image import psnr
from modules.portrait.discriminator import DualView
from modules.portrait.real3d_portrait import PortraitOutput
from tasks.demo.patches import PATCH_INPUTS, PatchConfig, patch_inputs, patch_terms, sample_patches
from tasks.engine.registry import register
from tasks.engine.task import StepState
from tasks.stages import i2p
from tasks.stages.i2p import IMAGE_ERRORS, VIEWS, VIEWS_LOGGED, I2PConfig, I2PTask, photo_of
from tasks.stages.terms import check_weights, weighted_terms

TERMS = patch_terms(i2p.TERMS)


@dataclass(frozen=True, kw_only=True)
class I2PPatchesConfig(I2PConfig):
    """Stage 1 trained on patches."""

    patches: PatchConfig = PatchConfig()

    def check_losses(self) -> None:
        """Refuse weights without an effect, and a teacher without masks.

        Raises:
            ValueError: one of them is configured.
        """
        if self.teacher == "eg3d":
            raise ValueError("patches need the head masks of the procedural teacher; set teacher to procedural")
        check_weights(self.loss, i2p.TERMS | TERMS, PATCH_INPUTS)


@register("i2p_patches")
class I2PPatchesTask(I2PTask):
    """Train the image-to-plane network and the decoder on patches of the teacher's views."""

    config_class = I2PPatchesConfig
    terms = TERMS
    term_inputs = PATCH_INPUTS
    other_losses = {}  # noqa: RUF012
    logged = VIEWS_LOGGED
    order = ("generator",)

    def training_step(self, batch: dict[str, Tensor], step: int, optimizer: str, state: StepState) -> dict[str, Tensor]:
        """Losses of patches of the reference and the target view; both use the same planes, which cost the most."""
        teacher = self.teacher_batch(batch)
        planes, terms = self.model.canonical_planes(photo_of(teacher.views[0])), {}
        error = IMAGE_ERRORS[self.config.image_error]
        for name, view, mask in zip(VIEWS, teacher.views, teacher.masks):
            patches = sample_patches(self.config.patches, mask, state.generator)
            inputs = patch_inputs(patches, self.model, planes, view, mask, state.generator, error)
            terms |= weighted_terms(TERMS, self.config.loss, inputs, state, f"{name}_")
        return terms

    def shown(self, name: str, output: PortraitOutput, view: DualView) -> dict[str, Tensor]:
        """The raw render, as super-resolution is not trained."""
        return {f"{name}, raw render, PSNR {float(self.view_psnr(output, view)):.1f} dB": output.image_raw}

    def view_psnr(self, output: PortraitOutput, view: DualView) -> Tensor:
        """PSNR of the raw render, as super-resolution is not trained."""
        return psnr(output.image_raw, view.image_raw)
