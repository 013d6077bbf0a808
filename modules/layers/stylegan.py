"""Building blocks of StyleGAN2: equalised layers, FIR resampling, modulated convolution, synthesis blocks, mapping.

Weights are stored un-scaled (equalised learning rate, Karras et al. 2018) and scaled when used. Layer names and the
stored tensors follow the published checkpoints; the FIR kernel is a constant and is not stored.
See docs/spec/sr_torso_eg3d.md#1.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from modules.layers.precision import full_precision

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
ACTIVATION_GAINS = {"linear": 1.0, "lrelu": math.sqrt(2.0)}
NOISE_MODES = ("none", "const", "random")


# ------------------------------------------------------------------------------------------------ pure functions


def fir_filter(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Correlates every channel of x [B, C, H, W] with the 4x4 binomial kernel (sum `gain`) after zero padding.

    Returns [B, C, H + 2*padding - 3, W + 2*padding - 3].
    """
    taps = torch.tensor(FIR_TAPS, device=x.device, dtype=x.dtype) / sum(FIR_TAPS)
    kernel = torch.outer(taps, taps) * gain
    channels = x.shape[1]
    return F.conv2d(x, kernel.expand(channels, 1, 4, 4), padding=padding, groups=channels)


def upsample_2x(image: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, 2H, 2W]: zero insertion and the FIR kernel, zeros outside.

    The polyphase form of that kernel is (1, 3)/4 and (3, 1)/4: bilinear interpolation of the zero-padded image.
    """
    padded = F.interpolate(F.pad(image, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    return padded[..., 2:-2, 2:-2]


def downsample_2x(image: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H/2, W/2]: the FIR kernel, then every second row and column."""
    return fir_filter(image, padding=1)[..., ::2, ::2]


