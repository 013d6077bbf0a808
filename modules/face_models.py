"""Table of the morphable models: name -> function that builds or reads it. A further model is one file and one line."""

from collections.abc import Callable
from functools import cache

from modules.face3d.bfm import BFM_FILE, load_bfm
from modules.face3d.ict import ICT_FILE, LANDMARK_FILE, load_ict
from modules.face3d.morphable_model import MorphableModel
from modules.procedural.head import procedural_model
from modules.system.errors import UserError

FACE_MODELS: dict[str, Callable[[], MorphableModel]] = {
    "bfm": load_bfm,  # Basel Face Model 2009: files of its publishers
    "ict": load_ict,  # ICT-FaceKit: a file of scripts/convert_ict.py, and its landmarks
    "procedural": procedural_model,  # built by code
}

# Of the assets; a training asks for all at once.
FACE_MODEL_FILES: dict[str, tuple[str, ...]] = {"bfm": (BFM_FILE,), "ict": (ICT_FILE, LANDMARK_FILE)}


@cache
def load_face_model(name: str) -> MorphableModel:
    """The face model called `name`, on the CPU, built or read once in each process: copy it to move it.

    Raises:
        UserError: there is no such model, or its files are missing; the message says which there are, or how to get
            them.
    """
    if name not in FACE_MODELS:
        raise UserError(f"unknown face model {name!r}; use one of {', '.join(FACE_MODELS)}")
    return FACE_MODELS[name]()


def check_face_model(name: str) -> None:
    """Refuse a config's `face_model` that is not in the table: ValueError, which names those that are."""
    if name not in FACE_MODELS:
        raise ValueError(f"face_model is {name!r}; use one of {', '.join(FACE_MODELS)}")
