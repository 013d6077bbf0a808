from dataclasses import replace

import pytest
import torch

from modules.clips.pncc import pncc_pixels
from modules.clips.splits import SplitConfig
from modules.face3d.coefficients import FaceCoefficients
from modules.face_models import load_face_model
from modules.media.pixels import to_uint8
from modules.system.errors import UserError
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages import frame_pair_stage
from tasks.stages.htbsr import HTBSRTask, HTBSRTaskConfig
from tasks.stages.motion_adapter import MotionAdapterTask, MotionAdapterTaskConfig
from tests.tasks.tiny_images import ADVERSARY, RATES, SIZE, tiny_model, write_tiny_clips


@pytest.fixture(params=(2, 3))
def stage(request):
    """The class of a stage's task and a config of it without network losses."""
    kind, config_class = {2: (MotionAdapterTask, MotionAdapterTaskConfig), 3: (HTBSRTask, HTBSRTaskConfig)}[
        request.param
    ]
    config = config_class(
        model=tiny_model(request.param),
        data=ClipDataConfig(torso=True),
        loss={"image": 1.0},
        adversary=ADVERSARY,
        learning_rates=RATES,
    )
    return kind, config


def test_only_an_adversarial_weight_makes_a_discriminator(stage, generator):
    kind, config = stage
    plain = kind(config, generator)
    adversarial = kind(replace(config, loss={"image": 1.0, "adversarial": 0.1}), generator)
    assert plain.adversary is None and "discriminator" not in plain.modules
    assert adversarial.modules["discriminator"] is adversarial.adversary.discriminator


def test_the_perceptual_network_is_read_only_for_a_loss_that_needs_it(stage, generator, monkeypatch):
    network = object()
    monkeypatch.setattr(frame_pair_stage.PerceptualLoss, "from_assets", lambda: network)
    kind, config = stage
    assert kind(config, generator).frozen == {}
    assert kind(replace(config, loss={"image": 1.0, "perceptual": 0.0}), generator).frozen == {}
    assert kind(replace(config, loss={"lips_perceptual": 1.0}), generator).frozen == {"perceptual": network}


def test_pnccs_are_drawn_in_the_step_as_they_would_be_stored(stage, generator):
    kind, config = stage
    task = kind(config, generator)
    face = FaceCoefficients.neutral(3).replace(expression=0.3 * torch.rand(3, 64, generator=generator))
    size = config.data.pncc_size
    with torch.autocast("cpu", torch.bfloat16):  # changes nothing
        drawn = task.draw_pncc(face.identity.expand(3, -1), face.expression)
    stored = pncc_pixels(load_face_model("procedural"), face, [0, 1, 2], size)
    assert (drawn > -1).any() and torch.equal(to_uint8(drawn), stored)


def test_clips_of_another_size_are_one_line(stage, generator, tmp_path, monkeypatch):
    kind, config = stage
    monkeypatch.setattr("tests.tasks.tiny_images.SIZE", 48)
    write_tiny_clips(tmp_path / "clips", clips=2)
    data = replace(config.data, folder=str(tmp_path / "clips"), split=SplitConfig(validation=0, test=0))
    task = kind(replace(config, data=data), generator)
    with pytest.raises(UserError, match=f"have 48 pixels a side, the model's {SIZE}; .* size={SIZE}, or"):
        task.train_dataset()


def test_nobody_held_out_means_no_validation(stage, generator, tmp_path):
    kind, config = stage
    write_tiny_clips(tmp_path / "clips", clips=2)
    data = replace(config.data, folder=str(tmp_path / "clips"), split=SplitConfig(validation=0, test=0))
    task = kind(replace(config, data=data), generator)
    assert task.validation_dataset() is None and len(task.train_dataset().clips) == 2
