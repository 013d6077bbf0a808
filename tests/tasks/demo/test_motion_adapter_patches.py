from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from tasks.data.frame_pairs import ClipDataConfig
from tasks.demo.motion_adapter_patches import TERMS, MotionAdapterPatchesConfig, MotionAdapterPatchesTask
from tasks.demo.patches import PatchConfig
from tasks.stages.terms import Term
from tests.tasks.steps import Steps
from tests.tasks.tiny_images import RATES, SIZE, changed_parts, pair_batch, tiny_model

LOSS = {"image_raw": 1.0, "edges_raw": 1.0, "mask": 1.0, "planes": 0.001}


@pytest.fixture
def config():
    patches = PatchConfig(rays=8, side_range=(128, 192), mouth_side=64, mouth_share=0.5)
    return MotionAdapterPatchesConfig(
        model=tiny_model(2), data=ClipDataConfig(), loss=LOSS, learning_rates=RATES, patches=patches
    )


def test_all_but_super_resolution_learns_from_patches(config, generator):
    task = MotionAdapterPatchesTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(pair_batch(generator), step=3)
    assert losses.keys() == LOSS.keys()
    assert changed_parts(before, task.modules) == {"image_to_plane", "motion_adapter", "renderer"}


def test_the_regularisation_of_planes_is_there_too(config, generator):
    task = MotionAdapterPatchesTask(replace(config, loss=LOSS | {"laplacian": 0.1, "density": 0.1}), generator)
    assert {"laplacian", "density"} <= Steps(task)(pair_batch(generator), step=3).keys()


def test_a_loss_may_read_a_field_of_the_clips_in_every_patch(config, generator, monkeypatch):
    seen = []

    def loss(image, brightness):
        """Brightness that was filmed."""
        seen.append((len(image), brightness))
        return image.mean() * brightness.mean()

    monkeypatch.setitem(TERMS, "light", Term(loss, ("image_raw", "brightness")))
    with pytest.raises(ValueError, match=r"needs brightness, read from the clips; add data.fields=\[brightness\]"):
        replace(config, loss=LOSS | {"light": 1.0})
    data, patches = replace(config.data, fields=("brightness",)), replace(config.patches, count=2)
    task = MotionAdapterPatchesTask(replace(config, data=data, patches=patches, loss=LOSS | {"light": 1.0}), generator)
    batch = pair_batch(generator)
    assert "light" in Steps(task)(batch, step=3)
    assert seen[0][0] == 4 and torch.equal(seen[0][1], batch["brightness"][[0, 0, 1, 1], 1])


def test_a_loss_of_stage_2_that_patches_can_compute_is_one_of_the_demo_too(config, generator):
    task = MotionAdapterPatchesTask(replace(config, loss=LOSS | {"entropy": 1.0}), generator)
    assert Steps(task)(pair_batch(generator), step=3)["entropy"] > 0


@pytest.mark.parametrize(
    "name, words",
    [
        ("lips", "is 5.0, but needs image, target, lip_boxes"),
        ("image", "is 5.0, but needs image, target, near_head"),
        ("perceptual_raw", "is 5.0, but needs network"),
        ("adversarial", "is no loss of this stage"),
    ],
)
def test_a_loss_of_whole_pictures_is_refused_by_name(config, name, words):
    with pytest.raises(ValueError, match=f"loss.{name} {words}"):
        replace(config, loss=LOSS | {name: 5.0})


def test_the_best_prediction_is_the_raw_render(config, generator):
    task, batch = MotionAdapterPatchesTask(config, generator), pair_batch(generator)
    task.model.eval()
    with torch.no_grad():
        frames = task.frames(batch)
        output = task.reenacted(frames)
        prediction = task.video_columns(batch)[2]
    wide = torch.nn.functional.interpolate(output.image_raw, (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(prediction, wide)
