import torch

from modules.rig.edges import means_of_sides, sum_sides


def halves(near: float = 9.0, far: float = 11.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A near surface of value 1 left of column 8, a far one of value 3 right of it, nothing in the last row."""
    values, depth = torch.full((1, 16, 16, 2), 3.0), torch.full((1, 16, 16), far)
    values[:, :, :8], depth[:, :, :8] = 1.0, near
    values[:, -1], depth[:, -1] = 100.0, 0.0
    return values, depth


def test_both_sides_are_continued_under_each_other_and_nothing_else_is():
    nearer, farther, share = means_of_sides(sum_sides(*halves()).flatten(0, 2))
    nearer, farther = (x.unflatten(0, (16, 16)) for x in (nearer, farther))
    torch.testing.assert_close(nearer[:15, 6:10], torch.ones(15, 4, 2))
    torch.testing.assert_close(farther[:15, 6:10], torch.full((15, 4, 2), 3.0))
    torch.testing.assert_close(nearer[:15, :4], farther[:15, :4])  # one surface
    step = share.unflatten(0, (16, 16))[5]
    assert step[:5].min() > 0.999 and step[7] > 0.5 > step[8]
    assert (step[5:11].diff() <= 0).all() and step[10] < step[9] < step[8]


def test_the_share_at_a_slanted_edge_has_no_stairs():
    """Along an edge of slope 1/4 the place where the share is one half moves evenly, not by whole pixels."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    left = columns < 10 + rows / 4
    depth = torch.where(left, 9.0, 11.0)[None]
    _, _, share = means_of_sides(sum_sides(left[None, ..., None].float(), depth).flatten(0, 2))
    share = share.unflatten(0, (32, 32)).masked_fill((columns - 10 - rows / 4) > 4, 0.0)  # there is one surface alone
    first = (share > 0.5).sum(dim=1)
    above, below = share[torch.arange(32), first - 1], share[torch.arange(32), first]
    place = first + (above - 0.5) / (above - below)
    steps = place[4:28].diff()
    assert steps.min() > 0 and steps.max() < 0.7  # whole pixels would be 0 0 0 1
