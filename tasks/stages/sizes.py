"""Sizes that data and discriminator take from the model, so that one key (`model.picture_size`) sets all of them."""

from dataclasses import replace

from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminatorConfig
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.adversary import AdversaryConfig


def data_of_model(data: ClipDataConfig, model: Real3DPortraitConfig) -> ClipDataConfig:
    """Set the clips' PNCC size and face model to the model's where they are not given.

    Raises:
        ValueError: they are given and differ from the model's.
    """
    data = replace(
        data, pncc_size=data.pncc_size or model.pncc_size, face_model=data.face_model or model.driving.face_model
    )
    if data.pncc_size != model.pncc_size:
        raise ValueError(f"data.pncc_size is {data.pncc_size}; the motion adapter reads {model.pncc_size}")
    if data.face_model != model.driving.face_model:
        raise ValueError(f"data.face_model is {data.face_model}, model.driving.face_model {model.driving.face_model}")
    return data


def adversary_of_model(adversary: AdversaryConfig, model: Real3DPortraitConfig) -> AdversaryConfig:
    """Give the adversary a discriminator of the model's image size where it has none.

    Raises:
        ValueError: its discriminator is for images of another size.
    """
    discriminator = adversary.discriminator or DualDiscriminatorConfig(resolution=model.resolution)
    if discriminator.resolution != model.resolution:
        raise ValueError(
            f"adversary.discriminator.resolution is {discriminator.resolution}; the model's pictures have "
            f"{model.resolution} pixels a side"
        )
    return replace(adversary, discriminator=discriminator)
