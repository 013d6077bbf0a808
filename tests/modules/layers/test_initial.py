import torch
from torch import nn

from modules.layers.initial import keep_scale


def test_a_deep_stack_neither_fades_nor_explodes():
    stack = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Conv2d(32, 32, 3, padding=1), nn.LeakyReLU(0.01))])
    stack.requires_grad_(False)
    x = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert float(stack(x).std()) < 0.05  # what happens without it
    keep_scale(stack)
    assert 0.3 < float(stack(x).std()) < 3
    assert all(float(layer.bias.abs().max()) == 0 for layer in stack if isinstance(layer, nn.Conv2d))
