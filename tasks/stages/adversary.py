"""The adversarial part of an image stage: the dual discriminator, the losses of both sides, the R1 penalty.

See the paper, image-to-plane model ("dual adversarial"), and docs/spec/training.md#2-4.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modules.losses.image import adversarial_fake, adversarial_real, gradient_penalty
from modules.portrait.discriminator import DualDiscriminator, DualDiscriminatorConfig, DualView
from tasks.engine.task import StepState

ADVERSARIAL = {  # names in the log
    "adversarial": "The adversary's: how little a generated view passes for a real one.",
    "fake_K": "The discriminator's own: how much the generated view K passes for a real one.",
    "real_K": "The discriminator's own: how little the real view K does.",
    "gradient_penalty_K": "R1 penalty of the discriminator: squared gradient of its verdict on the real view K.",
}
R1_EVERY = 16  # steps; learning rate and betas of the discriminator assume it (learning_rates.LAZY_R1)


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """The discriminator and the weight of its R1 penalty."""

    discriminator: DualDiscriminatorConfig | None = None  # None: the released widths at the model's image size
    gradient_penalty: float = 5.0  # weight of the R1 penalty


class Adversary(nn.Module):
    """The discriminator and the losses of both sides."""

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminator = DualDiscriminator(config.discriminator or DualDiscriminatorConfig())

    def generator_loss(self, view: DualView, generator: torch.Generator) -> Tensor:
        """Non-saturating loss of a generated view: softplus of the negated logits, mean over the batch."""
        return adversarial_real(self._logits(view, generator))

    def discriminator_losses(
        self, fakes: Iterable[DualView], reals: Iterable[DualView], step: int, state: StepState
    ) -> dict[str, Tensor]:
        """Weighted losses of the discriminator, with the R1 penalty of the real views every `R1_EVERY` steps.

        A pass with the penalty is float32 whatever autocast says: bf16 rounds the gradient that is squared, and some
        processors cannot differentiate it once more (PyTorch dies of SIGFPE).
        """
        terms: dict[str, Tensor] = {}
        for number, view in enumerate(fakes):
            logits = self._logits(view.detach(), state.generator)
            terms |= state.weigh(f"fake_{number}", 1.0, adversarial_fake(logits))
        penalised = (step + 1) % R1_EVERY == 0
        for number, view in enumerate(reals):
            if not penalised:
                logits = self._logits(view.detach(), state.generator)
                terms |= state.weigh(f"real_{number}", 1.0, adversarial_real(logits))
                continue
            with torch.autocast(view.image.device.type, enabled=False):
                image, raw = (part.detach().float().requires_grad_() for part in (view.image, view.image_raw))
                logits = self._logits(DualView(image, raw, view.camera), state.generator)
                terms |= state.weigh(f"real_{number}", 1.0, adversarial_real(logits))
                weight, penalty = self.config.gradient_penalty * R1_EVERY, gradient_penalty(logits, (image, raw))
                terms |= state.weigh(f"gradient_penalty_{number}", weight, penalty)
        return terms

    def _logits(self, view: DualView, generator: torch.Generator) -> Tensor:
        return self.discriminator(view.image, view.image_raw, view.camera.vector(), generator)
