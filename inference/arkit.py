"""Motions as the 52 blendshape curves of ARKit: the face model's modes by name, written and read as CSV and JSON.

The names of sides are the person's own, as ARKit's are. docs/live.md lists which mode goes to which curve.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE
from modules.procedural.head import EXPRESSIONS
from modules.system.errors import UserError

Array = NDArray[np.float64]
_MODES = 64
_FORMAT, _VERSION = "real3d-arkit", 1
_ON_TIME = 1e-4  # seconds by which a row may be off its frame
_LONGEST = 86_400.0  # seconds of a motion; a gap in the times must not fill the memory

# fmt: off
CURVES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)
POSE = ("headPitch", "headYaw", "headRoll", "headX", "headY", "headZ")  # radians, decimetres, as of `Motion`
_OURS = ("blink", "headRelative")  # what else a motion holds
_OF_OTHERS = ("timecode", "blendshapecount", "lefteyeyaw", "lefteyepitch", "lefteyeroll", "righteyeyaw",
              "righteyepitch", "righteyeroll")  # columns of Live Link Face that say nothing new
_PROCEDURAL = {  # mode -> curve, or what both sides of the face have in common of it
    "jaw_open": "jawOpen", "lip_corners": "mouthStretch", "pucker": "mouthPucker", "lips_press": "mouthPress",
    "blink_left": "eyeBlinkLeft", "blink_right": "eyeBlinkRight", "brows_up": "browOuterUp", "brows_down": "browDown",
    "smile": "mouthSmile", "funnel": "mouthFunnel", "upper_lip_up": "mouthUpperUp", "lower_lip_down": "mouthLowerDown",
    "lip_tuck": "mouthRollLower", "lips_close": "mouthClose", "frown": "mouthFrown", "dimple": "mouthDimple",
    "cheek_puff": "cheekPuff", "nose_wrinkle": "noseSneer", "squint": "eyeSquint", "eyes_wide": "eyeWide",
    "brow_inner_up": "browInnerUp", "jaw_forward": "jawForward", "tongue_out": "tongueOut",
}
_TWO_WAYS = {  # mode -> curves of its positive values, and of its negative ones
    "gaze_x": (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    "gaze_y": (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
    "mouth_side": (("mouthLeft",), ("mouthRight",)),
    "jaw_side": (("jawLeft",), ("jawRight",)),
}
# fmt: on


class ArkitMap:
    """Between the modes of a face model and the curves.

    Attributes:
        positive, negative: [64, 52], curves of a mode's positive and of its negative values.
        back: [52, 64], modes of the curves.
    """

    def __init__(self) -> None:
        self.positive, self.negative = np.zeros((_MODES, len(CURVES))), np.zeros((_MODES, len(CURVES)))
        self.back = np.zeros((len(CURVES), _MODES))

    def one_way(self, mode: int, curves: Sequence[str]) -> None:
        """A mode that is these curves, which are alike; its negative values are theirs."""
        for column in map(CURVES.index, curves):
            self.positive[mode, column] = self.negative[mode, column] = 1
            self.back[column, mode] = 1 / len(curves)

    def two_ways(self, mode: int, curves: tuple[Sequence[str], Sequence[str]]) -> None:
        """A mode that is some curves when it is positive and others when it is negative."""
        for sign, table, names in zip((1, -1), (self.positive, self.negative), curves):
            for column in map(CURVES.index, names):
                table[mode, column] = sign
                self.back[column, mode] = sign / len(names)

    def curves(self, expression: Array) -> Array:
        """Expression [T, 64] -> curves [T, 52]."""
        return np.maximum(expression, 0) @ self.positive + np.minimum(expression, 0) @ self.negative

    def expression(self, curves: Array) -> Array:
        """Curves [T, 52] -> expression [T, 64]."""
        return curves @ self.back


@cache
def arkit_map(face_model: str) -> ArkitMap:
    """The map of a face model.

    Raises:
        UserError: its modes have no names.
    """
    result = ArkitMap()
    if face_model == "procedural":
        for mode, name in _PROCEDURAL.items():
            result.one_way(EXPRESSIONS.index(mode), _sides(name))
        for mode, curves in _TWO_WAYS.items():
            result.two_ways(EXPRESSIONS.index(mode), curves)
        _map_brows(result)
        return result
    names = load_face_model(face_model).expression_names
    if not any(_sides(_as_arkit(name)) for name in names):
        raise UserError(
            f"the modes of the {face_model} face model have no names, so that its motions are no ARKit curves; use "
            ".json or .npz"
        )
    for mode, name in enumerate(names):
        result.one_way(mode, _sides(_as_arkit(name)))
    shared = np.maximum(result.positive.sum(axis=0), 1)  # modes of the two sides that ARKit has as one
    result.positive, result.negative = result.positive / shared, result.negative / shared
    return result


def _map_brows(result: ArkitMap) -> None:
    """Three modes, two curves: brows that rise as a whole raise both, and an outer brow alone comes back as a whole."""
    inner, outer = CURVES.index("browInnerUp"), [CURVES.index(name) for name in _sides("browOuterUp")]
    for table in (result.positive, result.negative):
        table[EXPRESSIONS.index("brows_up"), inner] = 1
        table[EXPRESSIONS.index("brow_outer_up"), outer] = 1
    result.back[outer, EXPRESSIONS.index("brow_inner_up")] = -1 / 2


def _sides(name: str) -> tuple[str, ...]:
    """The curve of that name, or those of both sides; () if there are none."""
    if name in CURVES:
        return (name,)
    return tuple(name + side for side in ("Left", "Right") if name + side in CURVES)


def _as_arkit(name: str) -> str:
    """The curve of a mode of ICT-FaceKit: mouthSmile_L -> mouthSmileLeft, browInnerUp_L -> browInnerUp."""
    whole, _, side = name.partition("_")
    sided = whole + {"L": "Left", "R": "Right"}.get(side, "")
    return sided if sided in CURVES else whole


def to_columns(expression: Array, pose: Array, blink: Array, face_model: str, relative: bool) -> dict[str, list[float]]:
    """A motion as named columns of T numbers.

    Args:
        expression: [T, 64]; pose: [T, 6] Euler angles and translation; blink: [T, 1]; relative: as of `Motion`.
    """
    curves = arkit_map(face_model).curves(expression)
    curves[:, [CURVES.index(name) for name in _sides("eyeBlink")]] += blink  # drawn on top of the expression
    columns = dict(zip(CURVES, curves.T)) | dict(zip(POSE, pose.T)) | {"blink": blink[:, 0]}
    columns["headRelative"] = np.full(len(curves), float(relative))
    return {name: values.tolist() for name, values in columns.items()}


def from_columns(columns: Mapping[str, Array], face_model: str) -> tuple[Array, Array, Array, bool]:
    """The reverse; columns that are not there are 0, and a head without a pose keeps the photo's.

    Returns:
        expression [T, 64], pose [T, 6], blink [T, 1], relative.
    """
    count = len(next(iter(columns.values())))
    zeros = np.zeros(count)
    curves = np.stack([columns.get(name, zeros) for name in CURVES], axis=1)
    blink = columns.get("blink", zeros)[:, None]
    curves[:, [CURVES.index(name) for name in _sides("eyeBlink")]] -= blink
    pose = np.stack([columns.get(name, zeros) for name in POSE], axis=1)
    own = "headRelative" in columns or any(name in columns for name in POSE)
    relative = bool(columns.get("headRelative", zeros)[0]) if own else True
    return arkit_map(face_model).expression(curves), pose, blink, relative


def csv_text(columns: Mapping[str, Sequence[float]]) -> str:
    """A table with a line of names, then a line a frame: its number, its time in seconds, and the columns."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["frame", "time", *columns])
    for number, row in enumerate(zip(*columns.values())):
        table.writerow([number, f"{number / FRAME_RATE:.2f}", *(f"{value:.9g}" for value in row)])
    return text.getvalue()


