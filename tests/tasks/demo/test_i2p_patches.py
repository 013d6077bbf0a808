from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.metrics.image import psnr
from modules.portrait.discriminator import DualView
from tasks.demo.i2p_patches import I2PPatchesConfig, I2PPatchesTask
from tasks.demo.patches import PatchConfig
from tasks.stages.i2p import photo_of
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import RATES, changed_parts, tiny_model, view_batch

LOSS = {"image_raw": 1.0, "edges_raw": 1.0, "mask": 1.0, "planes": 0.001}


@pytest.fixture
def config():
    return I2PPatchesConfig(
        model=tiny_model(1), teacher="procedural", loss=LOSS, learning_rates=RATES, patches=PatchConfig(rays=8)
    )


def test_both_views_are_learned_from_one_set_of_planes(config, generator):
    task = I2PPatchesTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(view_batch(generator), step=0)
    assert losses.keys() == {f"{view}_{name}" for view in ("reference", "target") for name in LOSS}
    assert changed_parts(before, task.modules) == {"image_to_plane", "renderer"}
    assert losses["reference_planes"] == losses["target_planes"]


def test_masks_are_needed_and_losses_of_whole_pictures_refused(config):
    with pytest.raises(ValueError, match="patches need the head masks of the procedural teacher"):
        replace(config, teacher="eg3d")
    with pytest.raises(ValueError, match="loss.edges is 1.0, but needs image, target"):
        replace(config, loss=LOSS | {"edges": 1.0})


def test_validation_measures_the_raw_render(config, generator):
    task, batch = I2PPatchesTask(config, generator), view_batch(generator)
    task.model.eval()
    with torch.no_grad():
        metrics = task.validation_step(batch)
        views: list[DualView] = task.teacher_batch(batch).views
        output = task.rendered(views[0], views[0])
    torch.testing.assert_close(metrics["psnr"], psnr(output.image_raw, views[0].image_raw))
    assert photo_of(views[0]).surroundings is None
