"""Portrait: everything that depends on the photo alone, computed once, in a versioned file that can be reused."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from modules.analysis.crop import Box, crop_landmarks, photo_crop
from modules.analysis.inpainting import BackgroundMethod, inpaint_background, inpaint_torso
from modules.analysis.landmarks import detect
from modules.analysis.segmentation import part_image, segment_crop
from modules.analysis.segmentation_classes import CLASSES
from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE, FaceCoefficients
from modules.face3d.fitting import fit_photo
from modules.face3d.morphable_model import MorphableModel
from modules.media.images import read_picture
from modules.media.pixels import to_pixels, to_tensor
from modules.procedural.person import sample_person
from modules.procedural.render import render
from modules.system.errors import UserError
from modules.system.files import named_file

_FORMAT = "real3d-portrait"
_VERSION = 1
_PICTURES = ("picture", "head", "torso", "background")
_WIDTHS = {"identity": IDENTITY_SIZE, "expression": EXPRESSION_SIZE, "euler": 3, "translation": 3}
FRONTAL_DISTANCE = -5.0  # dm: the face of a procedural portrait fills about a fifth of the picture


@dataclass(frozen=True)
class Portrait:
    """What the model needs from a photo.

    Attributes:
        picture: [1, 3, S, S] in [-1, 1], the square crop.
        head: the same with everything but hair, face skin and others at -1.
        torso: [1, 3, S, S], body and clothes continued behind the head, -1 elsewhere.
        classes: [1, S, S] uint8, 0 background, 1 hair, 2 body skin, 3 face skin, 4 clothes, 5 others.
        background: [1, 3, S, S], the scene with the person filled in.
        identity: [1, 80]; expression: [1, 64]; euler: [1, 3] radians; translation: [1, 3] decimetres.
        face_model: name of the model whose identity and expression modes these are (modules/face_models.py).
    """

    picture: Tensor
    head: Tensor
    torso: Tensor
    classes: Tensor
    background: Tensor
    identity: Tensor
    expression: Tensor
    euler: Tensor
    translation: Tensor
    face_model: str

    @property
    def face(self) -> FaceCoefficients:
        """The fitted face, one row."""
        return FaceCoefficients(self.identity, self.expression, self.euler, self.translation)

    @classmethod
    def from_picture(
        cls,
        picture: np.ndarray,
        classes: np.ndarray,
        face: FaceCoefficients,
        face_model: str,
        inpainting: BackgroundMethod = "smooth",
    ) -> "Portrait":
        """Compose from a square uint8 picture [S, S, 3], its class map [S, S] and its fitted face (one row).

        Args:
            inpainting: how the scene goes on behind the person, see `inpaint_background`.
        """
        torso, _ = inpaint_torso(picture, classes)
        background = inpaint_background(picture[None], classes[None], inpainting)
        head = part_image(picture, classes, "head")
        return cls(
            picture=to_tensor(picture),
            head=to_tensor(head),
            torso=to_tensor(torso),
            classes=torch.from_numpy(classes.astype(np.uint8))[None],
            background=to_tensor(background),
            identity=face.identity,
            expression=face.expression,
            euler=face.euler,
            translation=face.translation,
            face_model=face_model,
        )

    @classmethod
    def from_photo(
        cls,
        path: Path,
        face_model: MorphableModel,
        size: int,
        face: int | None = None,
        inpainting: BackgroundMethod = "smooth",
        anyway: bool = False,
    ) -> "Portrait":
        """Analyse a photo: landmarks, crop, masks, fit, inpainting.

        Args:
            face: which one from the left, counted from 0, in a photo of several people.
            inpainting: how the scene goes on behind the person, see `inpaint_background`.
            anyway: whether a covered face is mentioned rather than refused.
        Raises:
            UserError: no picture, no usable face, or a model file is missing.
        """
        photo, box, landmarks, fitted = analyse_photo(path, face_model, face, anyway)
        return cls.from_picture(*segment_crop(photo, box, landmarks, size), fitted, face_model.name, inpainting)

    @classmethod
    def from_procedural(cls, seed: int, face_model: MorphableModel, size: int) -> "Portrait":
        """The procedural person of `seed` with a neutral face, seen from the front; masks and fit are exact.

        Raises:
            UserError: another face model than the procedural one.
        """
        check_procedural(face_model)
        person = sample_person(seed)
        face = FaceCoefficients(
            identity=person.identity[None],
            expression=torch.zeros(1, 64),
            euler=torch.zeros(1, 3),
            translation=torch.tensor([[0.0, 0.0, FRONTAL_DISTANCE]]),
        )
        view = render(face_model, person, face, size)
        return cls.from_picture(to_pixels(view.image)[0], view.classes[0].numpy(), face, face_model.name)

    def save(self, path: Path) -> None:
        """Write as safetensors; the file appears whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        header = {"format": _FORMAT, "version": str(_VERSION), "face_model": self.face_model}
        with named_file(path) as part:
            save_file({name: getattr(self, name).contiguous() for name in _tensors()}, part, metadata=header)

    @classmethod
    def load(cls, path: Path) -> "Portrait":
        """Read a file of `save`.

        Raises:
            UserError: the file is missing, is no portrait, is of another format or version, or holds values out of all
                reason.
        """
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                kind = (header.get("format"), header.get("version"))
                if kind != (_FORMAT, str(_VERSION)):
                    raise UserError(
                        f"{path} is not a portrait file: format, version are {kind}; this program reads "
                        f"{(_FORMAT, str(_VERSION))}; make one with Portrait.save"
                    )
                tensors = {name: file.get_tensor(name) for name in _tensors()}
                for name, values in tensors.items():
                    _check_shape(path, name, values, size=tensors["picture"].shape[-1:])
                    _check_values(path, name, values)
                return cls(**tensors, face_model=header["face_model"])
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(f"{path} is not a portrait file; make one with Portrait.save ({error})") from error


