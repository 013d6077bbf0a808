"""Motion: all that changes from frame to frame, as an open and versioned file (expression, pose, blink; 25 fps)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from inference.arkit import csv_text, from_columns, is_arkit, json_text, read_csv, read_json, to_columns
from modules.face3d.blink import blink_curve
from modules.media.rates import FRAME_RATE
from modules.official.fit_file import read_official_fit
from modules.system.errors import UserError
from modules.system.files import named_file

_FORMAT = "real3d-motion"
_VERSION = 1
OFFICIAL = ".npy"  # the original's *_coeff_fit_mp.npy
ARKIT_TABLE, ARKIT_JSON = ".csv", ".arkit.json"  # motions as ARKit curves
MOTION_FILES = (".json", ".npz", ARKIT_TABLE, OFFICIAL)
_FACTS = ("relative", "smoothed")  # of the header; files of earlier versions lack them
_ARRAYS = {"expression": 64, "euler": 3, "translation": 3, "blink": 1}
_ORBIT_SECONDS, _ORBIT_DEGREES = 4.0, (20.0, 8.0)  # yaw, pitch
_LIMITS = {"expression": (-100, 100), "euler": (-6.3, 6.3), "translation": (-1000, 1000), "blink": (-0.01, 1.01)}


@dataclass(frozen=True)
class Motion:
    """One row a frame, 25 frames a second. `motion[10:60]` is a part of it, `first + second` both in turn.

    Attributes:
        expression: [T, 64], coefficients of the face model's expression modes, at most 100.
        euler: [T, 3], pitch, yaw, roll in radians, of the driver; unless the pose is taken as absolute, only
            differences from frame 0 are used.
        translation: [T, 3] in decimetres, likewise; at most 1000.
        blink: [T, 1] in [0, 1], how far both eyes are closed on top of the expression.
        face_model: name of the model whose expression modes these are (modules/face_models.py).
        relative: True: euler and translation count from the photo's own pose, as under speech; False: they are the
            driver's own, as of a clip.
        smoothed: whether the pose is even in time already. Frames smooth cameras and torso over 7 frames unless it is.
    """

    expression: Tensor
    euler: Tensor
    translation: Tensor
    blink: Tensor
    face_model: str
    relative: bool = False
    smoothed: bool = False

    def __post_init__(self) -> None:
        frames = self.expression.shape[0] if self.expression.ndim else "frames"
        for name, width in _ARRAYS.items():
            shape = tuple(getattr(self, name).shape)
            if shape != (frames, width):
                raise UserError(f"motion: {name} has shape {shape}; it must be [{frames}, {width}]")
            _check_values(name, getattr(self, name))
        if len(self.expression) == 0:
            raise UserError("motion: it has no frames")

    def __len__(self) -> int:
        return len(self.expression)

    def __getitem__(self, part: slice | int) -> "Motion":
        """The rows of a slice, such as `motion[:50]`, the first two seconds; or one row, `motion[3]`.

        Raises:
            UserError: there are none.
            IndexError: there is no such row, which ends a loop over the rows.
        """
        if not isinstance(part, slice):
            row = range(len(self))[part]
            part = slice(row, row + 1)
        return replace(self, **{name: getattr(self, name)[part] for name in _ARRAYS})

    def __add__(self, other: "Motion") -> "Motion":
        """Both in turn. The poses are joined as they are: where they differ, the head jumps.

        Raises:
            UserError: they are of different face models, or only one pose is relative.
        """
        if (self.face_model, self.relative) != (other.face_model, other.relative):
            raise UserError(
                f"motions cannot be joined: face model {self.face_model}, relative {self.relative}; "
                f"face model {other.face_model}, relative {other.relative}"
            )
        joined = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _ARRAYS}
        return replace(self, **joined, smoothed=self.smoothed and other.smoothed)

    def with_pose(self, euler: Tensor, translation: Tensor, relative: bool = True) -> "Motion":
        """The same expressions under another pose sequence of the same length; `relative` as of the class."""
        return replace(self, euler=euler, translation=translation, relative=relative)

    def with_blink(self, blink: Tensor) -> "Motion":
        """The same motion with closing amounts [T, 1] for both eyes."""
        return replace(self, blink=blink)

    def save(self, path: Path) -> None:
        """Write .json (to edit by hand) or .npz; or .csv or .arkit.json for ARKit curves. Whole or not at all.

        Raises:
            UserError: the name has another ending, the file cannot be written, or the face model has no such curves.
        """
        if path.suffix.lower() not in (".json", ".npz", ARKIT_TABLE):
            raise UserError(
                f"cannot save a motion as {path.name}; use a name that ends in .json or .npz, or in .csv for ARKit "
                "curves"
            )
        if path.name.lower().endswith((ARKIT_TABLE, ARKIT_JSON)):
            columns = self.arkit_curves()
            text = csv_text(columns) if path.suffix.lower() == ARKIT_TABLE else json_text(columns)
            with named_file(path) as part:
                part.write_text(text, encoding="utf-8")
            return
        arrays = {name: getattr(self, name).float().cpu().numpy() for name in _ARRAYS}
        header = {"format": _FORMAT, "version": _VERSION, "fps": FRAME_RATE, "face_model": self.face_model}
        header |= {name: getattr(self, name) for name in _FACTS}
        with named_file(path) as part, part.open("wb") as file:
            if path.suffix.lower() == ".json":
                rows = {name: np.round(value, 5).tolist() for name, value in arrays.items()}
                file.write(json.dumps(header | rows).encode("utf-8"))
            else:
                np.savez_compressed(file, **header, **arrays)

    def arkit_curves(self) -> dict[str, list[float]]:
        """The 52 curves of ARKit, pose and blink, by name, T numbers each (docs/live.md).

        Raises:
            UserError: the modes of the face model have no names.
        """
        pose = torch.cat([self.euler, self.translation], dim=1)
        arrays = (values.double().cpu().numpy() for values in (self.expression, pose, self.blink))
        return to_columns(*arrays, self.face_model, self.relative)

    @classmethod
    def of_arkit_curves(cls, columns: Mapping[str, np.ndarray], face_model: str) -> "Motion":
        """The motion of a face model from curves [T] by name, of which some may be missing; float64."""
        expression, pose, blink, relative = from_columns(columns, face_model)
        euler, translation = torch.from_numpy(pose).split(3, dim=1)
        return cls(torch.from_numpy(expression), euler, translation, torch.from_numpy(blink), face_model, relative)

    @classmethod
    def load(cls, path: Path, face_model: str = "procedural") -> "Motion":
        """Read a file of `save`, or the faces that the original fitted to a clip (NAME_coeff_fit_mp.npy).

        Args:
            face_model: whose expressions a file of ARKit curves becomes; other files say whose theirs are.
        Raises:
            UserError: missing file, another format or version, wrong shapes, or values that are no numbers or out of
                all reason; the row is named.
        """
        suffix = path.suffix.lower()
        if suffix == OFFICIAL:
            face = read_official_fit(path)
            blink = torch.zeros(len(face), 1)
            return _named(path, lambda: cls(face.expression, face.euler, face.translation, blink, "bfm"))
        if suffix == ARKIT_TABLE:
            return _named(path, lambda: cls.of_arkit_curves(read_csv(path), face_model))
        try:
            if suffix == ".json":
                content = json.loads(path.read_text(encoding="utf-8-sig"))
                if is_arkit(content):
                    return _named(path, lambda: cls.of_arkit_curves(read_json(path, content), face_model))
            else:
                with np.load(path, allow_pickle=False) as file:
                    content = {key: file[key] for key in file.files}
            header = (str(content["format"]), int(content["version"]), int(content["fps"]))
            arrays = [_rows(name, content[name]) for name in _ARRAYS]
            of_model = str(content["face_model"])
            facts = {name: bool(content.get(name, False)) for name in _FACTS}
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"no motion file {path}") from error
        except Exception as error:  # any other content is no motion file
            raise UserError(f"{path} is not a motion file (.json or .npz made with --save-motion): {error}") from error
        if header != (_FORMAT, _VERSION, FRAME_RATE):
            raise UserError(
                f"{path}: format, version, fps are {header}; this program reads {(_FORMAT, _VERSION, FRAME_RATE)}"
            )
        return _named(path, lambda: cls(*arrays, of_model, **facts))


def _named(path: Path, read: Callable[[], Motion]) -> Motion:
    """The motion that `read` gives; what is wrong with it is said of the file."""
    try:
        motion = read()
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    return replace(motion, **{name: getattr(motion, name).float() for name in _ARRAYS})


def _rows(name: str, values: object) -> Tensor:
    """An array of a motion file as float64, so that no number becomes infinite unnoticed; ValueError names the row."""
    if isinstance(values, list):
        for row, items in enumerate(values):
            for item in items if isinstance(items, list) else [items]:
                if isinstance(item, bool) or not isinstance(item, int | float):
                    raise ValueError(f"row {row} of {name} holds {item!r}, which is no number")
            if isinstance(items, list) and len(items) != len(values[0]):
                raise ValueError(f"row {row} of {name} has {len(items)} values, row 0 has {len(values[0])}")
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    return torch.tensor(array.astype(np.float64))


def _check_values(name: str, values: Tensor) -> None:
    low, high = _LIMITS[name]
    wrong = ((values < low) | (values > high) | ~torch.isfinite(values)).any(-1)  # [T]
    if wrong.any():
        row = int(wrong.nonzero()[0])
        bad = next(x for x in values[row].tolist() if not low <= x <= high)
        raise UserError(f"motion: row {row} of {name} holds {bad:g}; values must lie in {low:g} to {high:g}")


def still_pose(frames: int) -> tuple[Tensor, Tensor]:
    """Euler angles and translations of a head that keeps the photo's pose: zeros [T, 3] each."""
    return torch.zeros(frames, 3), torch.zeros(frames, 3)


