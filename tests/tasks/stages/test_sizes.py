import pytest

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminatorConfig
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.sizes import adversary_of_model, data_of_model


def test_data_and_discriminator_follow_the_model() -> None:
    model = Real3DPortraitConfig.full(3, picture_size=1024)
    data = data_of_model(ClipDataConfig(), model)
    assert (data.pncc_size, data.face_model) == (1024, "bfm")
    assert adversary_of_model(AdversaryConfig(), model).discriminator.resolution == 1024


def test_what_does_not_fit_is_refused() -> None:
    model = Real3DPortraitConfig.full(3)
    with pytest.raises(ValueError, match="data.pncc_size is 256; the motion adapter reads 512"):
        data_of_model(ClipDataConfig(pncc_size=256), model)
    with pytest.raises(ValueError, match="data.face_model is ict, model.driving.face_model bfm"):
        data_of_model(ClipDataConfig(face_model="ict"), model)
    with pytest.raises(ValueError, match="discriminator.resolution is 256; the model's pictures have 512"):
        adversary_of_model(AdversaryConfig(discriminator=DualDiscriminatorConfig.demo()), model)
