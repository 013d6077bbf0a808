"""The procedural world as a teacher: random people and expressions, head pictures from any camera, exact depth."""

from dataclasses import dataclass

import torch
from torch import Tensor

from modules.face3d.coefficients import CAMERA_DISTANCE, FOCAL_LENGTH, FaceCoefficients, euler_angles
from modules.geometry.camera import WORLD_OFFSET, WORLD_SCALE, Camera, pose_camera
from modules.procedural.clips import sample_motion
from modules.procedural.head import ProceduralModel
from modules.procedural.person import FIRST_HELD_OUT_SEED, Person, sample_person
from modules.procedural.render import render
from modules.teacher import TeacherViews

_TRAINING_SEEDS = 100_000
_EXPRESSION_FRAMES = 40


@dataclass(frozen=True, kw_only=True)
class ProceduralTeacherConfig:
    """Which people, and the range of poses (degrees, dm)."""

    held_out: bool = False
    yaw: float = 38.0
    pitch: float = 26.0
    roll: float = 5.0
    distance: tuple[float, float] = (-6.0, -4.0)      # t_z

    def __post_init__(self) -> None:
        if max(self.yaw, self.pitch) >= 90:
            raise ValueError(f"yaw {self.yaw} and pitch {self.pitch} must be below 90 degrees")
        if not self.distance[0] <= self.distance[1] < CAMERA_DISTANCE:
            raise ValueError(f"distance {self.distance} must be in order and below {CAMERA_DISTANCE}")


@dataclass(frozen=True)
class PosedPeople:
    """People and what their faces do: expression [B, 64]."""

    people: list[Person]
    expression: Tensor


class ProceduralTeacher:
    """Implements modules.teacher.Teacher without weights."""

    def __init__(self, config: ProceduralTeacherConfig, model: ProceduralModel) -> None:
        self.config, self.model = config, model

    def sample(self, batch: int, generator: torch.Generator) -> PosedPeople:
        """Random people with random expressions."""
        seeds = torch.randint(_TRAINING_SEEDS, (batch,), generator=generator)
        seeds = (seeds + FIRST_HELD_OUT_SEED * self.config.held_out).tolist()
        frames = torch.randint(_EXPRESSION_FRAMES, (batch,), generator=generator).tolist()
        expression = [sample_motion(seed, frame + 1).expression[-1] for seed, frame in zip(seeds, frames)]
        return PosedPeople([sample_person(seed) for seed in seeds], torch.stack(expression))

    def cameras(self, batch: int, generator: torch.Generator) -> Camera:
        """Random cameras in the configured range."""
        limits = torch.deg2rad(torch.tensor([self.config.pitch, self.config.yaw, self.config.roll]))
        euler = (2 * torch.rand(batch, 3, generator=generator) - 1) * limits
        near, far = self.config.distance
        shift = (2 * torch.rand(batch, 2, generator=generator) - 1) * 0.15
        distance = near + (far - near) * torch.rand(batch, 1, generator=generator)
        return pose_camera(euler, torch.cat([shift, distance], dim=1), FOCAL_LENGTH)

    def views(self, identities: PosedPeople, camera: Camera, size: int) -> TeacherViews:
        """Head pictures; the cameras must have the focal length 1015/224."""
        euler, translation = camera_pose(camera)
        pictures = []
        for row, person in enumerate(identities.people):
            face = FaceCoefficients(person.identity[None], identities.expression[row:row + 1], euler[row:row + 1],
                                    translation[row:row + 1])
            pictures.append(render(self.model, person, face, size, parts="head"))
        image, depth = (torch.cat([getattr(picture, name) for picture in pictures]) for name in ("image", "depth"))
        return TeacherViews(image, depth * WORLD_SCALE, camera)


def camera_pose(camera: Camera) -> tuple[Tensor, Tensor]:
    """Inverse of `pose_camera`: euler [B, 3] and translation [B, 3] dm of the head that the camera sees."""
    focal = camera.intrinsics[:, 0, 0]
    if not torch.allclose(focal, torch.full_like(focal, FOCAL_LENGTH), rtol=1e-4):
        raise ValueError(f"focal length {float(focal[0]):.4f}; the procedural world is seen with {FOCAL_LENGTH:.4f}")
    flip = focal.new_tensor([1.0, -1.0, -1.0])
    rotation = (camera.camera_to_world[:, :3, :3] * flip).mT                              # M
    position = (camera.camera_to_world[:, :3, 3] - focal.new_tensor(WORLD_OFFSET)) / WORLD_SCALE
    translation = focal.new_tensor([0, 0, CAMERA_DISTANCE]) - (rotation @ position[..., None])[..., 0]
    return euler_angles(rotation), translation