def check_procedural(model: MorphableModel) -> None:
    """Refuse a procedural person for another face model."""
    if model.name != "procedural":
        raise UserError("this checkpoint knows no procedural people; give a photo with --source")


def analyse_photo(
    path: Path, face_model: MorphableModel, face: int | None = None, anyway: bool = False
) -> tuple[np.ndarray, Box, np.ndarray, FaceCoefficients]:
    """Find and fit the face of a photo; arguments and errors as of `Portrait.from_photo`.

    Returns:
        The photo [H, W, 3] uint8, the square around the face, its landmarks [478, 2] in fractions of the square, and
        the fitted face, one row.
    """
    photo = read_picture(path)
    in_photo = detect(photo, name=path.name, face_index=face, anyway=anyway)
    box = photo_crop(photo, in_photo)
    landmarks = crop_landmarks(in_photo, photo.shape[:2], box)
    return photo, box, landmarks, fit_photo(face_model, torch.from_numpy(landmarks).float())


def _check_shape(path: Path, name: str, values: Tensor, size: tuple[int, ...]) -> None:
    """Refuse a damaged file in which a tensor does not fit the picture of `size` (S,) or the face of one row."""
    right = (
        (1, *size, *size) if name == "classes" else (1, 3, *size, *size) if name in _PICTURES else (1, _WIDTHS[name])
    )
    if values.shape != right or values.is_floating_point() == (name == "classes"):
        raise UserError(
            f"{path} is damaged: {name} is {values.dtype} {list(values.shape)} instead of {list(right)}; make it again"
        )


def _check_values(path: Path, name: str, values: Tensor) -> None:
    """Refuse a damaged file: classes that there are not, pictures and faces out of all reason."""
    low, high = (0, CLASSES - 1) if name == "classes" else (-1.01, 1.01) if name in _PICTURES else (-1000, 1000)
    if not bool(((values >= low) & (values <= high)).all()):  # also where a value is no number
        raise UserError(f"{path} is damaged: {name} holds values outside of {low:g} to {high:g}; make it again")


def _tensors() -> tuple[str, ...]:
    return tuple(field.name for field in fields(Portrait) if field.type is Tensor)
