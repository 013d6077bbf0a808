"""Views of the frozen EG3D generator, the teacher of stage 1, rendered on the device during training.

The paper distils the image-to-plane model from EG3D; the numbers are in docs/spec/training.md#1-2 and #4-2. The data
set gives latents and cameras alone; `EG3DTeacher` renders a batch of them.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.clips.format import Clip, list_clips
from modules.clips.store import StoreConfig, clip_folder
from modules.eg3d.generator import EG3DGenerator
from modules.geometry.camera import Camera, look_at_camera, pose_camera, uniform_cameras
from modules.layers.resample import resize
from modules.official.eg3d_snapshot import read_snapshot
from modules.official.names import to_ours
from modules.portrait.discriminator import DualView
from modules.rendering.superresolution import Superresolution, SuperresolutionConfig
from modules.system.assets import find_asset
from modules.system.errors import UserError
from tasks.data.teacher import TeacherBatch, TeacherViews
from tasks.engine.seeds import item_generator

CONDITIONING = {"spread": (0.2793, 0.1745), "radius": (2.7, 3.2)}  # yaw +-16 and pitch +-10 degrees
VALIDATION_TURN = 0.3491  # 20 degrees
EPOCH = 2**40  # items: each is drawn anew, and no run sees one twice


@dataclass(frozen=True, kw_only=True)
class EG3DViewsConfig:
    """The generator and the cameras of its views."""

    snapshot: str = "ffhqrebalanced512-128.pkl"  # an outside file, see `scripts.assets`
    truncation: float = 0.7  # psi
    pose_clips: str = ""  # folder of clips whose fitted cameras are every other view; empty: all views are drawn
    store: StoreConfig = StoreConfig()  # of those in object storage
    discriminator: Literal["snapshot", "random"] = "snapshot"  # the first weights of the student's
    seed: int = 999  # of people and views


class EG3DSeeds(Dataset):
    """What an item is rendered from: latent z [z_dim], conditioning camera [25], cameras [2, 25] of two views.

    Args:
        z_dim: numbers of a latent.
        focal_length: of the cameras that are taken from clips, in picture widths.
        clips: folders of clips; the camera of a view is that of one of their frames with probability 1/2.
        validation: number of items for validation, each with three fixed views [3, 25]; 0: items for training.
    """

    def __init__(
        self, seed: int, z_dim: int, focal_length: float, clips: Sequence[Path] = (), validation: int = 0
    ) -> None:
        self.seed, self.z_dim, self.focal_length = seed, z_dim, focal_length
        self.clips, self.validation = clips, validation

    def __len__(self) -> int:
        return self.validation or EPOCH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = item_generator(self.seed + bool(self.validation), index)
        z = torch.randn(self.z_dim, generator=generator)
        conditioning = uniform_cameras(1, generator, **CONDITIONING).vector()[0]
        if self.validation:
            yaw = VALIDATION_TURN * torch.tensor([0.0, 1.0, -1.0])
            cameras = look_at_camera(yaw, torch.zeros(3), 2.85, look_at=torch.tensor([0.0, 0.0, 0.2]))
            return {"z": z, "conditioning": conditioning, "cameras": cameras.vector()}
        cameras = uniform_cameras(2, generator).vector()
        for number in range(2 if self.clips else 0):
            if torch.rand((), generator=generator) < 0.5:
                cameras[number] = self._fitted_camera(generator)
        return {"z": z, "conditioning": conditioning, "cameras": cameras}

    def _fitted_camera(self, generator: torch.Generator) -> Tensor:
        """The camera [25] of a random frame of a random clip."""
        face = Clip(self.clips[int(torch.randint(len(self.clips), (), generator=generator))]).face
        frame = face[int(torch.randint(len(face), (), generator=generator))]
        return pose_camera(frame.euler, frame.translation, self.focal_length).vector()[0]


class EG3DTeacher(TeacherViews):
    """The frozen EG3D generator as a teacher.

    Args:
        generator: rays are best limited by its box: views stand farther away than its own cameras.
        discriminator: tensors by official names; None: there are none.
    Raises:
        UserError: `pose_clips` of the config holds no clips.
    """

    def __init__(
        self,
        generator: EG3DGenerator,
        config: EG3DViewsConfig,
        focal_length: float,
        discriminator: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.config, self.focal_length = generator, config, focal_length
        self.discriminator = discriminator
        self.clips = pose_clips(config.pose_clips, config.store)

    @classmethod
    def from_snapshot(cls, config: EG3DViewsConfig, focal_length: float) -> "EG3DTeacher":
        """A teacher with the released weights.

        The depths of its rays are where they meet the box of the planes, as in the original. Those that the file names
        suit cameras at 2.7 alone, and the views stand at 2.7 to 4 (docs/spec/sr_torso_eg3d.md#7-8 and #10-3).

        Raises:
            UserError: the file is missing or damaged, or there are no clips.
        """
        snapshot = read_snapshot(find_asset(config.snapshot))
        renderer = replace(snapshot.config.renderer, fixed_limits=None, missing_rays="skip")
        snapshot = replace(snapshot, config=replace(snapshot.config, renderer=renderer))
        return cls(snapshot.build(), config, focal_length, snapshot.discriminator)

    def train_dataset(self) -> Dataset:
        return EG3DSeeds(self.config.seed, self.generator.config.z_dim, self.focal_length, self.clips)

    def validation_dataset(self, people: int) -> Dataset:
        return EG3DSeeds(self.config.seed, self.generator.config.z_dim, self.focal_length, validation=people)

    @torch.no_grad()
    def forward(self, batch: Mapping[str, Tensor], neural_resolution: int) -> TeacherBatch:
        """Render a batch of `EG3DSeeds`; image_raw is the final image resized to the neural resolution.

        The pictures are float32 whatever autocast says.
        """
        with torch.autocast(batch["z"].device.type, enabled=False):
            ws = self.generator.styles(batch["z"], Camera.from_vector(batch["conditioning"]), self.config.truncation)
            planes = self.generator.planes(ws)
            views = []
            for vectors in batch["cameras"].unbind(dim=1):
                camera = Camera.from_vector(vectors)
                image = self.generator.render(planes, ws, camera).image.clamp(-1, 1)
                views.append(DualView(image, resize(image, neural_resolution), camera))
        return TeacherBatch(views, masks=[])

    def init_student(self, modules: Mapping[str, nn.Module]) -> None:
        """Copy the teacher's decoder and super-resolution where names and shapes agree, and its discriminator.

        The student's super-resolution has constant styles: the teacher's mean style, around which truncation psi
        leaves psi times the spread.

        Raises:
            UserError: pictures of another size, or no discriminator that fits.
        """
        theirs, own = deepcopy(self.generator.superresolution), cast(Superresolution, modules["superresolution"])
        check_size(theirs.config, own.config, self.config.snapshot)
        if self.generator.config.superresolution_styles == "mapped":
            theirs.make_constant(self.generator.backbone.mapping.w_avg)
        copy_matching(theirs, own)
        copy_matching(self.generator.renderer, modules["renderer"])
        if "discriminator" in modules and self.config.discriminator == "snapshot":
            load_discriminator(modules["discriminator"], self.discriminator, self.config.snapshot)


def pose_clips(folder: str, store: StoreConfig) -> list[Path]:
    """The clips that give cameras, in a folder or a store; none for an empty name.

    Raises:
        UserError: the folder has none.
    """
    try:
        return list_clips(clip_folder(folder, store)) if folder else []
    except UserError as error:
        raise UserError(
            f"{error} (eg3d.pose_clips: half of the teacher's cameras are those of clips), or set eg3d.pose_clips='' "
            "to draw all of them"
        ) from error


def check_size(theirs: SuperresolutionConfig, own: SuperresolutionConfig, name: str) -> None:
    """Refuse a teacher whose pictures have another size than the student's.

    Raises:
        UserError: they differ.
    """
    sizes = [config.resolution * config.scale for config in (theirs, own)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"the pictures of {name} have {sizes[0]} pixels a side, the model's {sizes[1]}; set model.picture_size to "
            f"{sizes[0]}, or use another snapshot"
        )


def load_discriminator(discriminator: nn.Module, state: Mapping[str, Tensor] | None, name: str) -> None:
    """Start a discriminator from that of a snapshot.

    Raises:
        UserError: there is none, or it has other sizes. Both are refused, not passed over: against a generator that
            imitates pictures already, a random discriminator is another recipe, and only the user can choose it.
    """
    advice = "use a network pickle as released, or eg3d.discriminator=random"
    if state is None:
        raise UserError(f"{name} has no discriminator D, from which stage 1 starts its own; {advice}")
    try:
        discriminator.load_state_dict(to_ours(state, "discriminator", discriminator))
    except UserError as error:
        raise UserError(f"the discriminator D of {name}: {error}; {advice}") from error


def copy_matching(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy the tensors of a state dict whose names and shapes agree, from source to target; returns their names."""
    available = source.state_dict()
    names = [
        name
        for name, value in target.state_dict().items()
        if name in available and available[name].shape == value.shape
    ]
    target.load_state_dict({name: available[name] for name in names}, strict=False)
    return names
