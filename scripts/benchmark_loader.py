"""Frame pairs a second and bytes of video, by the way clips are stored: python -m scripts.benchmark_loader FOLDER

    python -m scripts.benchmark_loader data/own
    python -m scripts.benchmark_loader data/own --workers 2 --pairs 400 --rounds 5 --without-torso

FOLDER holds prepared clips. They are packed, and written as loose pictures in the way of the original, into a scratch
folder; then all are read in turn, the same pairs by the trainer's own loader, and each round gives one ratio to the
prepared folder, so that what else runs on the machine weighs on both. Nothing is cached but by the system.
"""

import argparse
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from data_gen.pack import pack
from modules.analysis.inpainting import inpaint_torso
from modules.analysis.segmentation_classes import BACKGROUND, HEAD_CLASSES
from modules.clips.format import Clip, list_clips
from modules.clips.pncc import all_pncc
from modules.clips.store import StoreConfig, clip_folder
from modules.face_models import load_face_model
from modules.media.rates import FRAME_RATE
from modules.system.errors import UserError, run_command
from tasks.data.frame_pairs import ClipDataConfig, FramePairs, sample_pair
from tasks.engine.loader import StreamSampler, training_loader
from tasks.engine.seeds import item_generator
from tasks.engine.trainer_config import LoaderConfig

BATCH, UNTIMED = 4, 2  # pairs of a batch; batches before the clock starts
JPEG_QUALITY = 98  # about what the original's `ffmpeg -qscale 1` gives
# Colours of the classes 0 to 5 in the original's maps, RGB (docs/spec/data_gen.md).
CLASS_COLOURS = np.array(
    [[255, 255, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255], [255, 0, 0], [0, 255, 0]], np.uint8
)
STORED_LAYERS = ("head", "torso", "person", "background")  # what the original stores of each frame, besides


@dataclass
class Reading:
    """A way to store clips, and what was measured.

    Attributes:
        dataset: its pairs.
        size: bytes of all clips.
        rates: pairs a second by number of workers, one a round.
        cost: processor milliseconds a pair, of all processes, likewise.
    """

    name: str
    dataset: Dataset
    size: int
    rates: dict[int, list[float]] = field(default_factory=dict)
    cost: dict[int, list[float]] = field(default_factory=dict)


class LooseFrames(Dataset):
    """The pairs of `pairs`, of pictures that lie in folders as the original has them; without PNCCs."""

    def __init__(self, pairs: FramePairs, folder: Path) -> None:
        self.pairs, self.folder = pairs, folder

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        config, number = self.pairs.config, index % len(self.pairs.clips)
        clip = self.pairs.clip(number)
        source, target = sample_pair(len(clip.clip), item_generator(config.seed, index))
        folder, both = self.folder / clip.clip.name, [source, target]
        item = {
            "euler": clip.clip.face.euler[both],
            "translation": clip.clip.face.translation[both],
            "keypoints": clip.keypoints[both],
            "identity": clip.clip.face.identity[0],
            "expression": clip.clip.face.expression[both],
        }
        for name, frame in (("source", source), ("target", target)):
            item[f"{name}_image"] = _planar(_read(folder / "com_imgs" / f"{frame:08d}.jpg"))
            colours = _read(folder / "segmaps" / f"{frame:08d}.png")
            item[f"{name}_classes"] = torch.from_numpy(_classes(colours))
        if config.torso:
            torso = cv2.imread(str(folder / "inpaint_torso_imgs" / f"{source:08d}.png"), cv2.IMREAD_UNCHANGED)
            item["torso"] = _planar(cv2.cvtColor(torso, cv2.COLOR_BGRA2RGB))
            item["background"] = _planar(_read(folder / "bg.jpg"))
        return item


def write_loose(clip: Clip, folder: Path) -> None:
    """Write a clip as the original stores it: JPEG of frames, PNG of maps and, with alpha, of every layer."""
    jpeg = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    for name in ("gt_imgs", "com_imgs", "segmaps", "inpaint_torso_imgs", *(f"{layer}_imgs" for layer in STORED_LAYERS)):
        (folder / name).mkdir(parents=True)
    cv2.imwrite(str(folder / "bg.jpg"), clip.background[..., ::-1], jpeg)
    for number, (frame, classes) in enumerate(zip(clip.all_frames(), clip.all_classes())):
        composed = np.where((classes == BACKGROUND)[..., None], clip.background, frame)
        for name, picture in (("gt_imgs", frame), ("com_imgs", composed)):
            cv2.imwrite(str(folder / name / f"{number:08d}.jpg"), picture[..., ::-1], jpeg)
        cv2.imwrite(str(folder / "segmaps" / f"{number:08d}.png"), CLASS_COLOURS[classes][..., ::-1])
        torso, mask = inpaint_torso(frame, classes)
        head = np.isin(classes, HEAD_CLASSES)
        masks = (head, ~head & (classes != BACKGROUND), classes != BACKGROUND, classes == BACKGROUND)
        layers = [("inpaint_torso", torso, mask), *((n, frame, m) for n, m in zip(STORED_LAYERS, masks))]
        for name, picture, shown in layers:
            rgba = np.dstack([picture * shown[..., None], 255 * shown.astype(np.uint8)]).astype(np.uint8)
            cv2.imwrite(str(folder / f"{name}_imgs" / f"{number:08d}.png"), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))


