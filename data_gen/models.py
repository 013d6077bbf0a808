"""What preparation loads once in each process and then uses for every clip."""

from functools import cache

from modules.audio.hubert import HubertFeatures, load_hubert
from modules.face3d.morphable_model import MorphableModel, load_face_model


@cache
def face_model(name: str) -> MorphableModel:
    """See `load_face_model`."""
    return load_face_model(name)


@cache
def hubert_model(source: str) -> HubertFeatures:
    """See `load_hubert`."""
    return load_hubert(source)