def orbit_pose(frames: int) -> tuple[Tensor, Tensor]:
    """A head that looks around in an ellipse, once in four seconds, from the photo's pose on; as `still_pose`."""
    time = torch.arange(frames) / FRAME_RATE
    angle = 2 * torch.pi * time / _ORBIT_SECONDS
    share = (time / _ORBIT_SECONDS * 2).clamp(0, 1)  # the ellipse widens from nothing in the first two seconds
    yaw, pitch = (share * degrees * turn(angle) for degrees, turn in zip(_ORBIT_DEGREES, (torch.sin, torch.cos)))
    return torch.deg2rad(torch.stack([-pitch, yaw, torch.zeros(frames)], dim=1)), torch.zeros(frames, 3)


class NaturalPose:
    """Gentle head movement: a few slow sinusoids with random phases, about 3 degrees of yaw, 2 of pitch and roll."""

    def __init__(self, generator: torch.Generator) -> None:
        self._rates = torch.tensor([0.13, 0.29, 0.53]) * (0.8 + 0.4 * torch.rand(6, 3, generator=generator))
        self._phases = 2 * torch.pi * torch.rand(6, 3, generator=generator)

    def at(self, first: int, frames: int) -> tuple[Tensor, Tensor]:
        """Euler angles [frames, 3] in radians and translations [frames, 3] in decimetres from frame `first` on.

        Both are zero at frame 0.
        """
        scale = torch.tensor([0.035, 0.055, 0.025, 0.02, 0.02, 0.0])
        pose = (self._sums(torch.arange(first, first + frames)) - self._sums(torch.zeros(1))) * scale  # [frames, 6]
        return pose[:, :3], pose[:, 3:]

    def _sums(self, numbers: Tensor) -> Tensor:
        time = numbers[:, None, None] / FRAME_RATE
        waves = torch.sin(2 * torch.pi * self._rates * time + self._phases) * torch.tensor([1.0, 0.5, 0.25])
        return waves.sum(-1)