def bias_activation(
    x: Tensor, bias: Tensor | None, activation: str = "linear", gain: float = 1.0, clamp: float | None = None
) -> Tensor:
    """Bias, activation, gain, clamp, in this order, on [B, C, ...].

    Args:
        activation: "linear" or "lrelu" (slope 0.2, default gain sqrt 2).
        gain: multiplies the activation's default gain and the clamp.
        clamp: result is limited to +-clamp * gain; None: not limited.
    """
    if bias is not None:
        x = x + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
    total = ACTIVATION_GAINS[activation] * gain
    if activation == "lrelu":
        x = F.leaky_relu(x, 0.2).mul_(total)  # in place: a fresh tensor
    elif total != 1.0:
        x = x * total
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def modulated_conv(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    demodulate: bool = True,
    up: int = 1,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolution whose input channels are scaled by styles (StyleGAN2, section 2.2).

    Args:
        x: [B, I, H, W].
        weight: [O, I, k, k].
        styles: [B, I], or [1, I] when all samples share a style; then the style is folded into the weight.
        demodulate: scale every output filter to unit norm.
        up: 1, a correlation; 2, a transposed convolution with stride 2 followed by the FIR kernel.
        noise: added to the result, broadcastable to it.
        bias: [O], added last.
    Returns:
        [B, O, up*H, up*W].
    """
    styles = styles.to(torch.promote_types(styles.dtype, torch.float32))
    bias = None if bias is None else bias.to(x.dtype)
    if styles.shape[0] == 1:
        x = _convolve(x, convolution_weight(weight, styles[0], demodulate).to(x.dtype), bias, up)
    else:
        scale = _demodulation(weight, styles) if demodulate else None
        x = _convolve(x * styles[:, :, None, None].to(x.dtype), weight.to(x.dtype), None, up)
        x = x if scale is None else x * scale[:, :, None, None].to(x.dtype)
        x = x if bias is None else x + bias[:, None, None]
    return x if noise is None else x + noise.to(x.dtype)


def convolution_weight(weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """The weight [O, I, k, k] of a plain convolution that equals a modulated one with styles [I] for all samples."""
    modulated = weight * styles[None, :, None, None]
    return modulated * _demodulation(weight, styles[None])[0, :, None, None, None] if demodulate else modulated


def _demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """What brings every output filter [O] of modulated weights to unit norm: [B, O] of styles [B, I]."""
    energy = weight.to(styles.dtype).square().sum(dim=(2, 3))  # [O, I]
    return torch.rsqrt(styles.square() @ energy.t() + 1e-8)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, up: int) -> Tensor:
    """Shared weights [O, I, k, k]; up 2 convolves (kernel not flipped), so it mirrors the kernel of up 1."""
    if up == 1:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return convolve_up_phases(x, weight, bias) if x.device.type == "cpu" else convolve_up(x, weight, bias)


def convolve_up(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution with stride 2, then the FIR kernel: [B, I, H, W], [O, I, 3, 3] -> [B, O, 2H, 2W]."""
    x = fir_filter(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)
    return x if bias is None else x + bias[:, None, None]


def convolve_up_phases(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`convolve_up` as one 3x3 convolution to the four output phases; faster on a CPU."""
    bias = None if bias is None else repeat(bias, "o -> (o n)", n=4)
    return F.pixel_shuffle(F.conv2d(x, phase_weight(weight), bias, padding=1), 2)


def phase_weight(weight: Tensor) -> Tensor:
    """The weight [4 O, I, 3, 3] of the convolution in `convolve_up_phases`, from [O, I, 3, 3].

    Kernel and FIR make one 6x6 kernel e; output 2a+p is the sum over s in {-1, 0, 1} of x[a+s] e[p-2s].
    """
    out_channels, in_channels = weight.shape[:2]
    kernel = fir_filter(weight.reshape(-1, 1, 3, 3), padding=3, gain=4.0)  # [O*I, 1, 6, 6]
    phases = rearrange(kernel, "(o i) 1 (h p) (w q) -> (o p q) i h w", o=out_channels, i=in_channels, p=2, q=2)
    return phases.flip(2, 3)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Rows of [B, N] scaled to unit mean square."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


# ------------------------------------------------------------------------------------------------------- layers


class FullyConnected(nn.Module):
    """Equalised linear layer: x [..., in] -> activation(x (W m / sqrt in)^T + m b), with learning-rate multiplier m."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation, self.lr_multiplier = activation, lr_multiplier
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init)))

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """x [..., in] -> [..., out]; with `outputs` the first so many alone."""
        weight = self.weight[:outputs] * (self.lr_multiplier / math.sqrt(self.weight.shape[1]))
        x = F.linear(x, weight.to(x.dtype), (self.bias[:outputs] * self.lr_multiplier).to(x.dtype))
        if self.activation == "linear":
            return x
        return F.leaky_relu(x, 0.2) * ACTIVATION_GAINS[self.activation]


