"""Initial weights for plain stacks of convolutions."""

from torch import nn


def keep_scale(stack: nn.Module, slope: float = 0.01) -> None:
    """He's normal weights and zero biases for every convolution below `stack` (He et al. 2015).

    PyTorch's default shrinks a signal to about 0.4 per convolution and leaky ReLU: after five of them nothing of the
    image is left, and a small model that is trained for minutes never recovers it.

    Args:
        slope: negative slope of the activations between the convolutions.
    """
    for layer in stack.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
