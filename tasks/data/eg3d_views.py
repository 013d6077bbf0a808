"""Views of the frozen EG3D generator, the teacher of stage 1, rendered on the device during training.

The paper distils the image-to-plane model from EG3D; the numbers are in docs/spec/training.md#1-2 and #4-2. The data
set gives latents and cameras alone; `EG3DTeacher` renders a batch of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from modules.clips.format import Clip, list_clips
from modules.eg3d.generator import EG3DGenerator
from modules.geometry.camera import Camera, look_at_camera, pose_camera, uniform_cameras
from modules.layers.resample import resize
from modules.official.eg3d_snapshot import read_snapshot
from modules.portrait.discriminator import DualView
from modules.system.assets import find_asset
from tasks.data.teacher import TeacherBatch, TeacherViews
from tasks.engine.seeds import item_generator

CONDITIONING = {"spread": (0.2793, 0.1745), "radius": (2.7, 3.2)}  # yaw +-16 and pitch +-10 degrees
VALIDATION_TURN = 0.3491  # 20 degrees
EPOCH = 1_000_000  # items, although each is drawn anew


@dataclass(frozen=True, kw_only=True)
class EG3DViewsConfig:
    """The generator and the cameras of its views."""

    snapshot: str = "ffhqrebalanced512-128.pkl"  # an outside file, see `scripts.assets`
    truncation: float = 0.7  # psi
    pose_clips: str = ""  # folder of clips whose fitted cameras are every other view
    seed: int = 999


class EG3DSeeds(Dataset):
    """What an item is rendered from: latent z [512], conditioning camera [25], cameras [2, 25] of two views.

    Args:
        focal_length: of the cameras that are taken from clips, in picture widths.
        validation: number of items for validation, each with three fixed views [3, 25]; 0: items for training.
    """

    def __init__(self, config: EG3DViewsConfig, focal_length: float, validation: int = 0) -> None:
        self.config, self.focal_length, self.validation = config, focal_length, validation
        self.clips = list_clips(Path(config.pose_clips)) if config.pose_clips else []

    def __len__(self) -> int:
        return self.validation or EPOCH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = item_generator(self.config.seed + bool(self.validation), index)
        z = torch.randn(512, generator=generator)
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
    """The frozen EG3D generator as a teacher."""

    def __init__(self, generator: EG3DGenerator, config: EG3DViewsConfig, focal_length: float) -> None:
        super().__init__()
        self.generator, self.config, self.focal_length = generator, config, focal_length

    @classmethod
    def from_snapshot(cls, config: EG3DViewsConfig, focal_length: float) -> "EG3DTeacher":
        """A teacher with the released weights.

        Raises:
            UserError: the file is missing or damaged.
        """
        return cls(read_snapshot(find_asset(config.snapshot)).build(), config, focal_length)

    def train_dataset(self) -> Dataset:
        return EG3DSeeds(self.config, self.focal_length)

    def validation_dataset(self, people: int) -> Dataset:
        return EG3DSeeds(self.config, self.focal_length, people)

    @torch.no_grad()
    def forward(self, batch: Mapping[str, Tensor], neural_resolution: int) -> TeacherBatch:
        """Render a batch of `EG3DSeeds`; image_raw is the final image resized to the neural resolution."""
        ws = self.generator.styles(batch["z"], Camera.from_vector(batch["conditioning"]), self.config.truncation)
        planes = self.generator.planes(ws)
        views = []
        for vectors in batch["cameras"].unbind(dim=1):
            camera = Camera.from_vector(vectors)
            image = self.generator.render(planes, ws, camera).image.clamp(-1, 1)
            views.append(DualView(image, resize(image, neural_resolution), camera))
        return TeacherBatch(views, masks=[])

    def init_student(self, modules: Mapping[str, nn.Module]) -> None:
        """Copy the teacher's decoder and super-resolution where names and shapes agree."""
        for name in ("renderer", "superresolution"):
            copy_matching(getattr(self.generator, name), modules[name])


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
