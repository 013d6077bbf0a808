"""What is known of a true clip before any method is looked at: computed once, kept in the output, shared by all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from modules.analysis.crop import Box, resize
from modules.analysis.mediapipe_models import FaceFinder
from modules.analysis.segmentation import segment
from modules.face_models import load_face_model
from modules.metrics.series import ClipSeries
from modules.system.files import whole_file
from tasks.evaluation.clips import TrueClip, open_clip
from tasks.evaluation.settings import EvaluationConfig
from tasks.evaluation.tracing import MOST_FACES, Tracer

CLASSES_SIZE = 256  # pixels a side at which true frames are divided into head, torso and background


@dataclass(frozen=True)
class ClipFacts:
    """The clip with its landmarks, fit and masks.

    Attributes:
        series: of the T true frames.
        classes: [K, 256, 256] uint8, the six classes of the compared frames (`is_compared`); K = 0 where no picture is.
    """

    clip: TrueClip
    series: ClipSeries
    classes: np.ndarray

    def classes_of(self, number: int) -> np.ndarray:
        """Classes of the compared frame `number`, [S, S] uint8."""
        size = self.clip.size
        index = np.arange(size) * CLASSES_SIZE // size
        return self.classes[number][np.ix_(index, index)]

    def save(self, path: Path, stamp: str) -> None:
        """Write them, whole or not at all."""
        arrays = {f"series_{name}": x.numpy() for name, x in vars(self.series).items() if isinstance(x, torch.Tensor)}
        box, clip = self.clip.box, self.clip
        numbers = (*clip.shape, box.left, box.top, box.right, box.bottom, clip.size, clip.count)
        with whole_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file, stamp=stamp, clip=np.array(numbers), rate=clip.rate, classes=self.classes, **arrays
            )

    @classmethod
    def load(cls, path: Path, stamp: str, video: Path) -> "ClipFacts | None":
        """Kept facts; None if there are none, or of another stamp."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["stamp"]) != stamp:
                    return None
                numbers = [int(number) for number in file["clip"]]
                names = [name for name in file.files if name.startswith("series_")]
                series = {name.removeprefix("series_"): torch.from_numpy(file[name]) for name in names}
                clip = TrueClip(
                    video, (numbers[0], numbers[1]), Box(*numbers[2:6]), numbers[6], numbers[7], float(file["rate"])
                )
                return cls(clip, ClipSeries(**series, size=numbers[6]), file["classes"])
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None


def is_compared(frame: int, config: EvaluationConfig) -> bool:
    """Whether pictures of this frame are compared: every k-th, without the first, which is the photo."""
    return frame > 0 and frame % config.picture_every == 0


def find_facts(video: Path, config: EvaluationConfig) -> ClipFacts:
    """Look at a clip.

    Raises:
        UserError: no usable face in the first frame, too short, or damaged.
    """
    clip = open_clip(video, config)
    classes = []
    with FaceFinder(MOST_FACES) as finder:
        tracer = Tracer(finder, clip.size)
        for number, frame in enumerate(clip.frames()):
            tracer.add(frame)
            if config.protocol == "same_identity" and is_compared(number, config):
                classes.append(_classes(frame, tracer, classes))
    shape = (len(classes), CLASSES_SIZE, CLASSES_SIZE)
    return ClipFacts(
        clip, tracer.series(load_face_model(config.face_model)), np.array(classes, np.uint8).reshape(shape)
    )


def _classes(frame: np.ndarray, tracer: Tracer, before: list[np.ndarray]) -> np.ndarray:
    """Classes of a frame; without a face those of the frame before, or none."""
    if not np.isfinite(tracer.latest).all():
        return before[-1] if before else np.zeros((CLASSES_SIZE, CLASSES_SIZE), np.uint8)
    return segment(resize(frame, (CLASSES_SIZE, CLASSES_SIZE)), tracer.latest / tracer.size)
