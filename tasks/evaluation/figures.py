"""The figures of one case and method: of compared pictures as they come, and of the whole clip at its end."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from modules.analysis.segmentation_classes import HEAD_CLASSES, TORSO_CLASSES, part_mask
from modules.audio.features import read_audio
from modules.metrics import lips, masks, motion
from modules.metrics.identity import csim, identity_drift
from modules.metrics.image import TruePictures
from modules.metrics.series import ClipSeries
from tasks.evaluation.measures import OWN_SYNCNET
from tasks.evaluation.networks import Networks
from tasks.evaluation.phones import Phones

REGIONS = {"_head": HEAD_CLASSES, "_torso": TORSO_CLASSES}
SYNC_SIZE = 256  # pixels a side of the frames that are kept for the sync network

Figures = dict[str, float]


def to_unit(frame: np.ndarray) -> Tensor:
    """uint8 [S, S, 3] -> [1, 3, S, S] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255


class TrueFrame:
    """A compared frame of the true clip, with what all methods that are compared with it share.

    Args:
        frame: uint8 [S, S, 3]; `classes` [S, S], the six classes.

    Attributes:
        masks: end of a measure's name -> what it is measured in, [1, 1, S, S]; None: everywhere. Regions that the frame
            does not show are left out.
    """

    def __init__(self, frame: np.ndarray, classes: np.ndarray) -> None:
        self.picture, self.labels = to_unit(frame), torch.from_numpy(classes)[None]
        regions = {end: part_mask(self.labels, parts) for end, parts in REGIONS.items()}
        self.masks = {"": None, **{end: mask for end, mask in regions.items() if mask.any()}}
        self.pictures = TruePictures(self.picture, self.masks)

    @cached_property
    def seam(self) -> Tensor:
        """The band of `seam`, [1, 1, S, S]."""
        return masks.neck_seam(self.labels)


