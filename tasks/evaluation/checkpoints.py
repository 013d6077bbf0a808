"""Our own checkpoints as methods: the one file of `tasks/` that uses `inference/`, to measure what that makes."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from inference.motion import Motion, natural_pose, periodic_blink
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.track import Track
from inference.workers import map_in_order
from modules.analysis.landmarks import detect_clip
from modules.analysis.segmentation import segment_crop
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_clip, fit_photo
from modules.media.pixels import to_pixels
from modules.portrait.driving import head_camera, project_landmarks, torso_keypoints
from modules.system.errors import UserError
from tasks.evaluation.clips import Source
from tasks.evaluation.methods import Scene, to_size


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of ours and not the videos of a method."""
    return (folder / "portrait").is_dir() or any(folder.glob("*.ckpt"))


class Checkpoint:
    """A checkpoint, driven by the clip's own coefficients (`drive` "motion") or by its sound ("sound").

    Frames of another size than the evaluation's are resized (cubic).
    """

    def __init__(self, name: str, folder: Path, talker: TalkingPortrait, drive: str, seed: int = 0) -> None:
        """
        Raises:
            UserError: it should listen and cannot.
        """
        self.name, self.origin, self.talker = name, f"checkpoint {folder}", talker
        if drive == "sound" and self.talker.speech is None:
            raise UserError(f"{folder} has no folder audio2motion: it cannot listen; leave it out of this protocol")
        self.drive, self.seed, self.by_sound = drive, seed, drive == "sound"

    def frames(self, scene: Scene) -> Iterator[np.ndarray]:
        """The frames of a case, S x S.

        Raises:
            UserError: the clip's face cannot be followed; or there is no sound.
        """
        make = self.from_sound if self.drive == "sound" else self.from_motion
        return to_size(make(scene), scene.clip.size)

    def from_motion(self, scene: Scene) -> Iterator[np.ndarray]:
        """Every frame of the clip from its own expression, pose and camera: nothing is mapped, smoothed or tied."""
        landmarks = detect_clip(scene.clip.frames(), name=scene.clip.path.name)
        face = fit_clip(self.talker.face_model, torch.from_numpy(landmarks).float())
        own = scene.case.source == scene.case.driver
        portrait = self.portrait(scene.source, face[0] if own else None)
        return self.render(portrait, face.replace(identity=portrait.identity))

    def from_sound(self, scene: Scene) -> Iterator[np.ndarray]:
        """What inference makes of the photo and the sound, with natural pose and blinks of the case's seed."""
        generator = torch.Generator().manual_seed(scene.case.seed(self.seed))
        motion = self.motion(scene, generator)
        motion = motion.with_pose(*natural_pose(len(motion), generator))
        motion = motion.with_blink(periodic_blink(len(motion), generator))
        return self.talker.frames(self.portrait(scene.source), motion)

    def motion(self, scene: Scene, generator: torch.Generator) -> Motion:
        """The lip motion of the clip's sound, head still.

        Raises:
            UserError: there is no sound, or it is unusable.
        """
        if scene.sound is None:
            raise UserError(f"{scene.clip.path.name} has no sound track")
        return self.talker.motion_from_speech(scene.sound, generator)

    def portrait(self, source: Source, face: FaceCoefficients | None = None) -> Portrait:
        """The photo as the checkpoint takes it, with a given fit (one row) or its own."""
        landmarks = source.landmarks
        face = face or fit_photo(self.talker.face_model, torch.from_numpy(landmarks).float())
        picture, classes = segment_crop(source.frame, source.box, landmarks, self.talker.size)
        return Portrait.from_picture(picture, classes, face, self.talker.face_model.name)

    def render(self, portrait: Portrait, face: FaceCoefficients) -> Iterator[np.ndarray]:
        """Frames of coefficients (T rows), exactly as they are: uint8 [s, s, 3], s of the checkpoint."""
        talker, track = self.talker, self.track(portrait, face)
        batch = talker.batch
        with torch.inference_mode():
            source = talker.model.encode(talker.photo(portrait, track))
            still = talker.still_pncc(portrait, track)

        def make(start: int) -> np.ndarray:
            with torch.inference_mode():
                driving = talker.driving(portrait, track, slice(start, start + batch), still)
                return to_pixels(talker.model(source, talker.readable(driving)).image)

        for frames in map_in_order(make, range(0, len(face), batch), talker.workers):
            yield from frames

    def track(self, portrait: Portrait, face: FaceCoefficients) -> Track:
        """Cameras, key points and expressions of coefficients as they are."""
        model, config = self.talker.face_model, self.talker.config.driving
        return Track(
            cameras=head_camera(face.euler, face.translation, config),
            keypoints=torso_keypoints(project_landmarks(model, face), inside=True),
            source_keypoints=torso_keypoints(project_landmarks(model, portrait.face), inside=True),
            expression=face.expression,
            closing=torch.zeros(len(face)),
            source_expression=face.expression[:1] if config.source_pncc == "first_driving" else portrait.expression,
        )


@lru_cache(maxsize=4)
def load_checkpoint(folder: Path, device: str) -> TalkingPortrait:
    """The networks of a checkpoint, loaded once in a process.

    Raises:
        UserError: what `TalkingPortrait.load` refuses.
    """
    return TalkingPortrait.load(folder, device)
