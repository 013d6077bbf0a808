from collections.abc import Callable

import torch
from torch import nn
from torch.testing import assert_close

from modules.audio.flow import Coupling, CouplingFlow, GatedConvolutions, WeightNormConv1d


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def shaken(build: Callable[[], nn.Module]) -> nn.Module:
    """Parameters away from their initial values, where the couplings do nothing."""
    module = seeded(build)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_the_inverse_of_the_flow_undoes_it():
    flow = shaken(lambda: CouplingFlow(6, width=8, kernel=3, layers=2, couplings=3, condition_size=5)).double()
    x, condition = torch.randn(2, 6, 7).double(), torch.randn(2, 5, 7).double()
    mask = torch.ones(2, 1, 7).double()
    there = flow(x, mask, condition)
    assert (there - x).abs().max() > 0.1
    assert_close(flow.inverse(there, mask, condition), x)


def test_the_flow_keeps_volumes():
    flow = shaken(lambda: CouplingFlow(4, width=8, kernel=3, layers=2, couplings=2, condition_size=5)).double()
    condition, mask = torch.randn(1, 5, 3).double(), torch.ones(1, 1, 3).double()
    jacobian = torch.autograd.functional.jacobian(
        lambda x: flow(x.view(1, 4, 3), mask, condition).flatten(), torch.randn(12).double()
    )
    assert_close(torch.linalg.det(jacobian).abs(), torch.ones(()).double())


def test_a_new_coupling_is_the_identity_on_real_frames():
    coupling = seeded(lambda: Coupling(4, 8, 3, 2, 5))
    x, mask = torch.randn(1, 4, 6), torch.ones(1, 1, 6)
    assert_close(coupling(x, mask, torch.randn(1, 5, 6)), x)


def test_weight_norm_starts_as_the_plain_convolution_and_scales_with_g():
    layer = seeded(lambda: WeightNormConv1d(3, 4, 5))
    x = torch.randn(2, 3, 9)
    plain = torch.nn.functional.conv1d(x, layer.weight_v, layer.bias, padding=2)
    assert_close(layer(x), plain)
    with torch.no_grad():
        layer.weight_g.mul_(2)
        layer.weight_v.mul_(7)  # only its direction counts
    bias = layer.bias[None, :, None]
    assert_close(layer(x) - bias, 2 * (plain - bias))


def test_gated_convolutions_ignore_masked_frames_beyond_the_first_layer():
    stack = shaken(lambda: GatedConvolutions(4, 3, 3, 2))
    mask = torch.ones(1, 1, 8)
    mask[..., 5:] = 0
    x, condition = torch.randn(1, 4, 8) * mask, torch.randn(1, 2, 8)
    other = condition.clone()
    other[..., 6:] += 1
    out = stack(x, mask, condition)
    assert_close(out[..., :5], stack(x, mask, other)[..., :5])
    assert out[..., 5:].abs().max() == 0


def test_state_dict_keys_are_the_official_ones():
    keys = set(Coupling(4, 8, 3, 1, 5).state_dict())
    assert {
        "pre.weight",
        "enc.in_layers.0.weight_g",
        "enc.res_skip_layers.0.weight_v",
        "enc.cond_layer.bias",
        "post.bias",
    } <= keys
