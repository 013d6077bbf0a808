"""Convolution blocks of the torso model (face-vid2vid): plain, pre-activated, residual, down, up, spectral norm.

Two- and three-dimensional versions share the code; names of the stored tensors follow the published checkpoints.
See docs/spec/sr_torso_eg3d.md#3-1.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modules.layers.precision import full_precision


class VolumeConv(nn.Conv3d):
    """Same-size 3-D convolution [B, I, D, H, W] -> [B, O, D, H, W] with an odd cubic kernel.

    On the CPU, where 3-D convolutions of few channels are slow, it runs as one 2-D convolution per depth over the
    stacked neighbouring slices; the result is the same.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return volume_conv(x, self.weight, self.bias)


def volume_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.conv3d` with padding that keeps the size: x [B, I, D, H, W], weight [O, I, k, k, k] -> [B, O, D, H, W]."""
    kernel = weight.shape[-1]
    if x.device.type != "cpu" or kernel > 3:
        return F.conv3d(x, weight, bias, padding=kernel // 2)
    batch, _, depth, _, _ = x.shape
    padded = F.pad(x, (0, 0, 0, 0, kernel // 2, kernel // 2))
    slices = torch.cat([padded[:, :, offset : offset + depth] for offset in range(kernel)], dim=1)
    flat = rearrange(slices, "b c d h w -> (b d) c h w")
    x = F.conv2d(flat, rearrange(weight, "o i k m n -> o (k i) m n"), bias, padding=kernel // 2)
    return rearrange(x, "(b d) c h w -> b c d h w", b=batch)


def depth_constant_conv(image: Tensor, weight: Tensor, depth: int) -> Tensor:
    """`volume_conv` of an image that is repeated along depth, without the repetition.

    Every slice sees a 2-D convolution whose kernel is the sum of the depth taps that fall inside the volume.

    Args:
        image: [B, I, H, W].
        weight: [O, I, k, k, k].
        depth: D, slices of the volume.
    Returns:
        [B, O, D, H, W].
    """
    kernel = weight.shape[2]
    radius = kernel // 2
    taps = [(max(0, radius - d), min(kernel, depth + radius - d)) for d in range(depth)]
    distinct = sorted(set(taps))
    kernels = torch.stack([weight[:, :, first:last].sum(dim=2) for first, last in distinct])
    slices = F.conv2d(image, rearrange(kernels, "n o i k m -> (n o) i k m"), padding=radius)
    slices = rearrange(slices, "b (n o) h w -> b o n h w", n=len(distinct))
    return slices[:, :, [distinct.index(span) for span in taps]]


class SpectralConv(nn.Module):
    """2-D convolution whose weight is divided by its largest singular value, estimated by power iteration.

    In training each forward makes one iteration; in eval the stored vectors are used as they are.
    """

    weight_u: Tensor  # [O], left singular vector of the weight as a matrix [O, I*k*k]
    weight_v: Tensor  # [I*k*k], right singular vector

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.padding = kernel_size // 2
        self.weight_orig, self.bias = nn.Conv2d(in_channels, out_channels, kernel_size).parameters()
        matrix = self.weight_orig.detach().flatten(1)
        u = F.normalize(torch.randn(matrix.shape[0]), dim=0, eps=1e-12)
        v = F.normalize(matrix.t() @ u, dim=0, eps=1e-12)
        self.register_buffer("weight_u", F.normalize(matrix @ v, dim=0, eps=1e-12))
        self.register_buffer("weight_v", v)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self._weight().to(x.dtype), self.bias.to(x.dtype), padding=self.padding)

    def plain(self) -> nn.Conv2d:
        """The convolution that this one is in eval mode."""
        out_channels, in_channels, kernel_size, _ = self.weight_orig.shape
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=self.padding, device=self.bias.device)
        conv.weight, conv.bias = nn.Parameter(self._weight().detach()), nn.Parameter(self.bias.detach())
        return conv

    @full_precision()  # in bfloat16 an iteration loses what the one before has found
    def _weight(self) -> Tensor:
        """The weight over its largest singular value."""
        matrix = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                v = F.normalize(matrix.t() @ self.weight_u, dim=0, eps=1e-12)
                u = F.normalize(matrix @ v, dim=0, eps=1e-12)
                self.weight_v.copy_(v)
                self.weight_u.copy_(u)
        else:
            u, v = self.weight_u, self.weight_v
        sigma = (u * (matrix * v).sum(dim=1)).sum()
        return self.weight_orig / sigma


def _conv(in_channels: int, out_channels: int, kernel_size: int, dims: int) -> nn.Module:
    if dims == 3:
        return VolumeConv(in_channels, out_channels, kernel_size)
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def _norm(channels: int, dims: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if dims == 3 else nn.BatchNorm2d(channels)


class ConvNormAct(nn.Module):
    """Convolution, batch norm, ReLU (leaky with `slope` above 0)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        dims: int = 2,
        spectral: bool = False,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        conv = (
            SpectralConv(in_channels, out_channels, kernel_size)
            if spectral
            else _conv(in_channels, out_channels, kernel_size, dims)
        )
        activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(conv, _norm(out_channels, dims), activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class NormActConv(nn.Module):
    """Batch norm, ReLU, 3-wide convolution; as many channels out as in."""

    def __init__(self, channels: int, *, dims: int = 2, spectral: bool = False) -> None:
        super().__init__()
        conv = SpectralConv(channels, channels, 3) if spectral else _conv(channels, channels, 3, dims)
        self.layers = nn.Sequential(_norm(channels, dims), nn.ReLU(inplace=True), conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResidualBlock(nn.Module):
    """x + NormActConv(NormActConv(x)), nothing after the sum."""

    def __init__(self, channels: int, *, dims: int = 2, spectral: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[NormActConv(channels, dims=dims, spectral=spectral) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SlicePool(nn.Module):
    """2x2 averages of every depth slice: [B, C, D, H, W] -> [B, C, D, H/2, W/2]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


class DownBlock(nn.Module):
    """ConvNormAct, then 2x2 averages; a volume keeps its depth."""

    def __init__(self, in_channels: int, out_channels: int, *, dims: int = 2) -> None:
        super().__init__()
        pool = SlicePool() if dims == 3 else nn.AvgPool2d(2)
        self.layers = nn.Sequential(ConvNormAct(in_channels, out_channels, dims=dims), pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class UpBlock(nn.Module):
    """Nearest up-sampling by 2 (a volume keeps its depth), then ConvNormAct."""

    def __init__(self, in_channels: int, out_channels: int, *, dims: int = 2, spectral: bool = False) -> None:
        super().__init__()
        grow = nn.Upsample(scale_factor=(1, 2, 2) if dims == 3 else (2, 2), mode="nearest")
        self.layers = nn.Sequential(grow, ConvNormAct(in_channels, out_channels, dims=dims, spectral=spectral))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