class PictureFigures:
    """Collects what the compared pictures of one clip give.

    Args:
        networks: those that are here; what others would give is left out.
        photo: uint8 [S, S, 3], and its landmarks [478, 2] in pixels, for CSIM.
    """

    def __init__(self, networks: Networks, photo: np.ndarray, landmarks: np.ndarray) -> None:
        self.networks = networks.loaded
        self.values: dict[str, list[float]] = defaultdict(list)
        self.features: list[Tensor] = []
        self.vectors: dict[str, list[Tensor]] = defaultdict(list)
        self.references = {name: self._vector(name, photo, landmarks) for name in self._identity_networks()}

    def compare(self, made: np.ndarray, truth: TrueFrame) -> None:
        """A frame, uint8 [S, S, 3], against the true one: whole, head and torso."""
        picture = to_unit(made)
        found = truth.pictures.compare(picture)
        if "lpips_alex" in self.networks:
            for end, mask in truth.masks.items():
                found[f"lpips{end}"] = self.networks["lpips_alex"](picture, truth.picture, mask)
        error = (picture - truth.picture).abs().mean(dim=1, keepdim=True)
        found["seam"] = masks.seam_share(error, truth.seam, truth.labels)
        for name, value in found.items():
            self.values[name].append(float(value))

    def describe(self, made: np.ndarray, landmarks: np.ndarray, true: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Vectors and features of a frame [S, S, 3] with landmarks [478, 2] in pixels; `true`: the true frame's two."""
        for name in self.references:
            self.vectors[name].append(self._vector(name, made, landmarks))
        if "inception" in self.networks:
            self.features.append(self.networks["inception"](to_unit(made))[0].float().cpu())
        if "face_alignment" in self.networks and true is not None:
            points = [self._points(*pair) for pair in ((made, landmarks), true)]
            self.values["akd"].append(motion.akd(*points, size=len(made)))

    def figures(self) -> Figures:
        """Means over the compared frames; NaN values (an empty region) do not count."""
        result = {name: _mean(values) for name, values in self.values.items()}
        for name, rows in self.vectors.items():
            vectors = torch.stack(rows)
            key = "csim" if name == "csim_arcface" else name
            result[key] = _mean(csim(vectors, self.references[name]).tolist())
            result["drift" if name == "csim_arcface" else "drift_dlib"] = identity_drift(vectors)
        return result

    def _identity_networks(self) -> list[str]:
        return [name for name in ("csim_arcface", "csim_dlib") if name in self.networks]

    def _vector(self, name: str, frame: np.ndarray, landmarks: np.ndarray) -> Tensor:
        return self.networks[name](torch.from_numpy(frame)[None], torch.from_numpy(landmarks)[None].float())[0]

    def _points(self, frame: np.ndarray, landmarks: np.ndarray) -> Tensor:
        found = self.networks["face_alignment"]
        return found(torch.from_numpy(frame)[None], torch.from_numpy(landmarks)[None].float())


@dataclass(frozen=True)
class Speech:
    """The sound of a case.

    Attributes:
        waveform: [N] at 16 kHz.
        late: frames by which it comes after the true lips; 0 if nobody knows.
        phones: when p, b, m and other sounds are in it; None if nobody knows.
    """

    waveform: Tensor
    late: float = 0.0
    phones: Phones | None = None

    @classmethod
    def read(cls, path: Path | None, late: float, phones: Phones | None = None) -> "Speech | None":
        """The sound file of a case; None without one."""
        return cls(read_audio(path), late, phones) if path else None


def series_figures(made: ClipSeries, truth: ClipSeries, speech: Speech | None, by_sound: bool) -> Figures:
    """Figures of the whole clip: motion, landmarks, lips, eyes.

    Args:
        made: of the method, T frames.
        truth: of the driving clip, T frames.
        speech: what drives, or None.
        by_sound: whether the method was driven by it, so that its lips are as late as the sound.
    """
    result: Figures = {"one_face": masks.one_face(made.faces)}
    both = made.seen & truth.seen
    if both.sum() < 3:
        return result
    result |= {
        "aed_fit": motion.aed(made, truth),
        "apd_fit": motion.apd(made, truth),
        "jitter": motion.temporal_jitter(made, truth),
        "akd_mediapipe": motion.akd(
            motion.mediapipe_68(made.landmarks), motion.mediapipe_68(truth.landmarks), made.size
        ),
        "blink_pose": lips.blink_pose_coupling(made),
        "eyes_left_open": lips.eye_closure(made.eye_opening, lips.shut_eyes(truth.eye_opening)),
        "lip_range": float(made.mouth_opening[both].std() / truth.mouth_opening[both].std()),
    }
    errors = motion.landmark_errors(made, truth)
    result |= {"landmarks": errors.all, "lip_shape": errors.lip_shape}
    result |= {"mouth_gap": errors.mouth_gap, "eye_gap": errors.eye_gap}
    late = speech.late if speech is not None and by_sound else 0.0
    result["lip_correlation"] = lips.opening_correlation(made.mouth_opening, truth.mouth_opening, late)
    result["width_correlation"] = lips.opening_correlation(made.mouth_width, truth.mouth_width, late)
    if speech is not None:
        result["loudness_correlation"] = lips.loudness_correlation(
            made.mouth_opening, speech.waveform, 0.0 if by_sound else speech.late
        )
        result |= speech_figures(made.mouth_opening, speech, by_sound)
    return result


def speech_figures(opening: Tensor, speech: Speech, by_sound: bool) -> Figures:
    """What the mouth's opening [T] does in silence and on p, b and m; arguments as of `series_figures`."""
    silent = lips.silence(speech.waveform, len(opening))
    if not by_sound:  # true lips rest as much earlier as the sound is late
        silent = torch.roll(silent, -round(speech.late))
    result = {
        "silence_motion": lips.motion_in_silence(opening, silent),
        "silence_opening": lips.opening_in_silence(opening, silent),
    }
    if speech.phones is not None:
        phones = speech.phones.moved(0.0 if by_sound else -speech.late, len(opening))
        closure = lips.lip_closure(opening, phones.bilabials, phones.others)
        result |= {"pbm_closed": closure.kept, "pbm_false": closure.false}
    return result


def own_sync_figures(networks: Networks, series: ClipSeries, speech: Speech | None) -> Figures:
    """What this project's SyncNet says of a fit; empty without it, without sound, or of another face model's motion."""
    if OWN_SYNCNET not in networks.loaded or speech is None:
        return {}
    score = networks.loaded[OWN_SYNCNET](series.identity, series.expression, speech.waveform)
    if score is None:
        return {}
    return {"sync_own_c": score.confidence, "sync_own_d": score.distance, "sync_own_late": -float(score.offset)}


def sync_figures(networks: Networks, frames: list[np.ndarray], series: ClipSeries, speech: Speech | None) -> Figures:
    """LSE of frames that were kept at `SYNC_SIZE`; empty without the network or without sound."""
    if "syncnet" not in networks.loaded or speech is None or not frames:
        return {}
    landmarks = series.landmarks[: len(frames)] * SYNC_SIZE / series.size
    score = networks.loaded["syncnet"](torch.from_numpy(np.stack(frames)), landmarks, speech.waveform)
    return {"sync_c": score.confidence, "sync_d": score.distance}


def small(frame: np.ndarray) -> np.ndarray:
    """A frame at `SYNC_SIZE`."""
    return cv2.resize(frame, (SYNC_SIZE, SYNC_SIZE), interpolation=cv2.INTER_AREA)


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