def json_text(columns: Mapping[str, Sequence[float]]) -> str:
    """The columns under "curves", with format, version and frames a second."""
    rounded = {name: [float(f"{value:.9g}") for value in values] for name, values in columns.items()}
    return json.dumps({"format": _FORMAT, "version": _VERSION, "fps": FRAME_RATE, "curves": rounded})


def read_csv(path: Path) -> dict[str, Array]:
    """Columns of a table of `csv_text`, or of another program that has a column time (seconds), 25 frames a second.

    Raises:
        UserError: it is not there or no such table; the column or the line is named.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))) if any(row)]
    except FileNotFoundError as error:
        raise UserError(f"no motion file {path}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table of ARKit curves ({error})") from error
    names = [name.strip() for name in rows[0]] if rows else []
    if not any(name.lower() == "time" for name in names) or len(rows) < 2:
        raise UserError(
            f"{path} is no table of ARKit curves: it needs a line of names, among them time (seconds), and a line a "
            "frame"
        )
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise UserError(f"{path}: line {number} has {len(row)} cells, the line of names {len(names)}")
    found = {name: [row[column] for row in rows[1:]] for column, name in enumerate(names)}
    time = next(values for name, values in found.items() if name.lower() == "time")
    known = _known(path, {name: values for name, values in found.items() if name.lower() not in ("time", "frame")})
    return _at_frame_rate(path, known, _numbers(path, "time", time))


def read_json(path: Path, content: Mapping[str, object]) -> dict[str, Array]:
    """Columns of what `json_text` wrote; of other `fps`, as 25 frames a second.

    Raises:
        UserError: it is no such content; the curve is named.
    """
    curves, fps = content.get("curves"), content.get("fps")
    if content.get("version") != _VERSION or not isinstance(curves, dict) or not curves:
        raise UserError(f"{path}: no ARKit curves of version {_VERSION}")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 1 <= fps <= 1000:
        raise UserError(f"{path}: fps is {fps!r}; it must be a number from 1 to 1000")
    known = _known(path, curves)
    lengths = {name: len(values) for name, values in known.items()}
    if len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise UserError(f"{path}: its curves have {sorted(set(lengths.values()))} rows; they must have as many each")
    return _at_frame_rate(path, known, np.arange(len(next(iter(known.values())))) / fps)


def is_arkit(content: object) -> bool:
    """Whether a JSON file says that it holds ARKit curves."""
    return isinstance(content, dict) and content.get("format") == _FORMAT


def _known(path: Path, columns: Mapping[str, object]) -> dict[str, Array]:
    """The columns that mean something here, by our names; the case of letters does not matter."""
    ours = {name.lower(): name for name in (*CURVES, *POSE, *_OURS)}
    for name in columns:
        if name.lower() not in ours and name.lower() not in _OF_OTHERS:
            close = get_close_matches(name, ours.values(), n=1)
            instead = f"; did you mean {close[0]}?" if close else "; leave it out"
            raise UserError(f"{path}: column {name!r} is no ARKit curve{instead}")
    known = {
        ours[name.lower()]: _numbers(path, name, values) for name, values in columns.items() if name.lower() in ours
    }
    if not known:
        raise UserError(f"{path} holds no ARKit curves, such as jawOpen")
    return known


def _numbers(path: Path, name: str, values: object) -> Array:
    if not isinstance(values, list):
        raise UserError(f"{path}: {name} is no list of numbers")
    for row, value in enumerate(values):
        try:
            usable = not isinstance(value, bool) and math.isfinite(float(value))
        except (TypeError, ValueError):
            usable = False
        if not usable:
            raise UserError(f"{path}: row {row} of {name} holds {value!r}, which is no number")
    return np.array([float(value) for value in values])


def _at_frame_rate(path: Path, columns: Mapping[str, Array], time: Array) -> dict[str, Array]:
    """Rows at these times in seconds -> rows at 25 a second from the first on, between the nearest two."""
    if (np.diff(time) <= 0).any():
        row = int(np.argmax(np.diff(time) <= 0)) + 1
        raise UserError(f"{path}: row {row} is not later than the one before; times must ascend")
    time = time - time[0]
    if time[-1] > _LONGEST:
        raise UserError(f"{path}: its times span {time[-1]:g} seconds; at most {_LONGEST:g} are read")
    frames = np.arange(int(time[-1] * FRAME_RATE + _ON_TIME * FRAME_RATE) + 1) / FRAME_RATE
    if len(frames) == len(time) and np.abs(frames - time).max() < _ON_TIME:
        return dict(columns)
    return {name: np.interp(frames, time, values) for name, values in columns.items()}
