"""What a frame is made of, as sequences of PNGs for a compositor (`--layers FOLDER`); docs/live.md describes them."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inference.views import depth_map
from modules.geometry.camera import WORLD_SCALE
from modules.layers.resample import resize
from modules.media.picture_writer import png_info
from modules.media.pixels import to_pixels
from modules.portrait.driving import Driving
from modules.portrait.htbsr.fusion import HTBSROutput
from modules.portrait.real3d_portrait import PortraitOutput
from modules.rig.draw import RigFrames
from modules.system.errors import UserError

DEPTH_STEPS = 1000  # of a depth's number to a decimetre
_STRETCH_ONE = 128  # the number of a stretch of 1

Layers = dict[str, np.ndarray]  # name -> uint8 [H, W], [H, W, 3], [H, W, 4], or uint16 [H, W]


def plane_layers(driving: Driving, output: PortraitOutput) -> list[Layers]:
    """Of each of B frames that the networks made."""
    size = output.image.shape[-1]
    cover = output.decoded.alpha.float()
    layers = {
        "alpha": _shares(cover),
        "depth": _depths(depth_map(output, size) / WORLD_SCALE),
        "head": to_pixels(_with_alpha(output.image, torch.minimum(resize(output.rendered.weights, size), cover))),
        "raw": to_pixels(output.image_raw),
    }
    if isinstance(output.decoded, HTBSROutput):
        layers["torso"] = to_pixels(_with_alpha(output.decoded.torso_image, output.decoded.occlusion_2))
    if driving.pncc is not None:
        layers["pncc"] = to_pixels(driving.pncc.driving)
    return _frame_by_frame(layers)


def rig_layers(frames: RigFrames) -> list[Layers]:
    """Of each of B frames of a rig."""
    stretch = (frames.stretch[:, 0] * (_STRETCH_ONE / 255)).clamp(0, 1)
    layers = {
        "alpha": _shares(frames.alpha),
        "depth": _depths(frames.depth[:, 0]),
        "colour": to_pixels(frames.colour),
        "visibility": _shares(frames.visibility),
        "stretch": _shares(stretch[:, None]),
        "eyes": _shares(frames.eyes),
        "mouth": _shares(frames.mouth),
    }
    return _frame_by_frame(layers)


def _frame_by_frame(layers: Mapping[str, np.ndarray]) -> list[Layers]:
    count = len(next(iter(layers.values())))
    return [{name: values[number] for name, values in layers.items()} for number in range(count)]


def _with_alpha(picture: Tensor, alpha: Tensor) -> Tensor:
    return torch.cat([picture.float().clamp(-1, 1), 2 * alpha.float() - 1], dim=1)


def _shares(values: Tensor) -> np.ndarray:
    """[B, 1, H, W] in [0, 1] -> uint8 [B, H, W]."""
    return to_pixels(2 * values - 1)[..., 0]


def _depths(values: Tensor) -> np.ndarray:
    """Decimetres [B, H, W], 0 or NaN where nothing is -> uint16, 0 where nothing is."""
    return (values.nan_to_num(0) * DEPTH_STEPS).round().clamp(0, 65535).cpu().numpy().astype(np.uint16)


class LayerWriter:
    """Takes the layers of one frame after the other in a `with` block; the folder appears whole at its end, or never.

    Args:
        folder: which must be new or empty; it gets a folder for each layer, with 00000.png and so on.
        background: uint8 [H, W, 3], the same for all frames, written once as background.png; None: there is none.
    Raises:
        UserError: the folder is not empty, or something cannot be written.
    """

    def __init__(self, folder: Path, background: np.ndarray | None = None) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--layers {folder} is there and not an empty folder; give another name")
        self._folder, self._background, self._frames = folder, background, 0
        self._part = folder.with_name(f".{folder.name}.{os.getpid()}.part")

    def frames(self, made: Iterator[tuple[np.ndarray, Layers]]) -> Iterator[np.ndarray]:
        """The frames of pairs of frame and layers, whose layers are written as they pass."""
        for frame, layers in made:
            for name, picture in layers.items():
                self._save(picture, Path(name, f"{self._frames:05d}.png"))
            self._frames += 1
            yield frame

    def __enter__(self) -> "LayerWriter":
        if self._background is not None:
            try:
                self._save(self._background, Path("background.png"))
            except UserError:
                shutil.rmtree(self._part, ignore_errors=True)
                raise
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            if kind is None and self._frames:
                if self._folder.exists():
                    self._folder.rmdir()  # empty
                self._part.rename(self._folder)
        except OSError as problem:
            raise self._refusal(problem) from problem
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def _save(self, picture: np.ndarray, name: Path) -> None:
        path = self._part / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path, pnginfo=png_info())
        except OSError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> UserError:
        return UserError(f"--layers {self._folder} cannot be written ({error.strerror or error}); choose another place")
