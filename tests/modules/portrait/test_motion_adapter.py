import dataclasses

import pytest
import torch
from torch.testing import assert_close

from modules.layers.segformer import MiTConfig
from modules.portrait.motion_adapter import MotionAdapter, MotionAdapterConfig

TINY = MotionAdapterConfig(
    input_size=64,
    plane_channels=4,
    fuse_channels=8,
    encoder=MiTConfig(widths=(4, 8, 8, 8), heads=(1, 2, 2, 2), depths=(1, 1, 1, 1)),
)


def tiny() -> MotionAdapter:
    torch.manual_seed(0)
    return MotionAdapter(TINY)


@pytest.mark.parametrize(("depth", "names"), [(1, ("canonical", "source", "driving")), (3, ("source", "driving"))])
def test_planes_have_half_the_size_of_the_pnccs(depth, names):
    model = MotionAdapter(dataclasses.replace(TINY, plane_depth=depth, pncc_inputs=names)).eval()
    assert model(torch.randn(2, len(names), 3, 64, 64)).shape == (2, 3, 4 * depth, 32, 32)


def test_every_parameter_learns():
    model = MotionAdapter(TINY)
    model(torch.randn(2, 3, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_the_driving_pncc_matters(generator):
    model = tiny().eval()
    pncc = torch.randn(1, 3, 3, 64, 64, generator=generator)
    other = pncc.clone()
    other[:, 2] = 0
    assert (model(pncc) - model(other)).abs().max() > 1e-4


def test_stochastic_layers_are_silent_in_eval_mode(generator):
    model, pncc = tiny(), torch.randn(2, 3, 3, 64, 64, generator=generator)
    first, *others = [model(pncc) for _ in range(4)]  # two may drop the same, above all nothing
    assert any(not torch.equal(first, other) for other in others)
    model.eval()
    assert torch.equal(model(pncc), model(pncc))


def test_the_wrong_number_of_pnccs_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 64, 64\).*\[B, 3, 3, S, S\]"):
        MotionAdapter(TINY)(torch.zeros(1, 2, 3, 64, 64))


@pytest.mark.parametrize("names", [(), ("canonical", "target")])
def test_unknown_pnccs_are_refused(names):
    with pytest.raises(ValueError, match="pncc_inputs are .*; use some of canonical, source, driving"):
        MotionAdapterConfig(pncc_inputs=names)


def test_the_full_adapter_has_the_released_size():
    with torch.device("meta"):
        model = MotionAdapter(MotionAdapterConfig.full())
    assert sum(p.numel() for p in model.parameters()) == 5_705_694


def test_planes_of_a_product_start_near_one(generator: torch.Generator) -> None:
    model, pncc = tiny().eval(), torch.randn(1, 3, 3, 64, 64, generator=generator)
    before = model(pncc)
    model.init_for_product()
    assert_close(model(pncc), 1 + before)
    assert before.abs().mean() < 0.2


def test_bfloat16_runs_by_hand_and_by_autocast(generator):
    model, pncc = tiny().eval(), torch.randn(1, 3, 3, 64, 64, generator=generator)
    exact = model(pncc)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = model(pncc)
    manual = model.bfloat16()(pncc.bfloat16())
    for planes in (automatic, manual):
        assert (planes.float() - exact).abs().max() < 0.05 * exact.abs().max()
