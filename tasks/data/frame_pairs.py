"""Frame pairs of prepared clips, for the motion adapter and HTB-SR (docs/spec/training.md#4-3).

An item is a function of the seed and its number alone, so that the order is the same for any number of workers.
Images leave the data set as uint8; the tasks convert them on the device (`pixels.to_float`). PNCCs leave it as the
coefficients of the face, and the step draws on its device those that it needs (tasks/data/frame_batch.py), unless they
are stored beside the clips.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from modules.analysis.inpainting import inpaint_torso
from modules.clips.fields import check_fields, read_field
from modules.clips.format import Clip, has_stored_pncc
from modules.clips.pncc import pncc_pixels
from modules.clips.splits import SplitConfig, check_folders
from modules.clips.store import StoreConfig
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import check_face_model, load_face_model
from modules.portrait.driving import project_landmarks
from modules.system.errors import UserError
from modules.system.files import whole_file
from tasks.data.frame_batch import SOURCE, TARGET
from tasks.engine.seeds import item_generator

FAR_FRAMES = 50  # source and target are up to this far apart: 2 s
SOURCE_SHARE = 0.25  # how often the PNCC that gets noise is the source's; docs/spec/training.md#2-7
OPEN_CLIPS = 256  # clips whose coefficients and maps stay in memory


@dataclass(frozen=True, kw_only=True)
class ClipDataConfig:
    """The clips to read, and the parts of an item.

    `folder` and `validation_folder` hold prepared clips; without the latter some people of `folder` are held out
    (`split`). `cache` is a folder for decoded frames (about 0.26 MB each at 256 pixels);
    empty: frames are decoded each time.
    """

    folder: str = "data/celebv_hq"  # prepared clips
    validation_folder: str = ""  # clips for validation; empty: some people of folder (split)
    store: StoreConfig = StoreConfig()  # of clips in object storage
    split: SplitConfig = SplitConfig()
    face_model: str = ""  # of modules/face_models.py; empty: that of the model
    pncc_size: int = 0  # 0: as the model reads them
    pncc: Literal["step", "loader"] = "step"  # who draws PNCCs that are not stored: the device, or the workers
    cache: str = ""  # folder for decoded frames; empty: decoded each time
    pairs_per_clip: int = 1000  # length of an epoch
    torso: bool = False  # add the source's in-painted torso and the background
    eye_closing: bool = False  # add three PNCCs with partly closed eyes
    perturbation: float = 0.0  # add a PNCC with noise of this size on its coefficients; 0: none
    seed: int = 999  # of which frames make a pair
    fields: tuple[str, ...] = ()  # further arrays of the clips (modules/clips/fields.py), by name in every batch

    def __post_init__(self) -> None:
        if self.face_model:
            check_face_model(self.face_model)
        check_fields(self.fields)
        if self.pairs_per_clip < 1:
            raise ValueError(f"pairs_per_clip is {self.pairs_per_clip}; it must be at least 1")
        check_folders(self.validation_folder, self.split)


def sample_pair(frames: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw source and target frame of a clip of `frames` frames.

    They are at least half as far apart as the target is from the farther end, or 50 frames if that is less.
    """
    source = int(torch.randint(frames, (), generator=generator))
    while True:
        target = int(torch.randint(frames, (), generator=generator))
        if abs(target - source) >= min(FAR_FRAMES, max((frames - 1 - target) // 2, target // 2)):
            return source, target


class FramePairs(Dataset):
    """Pairs of frames, each of one clip.

    An item holds:
        source_image, target_image: uint8 [3, H, W]; source_classes, target_classes: uint8 [H, W].
        identity, expression: [80] and [4, 64], of the source, the target t, t - 1 and t + 1 (t itself at the ends); or,
            where the first clip has stored PNCCs or the config's `pncc` is "loader", pncc: uint8 [5, 3, N, N], that of
            the neutral face before theirs; [3, 3, N, N] without t - 1 and t + 1 if `neighbours` is false, so that no
            more is read or drawn than is used.
        closing: [3], how far the target's eyes are closed: p1 < p2 = (p1 + p3) / 2 < p3; with `eye_closing`.
        perturbed_identity, perturbed_expression: [80] and [64], of the source or the target with noise, and
            perturbed_number: which of the two, SOURCE or TARGET; with `perturbation`.
        euler, translation: [2, 3] in radians and decimetres, source then target.
        keypoints: [2, 68, 2], the landmarks (x, y) in image widths, y down.
        torso, background: uint8 [3, H, W]; with `torso`.
        NAME: [2, ...], of source and target, for each field of `fields`.
    Tasks see a Dataset of numbered items and no files; clips may lie in folders or in shards (modules/clips/shards.py).
    """

    def __init__(
        self, config: ClipDataConfig, clips: list[Path], model: MorphableModel | None = None, neighbours: bool = True
    ) -> None:
        self.config, self.clips, self.neighbours = config, clips, neighbours
        self.model = model or load_face_model(config.face_model)
        self._stored = bool(clips) and has_stored_pncc(clips[0], config.pncc_size)
        self._open: OrderedDict[int, _OpenClip] = OrderedDict()

    def __len__(self) -> int:
        return len(self.clips) * self.config.pairs_per_clip

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = item_generator(self.config.seed, index)
        clip = self.clip(index % len(self.clips))
        source, target = sample_pair(len(clip.clip), generator)
        return self.pair(index % len(self.clips), source, target, generator)

    def pair(self, number: int, source: int, target: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The item of two given frames of clip `number`."""
        clip, both = self.clip(number), [source, target]
        frames, classes = clip.frames(both), clip.classes(both)
        last = len(clip.clip) - 1
        middle = 0 < target < last
        rows = [-1, source, target, target - middle, target + middle]
        item = {
            "source_image": _channels_first(frames[0]),
            "target_image": _channels_first(frames[1]),
            "source_classes": torch.from_numpy(classes[0]),
            "target_classes": torch.from_numpy(classes[1]),
            "euler": clip.clip.face.euler[both],
            "translation": clip.clip.face.translation[both],
            "keypoints": clip.keypoints[both],
            **{name: clip.field(name)[both] for name in self.config.fields},
        }
        if self._stored or self.config.pncc == "loader":
            item["pncc"] = clip.pncc(rows if self.neighbours else rows[: TARGET + 1], self.config.pncc_size, self.model)
        else:
            face = clip.clip.face
            item |= {"identity": face.identity[0], "expression": face.expression[rows[1:]]}
        if self.config.eye_closing:
            item["closing"] = _closing(generator)
        if self.config.perturbation > 0:
            number = SOURCE if torch.rand((), generator=generator) < SOURCE_SHARE else TARGET
            item["perturbed_number"] = torch.tensor(number)
            item |= clip.perturbed(rows[number], self.config.perturbation, generator)
        if self.config.torso:
            torso, _ = inpaint_torso(frames[0], classes[0])
            item |= {"torso": _channels_first(torso), "background": _channels_first(clip.clip.background)}
        return item

    def clip(self, number: int) -> "_OpenClip":
        """Clip `number`; the clips used last stay open."""
        if number not in self._open:
            if len(self._open) >= OPEN_CLIPS:
                self._open.popitem(last=False)
            cache = Path(self.config.cache) if self.config.cache else None
            self._open[number] = _OpenClip(Clip(self.clips[number]), self.model, cache)
        self._open.move_to_end(number)
        return self._open[number]


class ValidationPairs(Dataset):
    """Fixed pairs for validation: the first frame of each clip with frames spread evenly over the rest of it."""

    def __init__(self, pairs: FramePairs, per_clip: int = 4) -> None:
        self.pairs, self.per_clip = pairs, per_clip

    def __len__(self) -> int:
        return len(self.pairs.clips) * self.per_clip

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, step = divmod(index, self.per_clip)
        last = len(self.pairs.clip(number).clip) - 1
        target = round(last * (step + 1) / self.per_clip)
        return self.pairs.pair(number, 0, target, item_generator(0, index))


class _OpenClip:
    """A clip with its key points and, with a cache folder, its decoded frames and masks mapped from disk."""

    def __init__(self, clip: Clip, model: MorphableModel, cache: Path | None) -> None:
        if clip.face_model != model.name:
            raise UserError(
                f"{clip.folder} was fitted with the {clip.face_model} face model, not {model.name}; "
                "set data.face_model and model.face_model to it"
            )
        self.clip, self._cache = clip, cache
        face = clip.face
        self.keypoints = project_landmarks(model, face)  # [T, 68, 2]
        self._arrays: dict[str, np.ndarray] = {}
        self._fields: dict[str, Tensor] = {}

    def field(self, name: str) -> Tensor:
        """[T, ...], an array that was added to the clip."""
        if name not in self._fields:
            self._fields[name] = torch.from_numpy(read_field(self.clip, name))
        return self._fields[name]

    def frames(self, indices: list[int]) -> np.ndarray:
        return self.clip.frames(indices) if self._cache is None else self._decoded("frames")[indices]

    def classes(self, indices: list[int]) -> np.ndarray:
        return self.clip.classes(indices) if self._cache is None else self._decoded("classes")[indices]

    def pncc(self, rows: list[int], size: int, model: MorphableModel) -> Tensor:
        """uint8 [len(rows), 3, size, size]; row -1 is the neutral face."""
        stored = self.clip.stored_pncc(size)
        if stored is not None:
            return torch.from_numpy(stored[rows])
        return pncc_pixels(model, self.clip.face, rows, size)

    def perturbed(self, row: int, size: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Identity [80] and expression [64] of frame `row` with normal noise."""
        face = self.clip.face[row]
        return {
            f"perturbed_{name}": value[0] + size * torch.randn(value.shape, generator=generator)[0]
            for name, value in (("identity", face.identity), ("expression", face.expression))
        }

    def _decoded(self, kind: str) -> np.ndarray:
        if kind not in self._arrays:
            state = hashlib.sha256(f"{self.clip.video} {self.clip.video.stat().st_mtime_ns}".encode()).hexdigest()[:12]
            path = self._cache / f"{self.clip.name}_{state}_{kind}.npy"
            if not path.is_file():
                decode = {"frames": self.clip.all_frames, "classes": self.clip.all_classes}[kind]
                save_whole(path, np.stack(list(decode())))
            self._arrays[kind] = np.load(path, mmap_mode="r")
        return self._arrays[kind]


def save_whole(path: Path, array: np.ndarray) -> None:
    """Save an array as .npy; other processes see the whole file or none, and may write the same one."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, array)


def _closing(generator: torch.Generator) -> Tensor:
    first, last = torch.rand(2, generator=generator) / 2 + torch.tensor([0.0, 0.5])
    return torch.stack([first, (first + last) / 2, last])


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
