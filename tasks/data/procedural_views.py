"""The procedural teacher of stage 1: images of a procedural person's head from several cameras.

It stands in for EG3D, the paper's teacher (eg3d_views.py), where no network is at hand. Views are rendered once, by
several processes, and stored in a folder whose name is a hash of the settings; training reads pairs of them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import load_face_model
from modules.geometry.camera import pose_camera
from modules.layers.resample import resize
from modules.media.pixels import to_float, to_uint8
from modules.portrait.discriminator import DualView
from modules.procedural.clips import sample_motion
from modules.procedural.person import HELD_OUT_SEED, sample_person
from modules.procedural.render import render
from modules.system.files import whole_file
from modules.system.processes import run_all
from modules.system.progress import with_progress
from tasks.data.teacher import TeacherBatch, TeacherViews
from tasks.engine.seeds import item_generator

VERSION = 1  # of the rendering; part of the folder's name
FAN_STEP = 20  # degrees
EXPRESSION_FRAMES = 25  # length of the random motion from which a view's expression is drawn


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """People and cameras of the procedural teacher; angles in degrees, distances in decimetres (-t_z)."""

    people: int = 600  # seen in training
    views: int = 6  # images of each person
    first_seed: int = 0  # of the first person
    size: int = 256  # pixels a side of a view
    yaw: float = 38.0  # largest turn to a side, degrees
    pitch: float = 26.0  # largest nod, degrees
    roll: float = 5.0  # largest tilt, degrees
    nearest: float = 3.5  # distance of the head, decimetres
    farthest: float = 6.5  # likewise
    shift: float = 0.3  # largest sideways and vertical translation
    sources: int = 0  # views of each person that may be references, posed as in photos; 0: any view may be
    source_share: float = 0.3  # share of the ranges above, around their middles, in which the poses of sources lie
    poses: str = "random"  # or "fan": frontal, then turned by 20 degrees to one side, the other, 40, ...
    cache: str = "runs/cache"  # folder of rendered views
    workers: int = 2  # processes that render

    def __post_init__(self) -> None:
        if self.views < 2 or self.people < 1:
            raise ValueError(f"{self.people} people with {self.views} views; need at least 1 and 2")
        if self.poses not in ("random", "fan"):
            raise ValueError(f"poses is {self.poses}; use random or fan")
        if not 0 <= self.sources <= self.views or not 0 <= self.source_share <= 1:
            raise ValueError(
                f"sources is {self.sources}, 0 to views ({self.views}); source_share {self.source_share}, 0 to 1"
            )
        if not 0 <= self.nearest <= self.farthest < 10:
            raise ValueError(f"distances {self.nearest} to {self.farthest} must be in 0..10 and in order")


def view_poses(config: ViewsConfig, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Poses of `count` views, drawn uniformly or fixed (fan).

    Returns:
        Euler angles [count, 3] in radians, translations [count, 3] in decimetres.
    """
    if config.poses == "fan":
        turn = torch.arange(count)
        yaw = torch.deg2rad(FAN_STEP * ((turn + 1) // 2) * (2 * (turn % 2) - 1).float())
        middle = torch.tensor([0.0, 0.0, -(config.nearest + config.farthest) / 2])
        return torch.stack([0 * yaw, yaw, 0 * yaw], dim=1), middle.repeat(count, 1)
    middle, half = (config.nearest + config.farthest) / 2, (config.farthest - config.nearest) / 2
    ranges = torch.tensor(
        [
            *torch.deg2rad(torch.tensor([config.pitch, config.yaw, config.roll])).tolist(),
            config.shift,
            config.shift,
            half,
        ]
    )
    share = torch.ones(count, 1)
    share[: config.sources] = config.source_share
    poses = (2 * torch.rand(count, 6, generator=generator) - 1) * ranges * share
    return poses[:, :3], poses[:, 3:] - torch.tensor([0.0, 0.0, middle])


def render_views(config: ViewsConfig, seed: int, model: MorphableModel) -> dict[str, np.ndarray]:
    """Render the head of the person `seed` with one expression in `config.views` poses.

    Returns:
        images uint8 [V, 3, H, W] (black outside the head), masks bool [V, H, W], euler and translation [V, 3].
    """
    generator = item_generator(VERSION, seed)
    person = sample_person(seed)
    motion = sample_motion(seed, EXPRESSION_FRAMES)
    frame = int(torch.randint(EXPRESSION_FRAMES, (), generator=generator))
    euler, translation = view_poses(config, config.views, generator)
    face = FaceCoefficients(
        person.identity.reshape(1, -1), motion.expression[frame : frame + 1].repeat(config.views, 1), euler, translation
    )
    with torch.no_grad():
        rendered = render(model, person, face, config.size, parts="head")
    return {
        "images": to_uint8(rendered.image).numpy(),
        "masks": (rendered.classes > 0).numpy(),
        "euler": euler.numpy(),
        "translation": translation.numpy(),
    }


class CachedViews(Dataset):
    """Pairs of views, each of one person: image, mask and pose of a reference view and of a target view.

    An item holds images uint8 [2, 3, H, W], masks bool [2, H, W], euler and translation [2, 3]; with `every_view` it
    holds all views in their order instead of two random ones.
    """

    def __init__(
        self, config: ViewsConfig, pairs_per_person: int = 1000, seed: int = 0, every_view: bool = False
    ) -> None:
        self.config, self.pairs_per_person, self.seed, self.every_view = config, pairs_per_person, seed, every_view
        self.folder = views_folder(config)
        fill(config, "validation person" if every_view else "training person")

    def __len__(self) -> int:
        return self.config.people * self.pairs_per_person

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        person = index % self.config.people
        if self.every_view:
            return self.views(person, list(range(self.config.views)))
        generator, views = item_generator(self.seed, index), self.config.views
        reference = int(torch.randint(self.config.sources or views, (), generator=generator))
        target = (reference + int(torch.randint(1, views, (), generator=generator))) % views
        return self.views(person, [reference, target])

    def views(self, person: int, views: list[int]) -> dict[str, Tensor]:
        """The stored views of the given numbers of one person."""
        with np.load(view_file(self.folder, self.config.first_seed + person)) as stored:
            return {name: torch.from_numpy(stored[name][views]) for name in stored.files}


class ProceduralTeacher(TeacherViews):
    """The procedural teacher, whose views are rendered once and stored."""

    gives_masks = True

    def __init__(self, config: ViewsConfig, focal_length: float) -> None:
        super().__init__()
        self.config, self.focal_length = config, focal_length

    def train_dataset(self) -> Dataset:
        return CachedViews(self.config)

    def validation_dataset(self, people: int) -> Dataset:
        views = replace(self.config, people=people, first_seed=HELD_OUT_SEED, poses="fan", views=3)
        return CachedViews(views, pairs_per_person=1, every_view=True)

    def forward(self, batch: Mapping[str, Tensor], neural_resolution: int) -> TeacherBatch:
        """The views of a batch of `CachedViews`; image_raw is the image resized to the neural resolution."""
        views = []
        for k, stored in enumerate(batch["images"].unbind(dim=1)):
            image = to_float(stored)
            camera = pose_camera(batch["euler"][:, k], batch["translation"][:, k], self.focal_length)
            views.append(DualView(image, resize(image, neural_resolution), camera))
        return TeacherBatch(views, list(batch["masks"][:, :, None].unbind(dim=1)))


def views_folder(config: ViewsConfig) -> Path:
    """The folder of the views of these settings; it does not depend on which people are asked for."""
    settings = {
        name: value
        for name, value in asdict(config).items()
        if name not in ("people", "first_seed", "cache", "workers")
    }
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True).encode()).hexdigest()[:12]
    return Path(config.cache) / f"views_{digest}"


def view_file(folder: Path, seed: int) -> Path:
    """The file with the views of the person `seed`."""
    return folder / f"{seed:06d}.npz"


def people_to_render(config: ViewsConfig) -> int:
    """How many people the cache lacks; validation has some more."""
    return len(_missing(config))


def fill(config: ViewsConfig, unit: str) -> None:
    """Render the people that the cache lacks; files are written whole, so runs may be interrupted or parallel.

    Args:
        unit: what the progress calls one of them.
    """
    views_folder(config).mkdir(parents=True, exist_ok=True)
    missing = _missing(config)
    if not missing:
        return
    done = run_all(partial(_render_to_disk, config), missing, config.workers)
    for _ in with_progress(done, len(missing), unit):
        pass


def _missing(config: ViewsConfig) -> list[int]:
    seeds = range(config.first_seed, config.first_seed + config.people)
    return [seed for seed in seeds if not view_file(views_folder(config), seed).is_file()]


def _render_to_disk(config: ViewsConfig, seed: int) -> int:
    with whole_file(view_file(views_folder(config), seed)) as part, part.open("wb") as file:
        np.savez(file, **render_views(config, seed, load_face_model("procedural")))
    return seed
