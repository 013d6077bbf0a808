"""What no frame changes, folded into weights: constant styles, gains, up-sampling phases, batch norms, spectral norms.

Each class here gives what the layer it is made from gives in eval mode, for less work. Made for inference: there are no
styles, no noise and no gradients to the layer's own parameters any more.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from modules.layers.stylegan import (
    ACTIVATION_GAINS,
    SynthesisBlock,
    SynthesisLayer,
    ToRGB,
    convolution_weight,
    phase_weight,
    upsample_2x,
)


class FoldedSynthesisLayer(nn.Module):
    """`SynthesisLayer` or `ToRGB` for styles of ones, without noise: one plain convolution.

    Leaky ReLU is proportional, so that the gain behind it goes into weight and bias.
    """

    def __init__(self, layer: SynthesisLayer | ToRGB) -> None:
        super().__init__()
        self.activated = isinstance(layer, SynthesisLayer)
        self.up = layer.up if isinstance(layer, SynthesisLayer) else 1
        self.clamp = layer.clamp
        styles = layer.affine(layer.weight.new_ones(1, layer.affine.weight.shape[1]))
        if not self.activated:
            styles = styles / math.sqrt(layer.weight.shape[1])
        gain = ACTIVATION_GAINS["lrelu" if self.activated else "linear"]
        weight = gain * convolution_weight(layer.weight, styles[0], demodulate=self.activated)
        bias = gain * layer.bias
        if self.up == 2:
            weight, bias = phase_weight(weight), bias.repeat_interleave(4)
        self.weight, self.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        x = F.pixel_shuffle(x, 2) if self.up == 2 else x
        x = F.leaky_relu(x, 0.2, inplace=True) if self.activated else x
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class FoldedSynthesisBlock(nn.Module):
    """`SynthesisBlock` with features as input, for styles of ones and without noise."""

    def __init__(self, block: SynthesisBlock) -> None:
        super().__init__()
        self.up = block.config.up
        self.conv0, self.conv1 = FoldedSynthesisLayer(block.conv0), FoldedSynthesisLayer(block.conv1)
        self.torgb = FoldedSynthesisLayer(block.torgb)

    def forward(
        self, x: Tensor, image: Tensor | None, ws: Tensor | None = None, noise: str = "none", generator: object = None
    ) -> tuple[Tensor, Tensor]:
        """As `SynthesisBlock.forward`. Raises ValueError: styles or noise are given."""
        if ws is not None or noise != "none":
            raise ValueError("a block that is prepared for inference has constant styles and no noise")
        x = self.conv1(self.conv0(x))
        rgb = self.torgb(x)
        if image is None:
            return x, rgb
        return x, (upsample_2x(image) if self.up else image).to(rgb.dtype) + rgb


@torch.no_grad()
def fold_norm(conv: nn.Conv2d | nn.Conv3d, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> None:
    """Put a batch norm in eval mode behind a convolution into its weight and bias (float32); the norm is then idle.

    Raises:
        ValueError: the norm keeps no statistics.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