class ConvLayer(nn.Module):
    """Equalised convolution [B, I, H, W] -> [B, O, H*up/down, W*up/down] with FIR resampling, activation and clamp.

    up 2 takes a 1x1 kernel; down 2 a 1x1 or 3x3 kernel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        bias: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        if (up, down) not in ((1, 1), (2, 1), (1, 2)) or (up == 2 and kernel_size != 1):
            raise ValueError(f"ConvLayer cannot combine up {up}, down {down} and kernel {kernel_size}")
        self.activation, self.up, self.down, self.clamp = activation, up, down, clamp
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        kernel_size = self.weight.shape[-1]
        weight = (self.weight / math.sqrt(self.weight[0].numel())).to(x.dtype)
        if self.down == 2 and kernel_size == 1:
            x = F.conv2d(downsample_2x(x), weight)
        elif self.down == 2:
            x = F.conv2d(fir_filter(x, padding=kernel_size // 2 + 1), weight, stride=2)
        elif self.up == 2:
            x = upsample_2x(F.conv2d(x, weight))
        else:
            x = F.conv2d(x, weight, padding=kernel_size // 2)
        return bias_activation(x, self.bias, self.activation, gain, self.clamp)


@dataclass(frozen=True, kw_only=True)
class SynthesisBlockConfig:
    """One resolution of a StyleGAN2 generator with skip connections."""

    in_channels: int  # 0: the block starts from a learned constant (and has no conv0)
    out_channels: int
    resolution: int  # pixels a side of the output
    w_dim: int = 512
    image_channels: int = 3
    up: bool = True  # False: same resolution in and out
    clamp: float | None = None  # limit of every layer's output (256 in EG3D); None in the portrait models
    noise: bool = True  # layers own a noise map; released weights do, small models need none

    def __post_init__(self) -> None:
        if self.in_channels < 0 or self.out_channels < 1 or self.resolution < 1:
            raise ValueError(
                f"impossible synthesis block: {self.in_channels} -> {self.out_channels} channels "
                f"at {self.resolution} pixels"
            )


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU. x [B, I, H, W], w [B or 1, w_dim] -> [B, O, R, R]."""

    noise_const: Tensor | None  # [R, R], the stored noise map

    def __init__(self, in_channels: int, up: int, config: SynthesisBlockConfig) -> None:
        super().__init__()
        self.up, self.clamp = up, config.clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(config.out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([])) if config.noise else None
        resolution = config.resolution
        self.register_buffer("noise_const", torch.randn(resolution, resolution) if config.noise else None)

    def forward(self, x: Tensor, w: Tensor, noise: str = "none", generator: torch.Generator | None = None) -> Tensor:
        noise_map = self._noise(x, noise, generator)
        x = modulated_conv(x, self.weight, self.affine(w), up=self.up, noise=noise_map, bias=self.bias)
        return bias_activation(x, None, "lrelu", clamp=self.clamp)

    def _noise(self, x: Tensor, mode: str, generator: torch.Generator | None) -> Tensor | None:
        if mode not in NOISE_MODES:
            raise ValueError(f"noise mode {mode!r}; use one of {', '.join(NOISE_MODES)}")
        if mode == "none" or self.noise_strength is None or self.noise_const is None:
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        size = self.noise_const.shape[-1]
        fresh = torch.randn(x.shape[0], 1, size, size, generator=generator)
        return fresh.to(self.noise_strength) * self.noise_strength


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation: x [B, I, H, W], w [B or 1, w_dim] -> [B, C_image, H, W]."""

    def __init__(self, config: SynthesisBlockConfig) -> None:
        super().__init__()
        self.clamp = config.clamp
        self.weight = nn.Parameter(torch.randn(config.image_channels, config.out_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.image_channels))
        self.affine = FullyConnected(config.w_dim, config.out_channels, bias_init=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) / math.sqrt(self.weight.shape[1])
        x = modulated_conv(x, self.weight, styles, demodulate=False, bias=self.bias)
        return bias_activation(x, None, clamp=self.clamp)


class SynthesisBlock(nn.Module):
    """conv0 (up 2 unless config.up is False), conv1, toRGB added to the (upsampled) incoming image."""

    def __init__(self, config: SynthesisBlockConfig) -> None:
        super().__init__()
        self.config = config
        self.num_ws = 3 if config.in_channels else 2
        if config.in_channels:
            self.conv0 = SynthesisLayer(config.in_channels, 2 if config.up else 1, config)
        else:
            self.const = nn.Parameter(torch.randn(config.out_channels, config.resolution, config.resolution))
        self.conv1 = SynthesisLayer(config.out_channels, 1, config)
        self.torgb = ToRGB(config)

    def forward(
        self,
        x: Tensor | None,
        image: Tensor | None,
        ws: Tensor | None = None,
        noise: str = "none",
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features and image at the next resolution.

        Args:
            x: features [B, I, R/2, R/2] (R x R without upsampling); None where the block owns a constant.
            image: image so far [B, C_image, ...] at the size of x, or None.
            ws: [B or 1, num_ws, w_dim]: one w per layer in the order conv0, conv1, torgb; None: all ones, as in
                the portrait models.
            noise: "none", "const" (the stored map) or "random" (drawn from `generator`).
        Returns:
            Features [B, O, R, R] and image [B, C_image, R, R].
        """
        if ws is None:
            ws = self.torgb.bias.new_ones(1, self.num_ws, self.config.w_dim)
        if self.config.in_channels:
            x = self.conv0(x, ws[:, 0], noise, generator)
        else:
            x = repeat(self.const, "c h w -> b c h w", b=ws.shape[0])
        x = self.conv1(x, ws[:, -2], noise, generator)
        rgb = self.torgb(x, ws[:, -1])
        if image is None:
            return x, rgb
        upsampled = upsample_2x(image) if self.config.in_channels and self.config.up else image
        return x, upsampled.to(rgb.dtype) + rgb


