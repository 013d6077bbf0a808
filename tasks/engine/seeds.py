"""Random numbers as functions of a seed and of where they are drawn.

Nothing depends on what was drawn before, so a run can be resumed and read by any number of workers to the same bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*numbers: int) -> int:
    """A seed that is a function of non-negative whole numbers, in [0, 2^63)."""
    counted = (len(numbers), *numbers)  # a SeedSequence does not see zeros at the end
    return int(np.random.SeedSequence(counted).generate_state(1, np.uint64)[0] >> 1)


def item_seed(seed: int, index: int) -> int:
    """The seed of item `index` of a data set, in [0, 2^32), for code that takes a number."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def item_generator(seed: int, index: int) -> torch.Generator:
    """The random numbers of item `index` of a data set."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Modules built inside get their first weights from `generator`; PyTorch's own numbers continue as before."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def seed_layers(device: torch.device, *numbers: int) -> None:
    """Set the global generators, on which dropout and the like draw, to a function of `numbers`."""
    seed = derived_seed(*numbers)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would walk the stack for absent GPUs
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
