from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.portrait.discriminator import DualDiscriminatorConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.errors import UserError
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.i2p import I2PConfig, I2PLossConfig, I2PTask, reference_runs
from tasks.stages.learning_rates import ImageLearningRates
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import SIZE, changed_parts, tiny_model

PLAIN = I2PLossConfig(image=1.0, image_raw=1.0, edges=0.5, mask=0.1, density=0.25)


@pytest.fixture
def config():
    return I2PConfig(
        model=tiny_model(1), teacher="procedural", loss=PLAIN,
        learning_rates=ImageLearningRates(schedule="linear", warmup=1, generator=3e-3),
        adversary=AdversaryConfig(discriminator=DualDiscriminatorConfig(
            resolution=SIZE, base_channels=256, max_channels=8, mapping_layers=1)))


def view_batch(generator, views=3):
    masks = torch.zeros(2, views, SIZE, SIZE, dtype=torch.bool)
    masks[..., 6:26, 8:24] = True
    images = torch.randint(256, (2, views, 3, SIZE, SIZE), generator=generator) * masks[:, :, None]
    return {"images": images.to(torch.uint8), "masks": masks,
            "euler": 0.3 * torch.randn(2, views, 3, generator=generator),
            "translation": torch.tensor([0.0, 0.0, -5.0]).repeat(2, views, 1)}


def test_the_reference_view_is_rare_at_first():
    steps = [step for step in range(30) if reference_runs(step, start_adversarial=30_000)]
    assert steps == [4, 9, 14, 19, 24, 29]
    assert [reference_runs(s, 30_000) for s in (30_000, 30_001, 35_000, 35_001)] == [False, True, True, True]


def test_every_part_learns_from_both_views(config, generator):
    task = I2PTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(view_batch(generator), step=19)
    assert {"reference_image", "target_image", "target_image_raw", "target_edges", "target_mask",
            "target_density"} <= losses.keys()
    assert changed_parts(before, task.modules) == {"image_to_plane", "renderer", "superresolution"}


def test_a_step_without_the_reference_view_trains_the_target_alone(config, generator):
    losses = Steps(I2PTask(config, generator))(view_batch(generator), step=0)
    assert losses and all(name.startswith("target_") for name in losses)


def test_the_adversary_is_fed_from_the_start_and_heard_later(config, generator):
    loss = replace(PLAIN, adversarial_reference=0.1, adversarial_target=0.025)
    take_step = Steps(I2PTask(replace(config, loss=loss, start_adversarial=100), generator))
    batch = view_batch(generator)
    early, late = take_step(batch, step=4), take_step(batch, step=101)
    assert {"fake_1", "real_1"} <= early.keys()
    assert "target_adversarial" not in early and "target_adversarial" in late


def test_a_few_steps_lower_the_error(config, generator):
    take_step, batch = Steps(I2PTask(config, generator)), view_batch(generator)
    course = [take_step(batch, step)["target_image"] for step in range(8)]
    assert course[-1] < course[0]


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_numbers_alone(config):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (I2PTask(config, torch.Generator().manual_seed(1)) for _ in range(2))
    assert changed_parts(first.modules, second.modules) == set()
    assert torch.equal(torch.rand(1), expected)


def test_validation_measures_and_shows(config, generator):
    task, batch = I2PTask(config, generator), view_batch(generator)
    with torch.no_grad():
        assert {"psnr", "psnr_turned", "psnr_raw"} <= task.validation_step(batch).keys()
        assert task.pictures(batch)["source_and_turned"].shape == (12 * SIZE, 2 * SIZE, 3)


def test_only_a_run_from_scratch_asks_for_imagenet_weights(config, generator, tmp_path):
    task = I2PTask(config, generator)                                  # built without any file
    with pytest.raises(UserError, match="not those of ResNet-34"):     # the tiny one has no published weights
        task.begin()
    I2PTask(replace(config, initial_weights="none"), generator).begin()
    save_checkpoint(tmp_path / "run", {"task": "i2p"}, task.modules)
    warm = I2PTask(replace(config, init_from=str(tmp_path / "run")), generator)
    warm.begin()
    assert changed_parts(warm.modules, task.modules) == set()


def test_a_model_of_another_stage_is_refused(config):
    with pytest.raises(ValueError, match="stage 1"):
        replace(config, model=tiny_model(2))