@dataclass(frozen=True, kw_only=True)
class MappingNetworkConfig:
    """z and/or a condition -> intermediate latent w."""

    z_dim: int = 512  # 0: no latent, as in the discriminator
    c_dim: int = 25  # 0: no condition
    w_dim: int = 512
    num_layers: int = 2
    num_ws: int | None = 14  # copies of w; None: a single w without an axis for the copies
    lr_multiplier: float = 0.01
    average: bool = True  # owns w_avg, needed for truncation

    def __post_init__(self) -> None:
        if self.z_dim + self.c_dim == 0:
            raise ValueError("a mapping network needs z_dim or c_dim above 0, both are 0")


class MappingNetwork(nn.Module):
    """Normalised z and embedded condition through fully connected layers (StyleGAN2's mapping with a condition)."""

    w_avg: Tensor  # [w_dim], the running average; there if `config.average`

    def __init__(self, config: MappingNetworkConfig) -> None:
        super().__init__()
        self.config = config
        if config.c_dim:
            self.embed = FullyConnected(config.c_dim, config.w_dim)
        width = config.z_dim + (config.w_dim if config.c_dim else 0)
        for index in range(config.num_layers):
            self.add_module(f"fc{index}", FullyConnected(width, config.w_dim, "lrelu", config.lr_multiplier))
            width = config.w_dim
        if config.average:
            self.register_buffer("w_avg", torch.zeros(config.w_dim))

    @full_precision()  # the condition is a camera
    def forward(
        self, z: Tensor | None, c: Tensor | None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z [B, z_dim] (None if absent), c [B, c_dim] (None if absent) -> w [B, num_ws, w_dim], or [B, w_dim].

        truncation_psi below 1 pulls the first `truncation_cutoff` w's (default all) towards the running average.
        Raises ValueError: z or c is missing.
        """
        parts = [normalize_second_moment(_required(z, "z"))] if self.config.z_dim else []
        if self.config.c_dim:
            parts.append(normalize_second_moment(self.embed(_required(c, "c"))))
        w = torch.cat(parts, dim=1)
        for index in range(self.config.num_layers):
            w = self.get_submodule(f"fc{index}")(w)
        if self.config.num_ws is not None:
            w = repeat(w, "b d -> b n d", n=self.config.num_ws)
        if truncation_psi == 1.0:
            return w
        truncated = torch.lerp(self.w_avg.to(w), w, truncation_psi)
        if truncation_cutoff is None or self.config.num_ws is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], w[:, truncation_cutoff:]], dim=1)


def _required(value: Tensor | None, name: str) -> Tensor:
    if value is None:
        raise ValueError(f"this mapping network needs {name}")
    return value


def minibatch_std(x: Tensor, group_size: int) -> Tensor:
    """Standard deviation of a group of samples as a channel [B, 1, H, W], constant over H, W and the group.

    Sample i belongs to group i mod (B / G); G is lowered to B when the batch is smaller.
    """
    batch, _, height, width = x.shape
    group = min(group_size, batch)
    if batch % group:
        raise ValueError(f"batch of {batch} cannot be split into groups of {group}; use a multiple")
    groups = rearrange(x, "(g n) c h w -> g n (c h w)", g=group)
    std = torch.sqrt(groups.var(dim=0, correction=0) + 1e-8).mean(dim=1)  # [B/G]
    return repeat(std, "n -> (g n) 1 h w", g=group, h=height, w=width)
