"""Our own checkpoints as methods: the one file of `tasks/` that uses `inference/`, to measure what that makes."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from inference.devices import choose_device
from inference.motion import Motion, natural_pose, periodic_blink
from inference.pipeline import TalkingPortrait
from inference.portrait import Portrait
from inference.rig import RigPainter
from inference.speech import SpeechToMotion
from inference.track import Track
from inference.workers import map_in_order
from modules.analysis.crop import crop_picture
from modules.analysis.mediapipe_models import person_confidence
from modules.analysis.segmentation import ANALYSIS_SIZE, segment_crop
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.fitting import fit_photo
from modules.media.pixels import to_pixels
from modules.portrait.driving import head_camera, project_landmarks, torso_keypoints
from modules.rig.draw import draw
from modules.rig.motion import head_poses
from modules.rig.rig import RigPhoto
from modules.system.errors import UserError
from tasks.evaluation.clips import Source
from tasks.evaluation.methods import Scene, to_size

CANNOT_LISTEN = "{} has no folder audio2motion: it cannot listen; leave it out of this protocol"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of ours, or a part of one, and not the videos of a method."""
    return any((folder / part).is_dir() for part in ("portrait", "audio2motion")) or any(folder.glob("*.ckpt"))


class Checkpoint:
    """A checkpoint, driven by the clip's own coefficients (`drive` "motion") or by its sound ("sound").

    Frames of another size than the evaluation's are resized (cubic).
    """

    def __init__(self, name: str, place: str, talker: TalkingPortrait, drive: str, seed: int = 0) -> None:
        """
        Args:
            place: where it is, in words.
        Raises:
            UserError: it should listen and cannot.
        """
        self.name, self.origin, self.talker = name, f"checkpoint {place}", talker
        if drive == "sound" and self.talker.speech is None:
            raise UserError(CANNOT_LISTEN.format(place))
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
        face = scene.fit(self.talker.face_model)
        own = scene.case.source == scene.case.driver
        return self.exact(scene.source, face[0] if own else None, face)

    def from_sound(self, scene: Scene) -> Iterator[np.ndarray]:
        """What inference makes of the photo and the sound, with natural pose and blinks of the case's seed."""
        generator = torch.Generator().manual_seed(scene.case.seed(self.seed))
        motion = self.talker.motion_from_speech(scene.sound, generator)
        motion = motion.with_pose(*natural_pose(len(motion), generator))
        motion = motion.with_blink(periodic_blink(len(motion), generator))
        return self.performed(scene.source, motion)

    def performed(self, source: Source, motion: Motion) -> Iterator[np.ndarray]:
        """Frames as `inference.run` makes them."""
        return self.talker.frames(self.portrait(source), motion)

    def portrait(self, source: Source, face: FaceCoefficients | None = None) -> Portrait:
        """The photo as the checkpoint takes it, with a given fit (one row) or its own."""
        picture, classes = segment_crop(source.frame, source.box, source.landmarks, self.talker.size)
        return Portrait.from_picture(picture, classes, face or self.fitted(source), self.talker.face_model.name)

    def fitted(self, source: Source) -> FaceCoefficients:
        """The face of a photo, one row."""
        return fit_photo(self.talker.face_model, torch.from_numpy(source.landmarks).float())

    def exact(
        self, source: Source, photo_face: FaceCoefficients | None, face: FaceCoefficients
    ) -> Iterator[np.ndarray]:
        """Frames of coefficients (T rows), exactly as they are: uint8 [s, s, 3], s of the checkpoint.

        Args:
            photo_face: the fit of the photo, one row; None fits it.
        """
        portrait = self.portrait(source, photo_face)
        talker, track = self.talker, self.track(portrait, face.replace(identity=portrait.identity))
        batch = talker.batch
        with torch.inference_mode():
            encoded = talker.model.encode(talker.photo(portrait, track))
            still = talker.still_pncc(portrait, track)

        def make(start: int) -> np.ndarray:
            with torch.inference_mode():
                driving = talker.driving(portrait, track, slice(start, start + batch), still)
                return to_pixels(talker.model(encoded, talker.readable(driving)).image)

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


class RigCheckpoint(Checkpoint):
    """The motion of a checkpoint, drawn by the photo itself in 3D (`inference.run --renderer rig`) at the table's size.

    Its frames are of the size of the photo's square as the evaluation cuts it.
    """

    def painter(self, source: Source, face: FaceCoefficients | None = None) -> RigPainter:
        """The photo, ready to be moved, with a given fit (one row) or its own."""
        size = len(source.picture)
        picture, classes = segment_crop(source.frame, source.box, source.landmarks, max(size, ANALYSIS_SIZE))
        person = person_confidence(crop_picture(source.frame, source.box, ANALYSIS_SIZE))
        photo = RigPhoto(picture, classes, person, source.landmarks, face or self.fitted(source))
        return RigPainter(photo, self.talker.face_model, size, self.talker.device, self.talker.rig)

    def performed(self, source: Source, motion: Motion) -> Iterator[np.ndarray]:
        return self.painter(source).frames(motion, batch=self.talker.batch, workers=self.talker.workers)

    def exact(
        self, source: Source, photo_face: FaceCoefficients | None, face: FaceCoefficients
    ) -> Iterator[np.ndarray]:
        painter, batch = self.painter(source, photo_face), self.talker.batch
        _, translation = head_poses(face[0], face.euler, face.translation)  # no head of the rig swells
        rows = [x.to(self.talker.device) for x in (face.expression, face.euler, translation, torch.zeros(len(face)))]

        def make(start: int) -> np.ndarray:
            drawn = draw(painter.rig, *(x[start : start + batch] for x in rows), painter.size)
            return to_pixels(drawn.over(painter.rig.plate))

        for frames in map_in_order(make, range(0, len(face), batch), self.talker.workers):
            yield from frames


@lru_cache(maxsize=4)
def load_checkpoint(folder: Path, device: str) -> TalkingPortrait:
    """The networks of a checkpoint, loaded once in a process.

    Raises:
        UserError: what `TalkingPortrait.load` refuses.
    """
    return TalkingPortrait.load(folder, device)


@lru_cache(maxsize=4)
def load_speech(folder: Path, device: str) -> SpeechToMotion:
    """The network of a checkpoint that listens, loaded once in a process; nothing else of it is needed.

    Raises:
        UserError: there is none, or what `SpeechToMotion.load` refuses.
    """
    if not (folder / "audio2motion").is_dir():
        raise UserError(CANNOT_LISTEN.format(folder))
    return SpeechToMotion.load(folder / "audio2motion", choose_device(device))
