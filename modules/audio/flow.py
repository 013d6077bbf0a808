"""Gated convolutions and the mean-only coupling flow, the prior of the motion VAE (paper, audio-to-motion).

See docs/spec/audio2motion.md#2-4, #2-7.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WeightNormConv1d(nn.Module):
    """1-D convolution, "same" padding, weight = weight_g weight_v / |weight_v| (norm over inputs and taps)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; it must be odd")
        plain = nn.Conv1d(inputs, outputs, kernel)
        self.padding = kernel // 2
        self.weight_g = nn.Parameter(torch.linalg.vector_norm(plain.weight.detach(), dim=(1, 2), keepdim=True))
        self.weight_v = nn.Parameter(plain.weight.detach().clone())
        self.bias = nn.Parameter(plain.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, T] -> [B, outputs, T]."""
        norm = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
        return F.conv1d(x, self.weight_v * (self.weight_g / norm), self.bias, padding=self.padding)


class GatedConvolutions(nn.Module):
    """Residual stack of tanh x sigmoid gated convolutions under a condition, dilation 1.

    See docs/spec/audio2motion.md#2-4.
    """

    def __init__(self, width: int, kernel: int, layers: int, condition_size: int) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.in_layers = nn.ModuleList(WeightNormConv1d(width, 2 * width, kernel) for _ in range(layers))
        self.res_skip_layers = nn.ModuleList(
            WeightNormConv1d(width, width if i == layers - 1 else 2 * width, 1) for i in range(layers)
        )
        self.cond_layer = WeightNormConv1d(condition_size, 2 * width * layers, 1)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """x [B, H, T], mask [B, 1, T], condition [B, G, T] -> [B, H, T], masked."""
        conditions = self.cond_layer(condition).chunk(self.layers, dim=1)  # each [B, 2H, T]
        output = torch.zeros_like(x)
        for i in range(self.layers):
            filtered, gate = (self.in_layers[i](x) + conditions[i]).chunk(2, dim=1)
            change = self.res_skip_layers[i](torch.tanh(filtered) * torch.sigmoid(gate))
            if i == self.layers - 1:
                output = output + change
            else:
                residual, skip = change.chunk(2, dim=1)
                x, output = (x + residual) * mask, output + skip
        return output * mask


class Coupling(nn.Module):
    """x0, x1 -> x0, x1 + m(x0, condition): volume preserving; the identity at initialisation.

    See docs/spec/audio2motion.md#2-7.
    """

    def __init__(self, channels: int, width: int, kernel: int, layers: int, condition_size: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"the flow needs an even number of channels, got {channels}")
        self.pre = nn.Conv1d(channels // 2, width, 1)
        self.enc = GatedConvolutions(width, kernel, layers, condition_size)
        self.post = nn.Conv1d(width, channels // 2, 1)
        nn.init.zeros_(self.post.weight)
        nn.init.zeros_(self.post.bias)

    def _shift(self, x0: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        return self.post(self.enc(self.pre(x0) * mask, mask, condition)) * mask

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """x [B, C, T], mask [B, 1, T], condition [B, G, T] -> [B, C, T]; the first half is never masked."""
        x0, x1 = x.chunk(2, dim=1)
        return torch.cat([x0, self._shift(x0, mask, condition) + x1 * mask], dim=1)

    def inverse(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Inverse of `forward` on real frames: x [B, C, T] -> [B, C, T]."""
        x0, x1 = x.chunk(2, dim=1)
        return torch.cat([x0, (x1 - self._shift(x0, mask, condition)) * mask], dim=1)


class Flip(nn.Module):
    """Reverses the order of the channels; its own inverse."""

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """x [B, C, T] -> [B, C, T]; mask and condition are not used."""
        return x.flip(1)

    inverse = forward


class CouplingFlow(nn.Module):
    """Couplings with flips between them: forward maps posterior samples to the prior's space.

    See docs/spec/audio2motion.md#2-7.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        layers: int,
        couplings: int,
        condition_size: int,
    ) -> None:
        super().__init__()
        self.flows = nn.ModuleList()
        for _ in range(couplings):
            self.flows.extend([Coupling(channels, width, kernel, layers, condition_size), Flip()])

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Posterior sample [B, C, T] -> the same in the prior's space; mask [B, 1, T], condition [B, G, T]."""
        for flow in self.flows:
            x = flow(x, mask, condition)
        return x

    def inverse(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """Prior noise [B, C, T] -> latent [B, C, T]; mask [B, 1, T], condition [B, G, T]."""
        for flow in reversed(self.flows):
            x = flow.inverse(x, mask, condition)
        return x
