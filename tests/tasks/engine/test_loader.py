from itertools import islice

import pytest
import torch

from modules.system.errors import UserError
from tasks.engine.loader import StreamSampler, item_count, shuffled, training_loader
from tasks.engine.trainer_config import LoaderConfig
from tests.tasks.toy import Points


def indices(*arguments: int, batches: int = 6) -> list[list[int]]:
    return list(islice(StreamSampler(*arguments), batches))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 257])
def test_every_epoch_is_a_permutation_and_two_epochs_differ(count: int) -> None:
    epochs = [[shuffled(i, count, 5, epoch) for i in range(count)] for epoch in range(2)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count < 10 or epochs[0] != epochs[1]


def test_the_order_looks_random() -> None:
    order = torch.tensor([shuffled(i, 10_000, 0, 0) for i in range(10_000)], dtype=torch.float64)
    neighbours = torch.corrcoef(torch.stack([order[:-1], order[1:]]))[0, 1]
    drift = torch.corrcoef(torch.stack([order, torch.arange(10_000, dtype=torch.float64)]))[0, 1]
    assert neighbours.abs() < 0.05 and drift.abs() < 0.05


def test_processes_share_the_stream_of_one() -> None:
    one = indices(50, 4, 7)
    two = [indices(50, 2, 7, 0, rank, 2) for rank in range(2)]
    assert [a + b for a, b in zip(*two)] == one


def test_a_stream_resumes_at_any_position_across_epochs() -> None:
    assert indices(10, 4, 7)[2:] == indices(10, 4, 7, 8, batches=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_workers(workers: int) -> None:
    dataset = Points(20)
    loader = training_loader(
        dataset, StreamSampler(20, 3, 1), LoaderConfig(batch=3, workers=workers), torch.utils.data.default_collate
    )
    seen = [batch["index"].tolist() for batch in islice(iter(loader), 5)]
    assert seen == indices(20, 3, 1, batches=5)


def test_a_data_set_without_a_length_is_refused() -> None:
    assert item_count(Points(20)) == 20
    with pytest.raises(ValueError, match="Dataset has no length"):
        item_count(torch.utils.data.Dataset())


def test_no_data_is_reported() -> None:
    with pytest.raises(UserError, match="empty"):
        StreamSampler(0, 1, 0)
