"""What data and discriminator take over from the model, so that one key (`model.picture_size`) sets every size."""

from dataclasses import replace

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminatorConfig
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.adversary import AdversaryConfig


def data_of_model(data: ClipDataConfig, model: Real3DPortraitConfig) -> ClipDataConfig:
    """Clips with the PNCC size and the face model of the model, where they name none.

    Raises:
        ValueError: they name others.
    """
    data = replace(data, pncc_size=data.pncc_size or model.pncc_size,
                   face_model=data.face_model or model.driving.face_model)
    if data.pncc_size != model.pncc_size:
        raise ValueError(f"data.pncc_size is {data.pncc_size}; the motion adapter reads {model.pncc_size}")
    if data.face_model != model.driving.face_model:
        raise ValueError(f"data.face_model is {data.face_model}, model.driving.face_model {model.driving.face_model}")
    return data


def adversary_of_model(adversary: AdversaryConfig, model: Real3DPortraitConfig) -> AdversaryConfig:
    """The adversary with a discriminator for the model's pictures, where it has none of its own.

    Raises:
        ValueError: the discriminator is for pictures of another size.
    """
    discriminator = adversary.discriminator or DualDiscriminatorConfig(resolution=model.resolution)
    if discriminator.resolution != model.resolution:
        raise ValueError(f"adversary.discriminator.resolution is {discriminator.resolution}; the model's pictures have "
                         f"{model.resolution} pixels a side")
    return replace(adversary, discriminator=discriminator)
