from dataclasses import replace

import pytest

from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages import frame_pair_stage
from tasks.stages.htbsr import HTBSRTask, HTBSRTaskConfig
from tasks.stages.motion_adapter import MotionAdapterTask, MotionAdapterTaskConfig
from tests.tasks.tiny_images import ADVERSARY, RATES, tiny_model


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