def readings(folder: Path, scratch: Path, torso: bool) -> list[Reading]:
    """All ways to store the clips of a folder, made in `scratch`.

    Raises:
        UserError: there are no clips with pictures.
    """
    clips = list_clips(folder)
    first = Clip(clips[0])
    model = load_face_model(first.face_model)
    size = first.frames([0]).shape[1]
    config = ClipDataConfig(folder=str(folder), face_model=model.name, pncc_size=size, torso=torso)
    pack(folder, scratch / "shards")
    for path in clips:
        clip = Clip(path)
        write_loose(clip, scratch / "loose" / clip.name)
        shutil.copytree(path, scratch / "stored" / clip.name)
        np.save(scratch / "stored" / clip.name / f"pncc_{size}.npy", all_pncc(model, clip.face, size))

    def pairs(where: Path, drawn: str = "step") -> FramePairs:
        return FramePairs(replace(config, pncc=drawn), list_clips(where), model, neighbours=False)

    store = StoreConfig(cache=str(scratch / "cache"))
    local = clip_folder((scratch / "shards").resolve().as_uri(), store)
    return [
        Reading("prepared folder", pairs(folder), _bytes(folder)),
        Reading("shards", pairs(scratch / "shards"), _bytes(scratch / "shards")),
        Reading("shards of a store, in the cache", pairs(local), _bytes(scratch / "shards")),
        Reading("loose JPEG and PNG", LooseFrames(pairs(folder), scratch / "loose"), _bytes(scratch / "loose")),
        Reading("shards, PNCCs drawn by the workers", pairs(scratch / "shards", "loader"), _bytes(scratch / "shards")),
        Reading("prepared folder with stored PNCCs", pairs(scratch / "stored"), _bytes(scratch / "stored")),
    ]


def measure(reading: Reading, workers: int, pairs: int, seed: int) -> None:
    """Read about `pairs` pairs and add the rate and the cost of one."""
    before = _processor_seconds()
    sampler = StreamSampler(len(reading.dataset), BATCH, seed)
    config = LoaderConfig(batch=BATCH, workers=workers)
    loader = training_loader(reading.dataset, sampler, config, default_collate)
    batches = iter(loader)
    for _ in range(UNTIMED):
        next(batches)
    start, count = time.perf_counter(), -(-pairs // BATCH)
    for _ in range(count):
        next(batches)
    rate = count * BATCH / (time.perf_counter() - start)
    read = BATCH * (UNTIMED + count + workers * config.prefetch)  # the workers are ahead
    del batches, loader  # ends the workers, whose time counts then
    reading.rates.setdefault(workers, []).append(rate)
    reading.cost.setdefault(workers, []).append(1000 * (_processor_seconds() - before) / read)


def table(found: Sequence[Reading], seconds: float) -> str:
    """Markdown: bytes, and for each number of workers pairs a second, ratio to the first reading, and cost."""
    workers = list(found[0].rates)
    head = ["stored as", "MB a second of video"]
    for count in workers:
        head += [f"pairs/s, {count} workers", "ratio", "CPU ms a pair"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for reading in found:
        cells = [reading.name, f"{reading.size / seconds / 1e6:.2f}"]
        for count in workers:
            ratios = [own / base for own, base in zip(reading.rates[count], found[0].rates[count])]
            cells.append(f"{statistics.median(reading.rates[count]):.0f}")
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            cells.append(f"{statistics.median(reading.cost[count]):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def _planar(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _classes(colours: np.ndarray) -> np.ndarray:
    """Colours of a map [H, W, 3] -> classes [H, W]; each channel is 0 or 255, and their bits tell the classes apart."""
    bits = cv2.transform(colours, np.float32([[1 / 255, 2 / 255, 4 / 255]]))
    return cv2.LUT(bits, _class_of_bits())


@lru_cache
def _class_of_bits() -> np.ndarray:
    classes = np.zeros(256, np.uint8)
    classes[(CLASS_COLOURS // 255) @ np.array([1, 2, 4], np.uint8)] = np.arange(len(CLASS_COLOURS))
    return classes


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _check(options: argparse.Namespace) -> list[int]:
    try:
        workers = [int(text) for text in options.workers.split(",")]
    except ValueError as error:
        raise UserError(f"--workers is {options.workers}; give numbers such as 1,2") from error
    if min(workers) < 1 or options.pairs < 1 or options.rounds < 1:
        raise UserError("--workers, --pairs and --rounds are 1 or more")
    return workers


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 after a user's error."""
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark_loader", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of prepared clips")
    parser.add_argument("--workers", default="1,2", help="numbers of worker processes (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=200, help="read in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--without-torso", action="store_true", help="pairs of stage 2: no in-painted torso")
    options = parser.parse_args(arguments)

    def body() -> None:
        workers = _check(options)
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        with tempfile.TemporaryDirectory() as scratch:
            found = readings(options.folder, Path(scratch), not options.without_torso)
            for seed in range(options.rounds):
                for count in workers:
                    for reading in found:
                        measure(reading, count, options.pairs, seed)
        clips = [Clip(path) for path in list_clips(options.folder)]
        seconds = sum(map(len, clips)) / FRAME_RATE
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"{len(clips)} clips, {seconds:.1f} s; {options.rounds} rounds of {options.pairs} pairs; load {load}\n")
        print(table(found, seconds))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
