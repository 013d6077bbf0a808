import torch
from torch import nn

from tasks.engine.seeds import derived_seed, item_generator, item_seed, seed_layers, seeded


def test_derived_seeds_depend_on_every_number() -> None:
    seeds = {derived_seed(*numbers) for numbers in ((0,), (1,), (0, 1), (1, 0), (1, 1), (1, 1, 2))}
    assert len(seeds) == 6


def test_seeds_are_those_of_earlier_versions() -> None:
    # Runs are resumed, and views and speech made again, by these numbers.
    assert derived_seed(999, 2, 7, 0, 0) == 1886239468907885747
    assert item_seed(9999, 0) == 4280308137
    assert item_generator(999, 5).initial_seed() == 8689871875801547347


def test_first_weights_come_from_the_generator_and_leave_the_global_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    layers = []
    for seed in (1, 1, 2):
        with seeded(torch.Generator().manual_seed(seed)):
            layers.append(nn.Linear(3, 3))
    assert torch.equal(layers[0].weight, layers[1].weight) and not torch.equal(layers[0].weight, layers[2].weight)
    assert torch.equal(torch.rand(1), expected)


def test_layers_draw_the_same_after_the_same_numbers() -> None:
    drawn = []
    for numbers in ((3, 1), (3, 1), (3, 2)):
        seed_layers(torch.device("cpu"), *numbers)
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
