"""Transformer layers of SegFormer (Xie et al. 2021) and its MiT encoder.

Attention reads keys and values from a reduced token map; a depth-wise convolution in the MLP stands in for positional
embeddings. Parameter names follow the published checkpoints. See docs/spec/head.md#3-4 and #4-2.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def initialise(module: nn.Module) -> None:
    """SegFormer's initial weights, for `Module.apply`: truncated normal linears, fan-out normal convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-2.0, b=2.0)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def to_tokens(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H*W, C], row by row."""
    return rearrange(x, "b c h w -> b (h w) c")


def to_map(tokens: Tensor, height: int) -> Tensor:
    """[B, H*W, C] -> [B, C, H, W]."""
    return rearrange(tokens, "b (h w) c -> b c h w", h=height)


class PatchEmbed(nn.Module):
    """Overlapping patches: a strided convolution, then a layer norm over channels."""

    def __init__(self, in_channels: int, width: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel_size, stride, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        """x [B, C, H, W] -> tokens [B, h*w, width] and h."""
        x = self.proj(x)
        return self.norm(to_tokens(x)), x.shape[2]


class ReducedAttention(nn.Module):
    """Multi-head attention whose keys and values come from a map that is `reduction` times smaller."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        """tokens [B, h*w, C] -> [B, h*w, C]."""
        source = tokens
        if self.reduction > 1:
            source = self.norm(to_tokens(self.sr(to_map(tokens, height))))
        queries = rearrange(self.q(tokens), "b n (h d) -> b h n d", h=self.heads)
        keys, values = rearrange(self.kv(source), "b n (two h d) -> two b h n d", two=2, h=self.heads)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(rearrange(mixed, "b h n d -> b n (h d)"))


class DepthwiseConv(nn.Module):
    """3x3 convolution of every channel of a token map on its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        return to_tokens(self.dwconv(to_map(tokens, height)))


class MixMLP(nn.Module):
    """Linear, depth-wise convolution, exact GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(tokens), height)))


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole samples in training (Huang et al. 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        mask = torch.empty(x.shape[0], *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x * mask / keep


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One transformer block."""

    width: int  # C, channels of a token
    heads: int
    mlp_ratio: float = 4.0  # hidden width of the MLP / C
    reduction: int = 1  # how many times fewer keys a side
    norm_eps: float = 1e-6  # of norm1 and norm2; 1e-5 in the image-to-plane network
    drop_path: float = 0.0  # probability of dropping a branch in training


class Block(nn.Module):
    """x + attention(norm1(x)), then x + MLP(norm2(x))."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = ReducedAttention(config.width, config.heads, config.reduction)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MixMLP(config.width, round(config.width * config.mlp_ratio))
        self.drop_path = StochasticDepth(config.drop_path)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        """tokens [B, h*w, C] -> [B, h*w, C]."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), height))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens), height))


@dataclass(frozen=True, kw_only=True)
class MiTConfig:
    """Defaults: scale b0."""

    in_channels: int = 3
    widths: tuple[int, ...] = (32, 64, 160, 256)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    mlp_ratio: float = 4.0
    drop_path: float = 0.1  # of the last block; grows linearly from 0

    def __post_init__(self) -> None:
        lengths = {len(self.widths), len(self.heads), len(self.depths), len(self.reductions)}
        if lengths != {4}:
            raise ValueError(f"widths, heads, depths and reductions must have 4 entries each: {self}")

    @classmethod
    def scale(cls, name: str, in_channels: int = 3) -> "MiTConfig":
        """The published scales b0 ... b5."""
        depths = {
            "b0": (2, 2, 2, 2),
            "b1": (2, 2, 2, 2),
            "b2": (3, 4, 6, 3),
            "b3": (3, 4, 18, 3),
            "b4": (3, 8, 27, 3),
            "b5": (3, 6, 40, 3),
        }
        if name not in depths:
            raise ValueError(f"scale {name!r} is not one of {', '.join(depths)}")
        widths = (32, 64, 160, 256) if name == "b0" else (64, 128, 320, 512)
        return cls(in_channels=in_channels, widths=widths, depths=depths[name])


class MiT(nn.Module):
    """Mix-transformer encoder: four stages at 1/4, 1/8, 1/16 and 1/32 of the input."""

    def __init__(self, config: MiTConfig) -> None:
        super().__init__()
        total, index, channels = sum(config.depths), 0, config.in_channels
        for stage, width in enumerate(config.widths):
            kernel, stride = (7, 4) if stage == 0 else (3, 2)
            self.add_module(f"patch_embed{stage + 1}", PatchEmbed(channels, width, kernel, stride))
            blocks = nn.ModuleList()
            for _ in range(config.depths[stage]):
                blocks.append(
                    Block(
                        BlockConfig(
                            width=width,
                            heads=config.heads[stage],
                            mlp_ratio=config.mlp_ratio,
                            reduction=config.reductions[stage],
                            drop_path=config.drop_path * index / max(total - 1, 1),
                        )
                    )
                )
                index += 1
            self.add_module(f"block{stage + 1}", blocks)
            self.add_module(f"norm{stage + 1}", nn.LayerNorm(width, eps=1e-6))
            channels = width
        self.apply(initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x [B, C, S, S] -> the maps of the four stages, [B, width, S/4, S/4] first; S divisible by 32."""
        maps = []
        for stage in range(1, 5):
            tokens, height = self.get_submodule(f"patch_embed{stage}")(x)
            for block in self.get_submodule(f"block{stage}").children():
                tokens = block(tokens, height)
            x = to_map(self.get_submodule(f"norm{stage}")(tokens), height)
            maps.append(x)
        return maps
