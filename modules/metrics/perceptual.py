"""LPIPS with weights from files: the package brings the calibration, torchvision's file the trunk."""

import warnings
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor, nn

from modules.system.checkpoint import misfits


class PerceptualDistance(nn.Module):
    """Learned perceptual image patch similarity (Zhang and others, 2018), version 0.1, over an AlexNet or a VGG16.

    0 or more, lower is better; images are taken to [-1, 1] as the package wants. "LPIPS" without a word is AlexNet's.
    """

    def __init__(self, lpips: ModuleType, trunk: str) -> None:
        """The calibrated distance over a random trunk.

        Args:
            lpips: the package of that name.
            trunk: "alex" or "vgg".
        """
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package asks torchvision in words that are going out of use
            self.network = lpips.LPIPS(net=trunk, pnet_rand=True, spatial=True, verbose=False)
        self.requires_grad_(False).eval()

    def load_trunk(self, state: Mapping[str, Tensor]) -> str:
        """Load the trunk of torchvision's AlexNet or VGG16; says what does not fit, empty if all does."""
        own = {name: f"features.{name.partition('.')[2]}" for name in self.network.net.state_dict()}
        found = {name: state[source] for name, source in own.items() if source in state}
        problems = misfits(found, self.network.net.state_dict())
        if not problems:
            self.network.net.load_state_dict(found)
        return problems

    @torch.no_grad()
    def forward(self, made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
        """Distance of each pair.

        Args:
            made, truth: [B, 3, H, W] in [0, 1], at least 64 pixels a side.
            mask: [B, 1, H, W]; the distances of all layers, enlarged to the picture, are averaged over it. What lies
                beyond it still counts within a feature's field of view.
        Returns:
            [B]
        """
        map_ = self.network(made.float(), truth.float(), normalize=True)  # [B, 1, H, W]
        weights = torch.ones_like(map_) if mask is None else mask.to(map_)
        return (map_ * weights).flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1)
