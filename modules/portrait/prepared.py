"""A model made ready for inference: the same pictures from less work per frame. Training is untouched."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

from modules.layers.folded import FoldedSynthesisBlock, FoldedSynthesisLayer, fold_norm
from modules.layers.stylegan import SynthesisBlock
from modules.portrait.htbsr.blocks import SpectralConv

Norm = nn.BatchNorm2d | nn.BatchNorm3d
Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def prepare(model: Model, dtype: torch.dtype = torch.float32) -> Model:
    """A copy of a portrait model in eval mode whose networks give equal pictures faster.

    Constant styles, up-sampling phases, activation gains, spectral norms and the batch norms behind convolutions are
    folded into weights (rounding differs: 1e-6 of the values in float32), and weights lie channels-last, as the
    processor's convolutions read them. The copy has no gradients and cannot be trained or saved as a checkpoint.

    Args:
        model: with styles of ones and without noise, as Real3D-Portrait's own decoders are used.
        dtype: of the weights of convolutions and linear layers; bfloat16 ones are for use under autocast.
    """
    model = deepcopy(model).eval()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SpectralConv):
                setattr(module, name, child.plain())
            elif isinstance(child, SynthesisBlock) and child.config.in_channels:
                setattr(module, name, FoldedSynthesisBlock(child))
        _fold_norms(module)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear, FoldedSynthesisLayer)):
            module.to(dtype)
        if isinstance(module, (nn.Conv2d, FoldedSynthesisLayer)):
            module.weight.data = module.weight.contiguous(memory_format=torch.channels_last)
    return model.requires_grad_(False)


def _fold_norms(module: nn.Module) -> None:
    """Fold batch norms whose neighbour before is a convolution; children are run in the order of their names."""
    children = list(module.named_children())
    for (_, conv), (name, norm) in zip(children, children[1:]):
        if isinstance(conv, (nn.Conv2d, nn.Conv3d)) and isinstance(norm, Norm):
            fold_norm(conv, norm)
            setattr(module, name, nn.Identity())