class PeriodicBlinks:
    """A blink of 8 to 12 frames about every five seconds, the first after two seconds; drawn as time goes on."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self._next = generator, 2 * FRAME_RATE
        self._blinks: list[tuple[int, Tensor]] = []  # first frame and amounts of those that are not forgotten

    def at(self, first: int, frames: int) -> Tensor:
        """Closing amounts [frames, 1] from frame `first` on; what is before it is forgotten."""
        while self._next < first + frames:
            length = int(torch.randint(8, 13, (), generator=self._generator))
            self._blinks.append((self._next, blink_curve(length)))
            self._next += int(torch.randint(4 * FRAME_RATE, 6 * FRAME_RATE, (), generator=self._generator))
        self._blinks = [blink for blink in self._blinks if blink[0] + len(blink[1]) > first]
        closing = torch.zeros(frames, 1)
        for start, curve in self._blinks:
            low, high = max(start, first), min(start + len(curve), first + frames)
            closing[low - first : max(high - first, 0), 0] = curve[low - start : max(high - start, 0)].float()
        return closing


def natural_pose(frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`NaturalPose` of the first frames: Euler angles [T, 3] in radians, translations [T, 3] in decimetres."""
    return NaturalPose(generator).at(0, frames)


def periodic_blink(frames: int, generator: torch.Generator) -> Tensor:
    """`PeriodicBlinks` of the first frames: closing amounts [T, 1]."""
    return PeriodicBlinks(generator).at(0, frames)


@dataclass(frozen=True)
class Drawing:
    """Where the randomness of a video under speech comes from; one seed gives all, whatever the length of the speech.

    Attributes:
        lips, pose, blinks: generators on the CPU.
    """

    lips: torch.Generator
    pose: torch.Generator
    blinks: torch.Generator

    @classmethod
    def of_seed(cls, seed: int) -> "Drawing":
        """Three generators, from 0 to 2**63 - 1 different ones for each seed."""
        states = np.random.SeedSequence(seed).generate_state(3, np.uint64)
        return cls(*(torch.Generator().manual_seed(int(state)) for state in states))

    def moved(
        self, motion: Motion, pose: Literal["natural", "still", "orbit"] = "natural", blinks: bool = True
    ) -> Motion:
        """A motion with head movement and blinks of this drawing in place of its own."""
        frames = len(motion)
        if pose == "natural":
            motion = motion.with_pose(*natural_pose(frames, self.pose))
        else:
            motion = motion.with_pose(*(still_pose if pose == "still" else orbit_pose)(frames))
        return motion.with_blink(periodic_blink(frames, self.blinks)) if blinks else motion
