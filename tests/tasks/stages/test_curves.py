import torch

from tasks.stages.curves import curves


def test_curves_are_a_picture_with_a_panel_for_each_axis():
    wave = torch.sin(torch.arange(50) / 5)
    one = curves({"lips": {"predicted": wave, "true": -wave}}, "an utterance")
    two = curves({"lips": {"predicted": wave}, "expression": {"predicted": wave}})
    assert one.dtype == torch.uint8 and one.shape[2] == 3 and two.shape[0] == 2 * one.shape[0]
    assert one.float().std() > 10
    assert not torch.equal(one, curves({"lips": {"predicted": wave, "true": wave}}, "an utterance"))
