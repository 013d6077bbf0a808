"""TalkingPortrait: loads the networks once, then turns a Portrait and a Motion into frames, a few at a time."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from inference.motion import MOTION_FILES, Motion
from inference.portrait import Portrait
from inference.speech import SpeechToMotion, read_model_config
from modules.analysis.crop import clip_crop, crop_landmarks
from modules.analysis.landmarks import detect_clip
from modules.analysis.segmentation_classes import one_hot
from modules.face3d.blink import close_eyes
from modules.face3d.coefficients import FaceCoefficients, pose_points, project
from modules.face3d.fitting import fit_clip
from modules.face3d.morphable_model import MorphableModel
from modules.face3d.pncc import render_pncc
from modules.face_models import load_face_model
from modules.geometry.camera import Camera, pose_camera
from modules.geometry.trajectory import mirror_index, prepare_poses, smooth_cameras, smooth_features
from modules.media.pixels import to_pixels
from modules.media.video_reader import open_video
from modules.official.bfm import load_official_bfm
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Real3DPortraitConfig
from modules.system.checkpoint import load_module
from modules.system.errors import UserError

SMOOTHING = 7        # frames, of cameras and torso key points (spec face3d 8)


@dataclass(frozen=True)
class Track:
    """Per-frame inputs of the model that are cheap to hold for a whole video.

    Attributes:
        cameras: of T frames.
        keypoints: [T, 68, 3], driving landmarks in [-1, 1], y down, z = 0; source_keypoints: [1, 68, 3].
        expression: [T, 64], blinks applied where the face model has modes for them.
        closing: [T] in [0, 1], blinks that are drawn into the PNCC instead.
    """

    cameras: Camera
    keypoints: Tensor
    source_keypoints: Tensor
    expression: Tensor
    closing: Tensor


class TalkingPortrait:
    """One photo and one motion -> frames.

    Attributes:
        face_model: on the CPU, where photos and clips are fitted; PNCC pictures are drawn by a copy on the device.
    """

    def __init__(self, model: Real3DPortrait, face_model: MorphableModel, speech: SpeechToMotion | None,
                 device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.model = model.to(device).eval()
        self.face_model = face_model.cpu()
        self._drawn_face = self.face_model if device.type == "cpu" else deepcopy(self.face_model).to(device)
        self.speech = speech
        self.device, self.dtype = device, dtype

    @classmethod
    def load(cls, checkpoint: Path, device: str = "auto", precision: str = "float32",
             hubert: str | None = None) -> "TalkingPortrait":
        """Read a folder that holds portrait/ and audio2motion/ (the latter is needed for speech alone).

        Args:
            checkpoint: of `scripts.export_checkpoint` or `scripts.convert_checkpoint`.
            device: see `choose_device`.
            precision: "float32" or "bf16".
            hubert: folder or hub name, instead of the one that the checkpoint names.
        Raises:
            UserError: the folder, a file, a tensor, or the face model's file is missing; no such device.
        """
        place = choose_device(device)
        folder = find_portrait(checkpoint)
        config = read_model_config(folder, Real3DPortraitConfig)
        official = config.torso_points == "official"
        face_model = load_official_bfm() if official else load_face_model(config.face_model)    # first: may be missing
        model = load_portrait_model(folder, config)
        speech_folder = checkpoint / "audio2motion"
        speech = SpeechToMotion.load(speech_folder, place, hubert) if speech_folder.is_dir() else None
        dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
        return cls(model, face_model, speech, place, dtype)

    @property
    def size(self) -> int:
        """Pixels a side of the frames."""
        return self.model.config.resolution

    @property
    def batch(self) -> int:
        """Frames to render together where nobody says: on a CPU several are no faster, but need more memory."""
        return 1 if self.device.type == "cpu" else 4

    # ---- inputs

    def portrait(self, photo: Path, face: int | None = None) -> Portrait:
        """Analyse a photo (see `Portrait.from_photo`). Raises UserError when it shows no usable face."""
        return Portrait.from_photo(photo, self.face_model, self.size, face)

    def portrait_of_person(self, seed: int) -> Portrait:
        """A person made by code; only for checkpoints of the procedural face model."""
        if self.face_model.name != "procedural":
            raise UserError("this checkpoint knows no procedural people; give a photo with --source")
        return Portrait.from_procedural(seed, self.face_model, self.size)

    def motion_from_speech(self, audio: Path, generator: torch.Generator, temperature: float = 0.2,
                           mouth_amplitude: float = 0.45) -> Motion:
        """Lip motion of a speech file, head still."""
        if self.speech is None:
            raise UserError("the checkpoint has no folder audio2motion: it cannot listen; give --driving or --motion")
        return self.check_motion(self.speech.motion(audio, generator, temperature, mouth_amplitude))

    def motion_from_clip(self, clip: Path) -> Motion:
        """Expression and pose of the person in a clip, 25 frames a second."""
        face = self.fit(clip)
        blink = torch.zeros(len(face), 1)
        return Motion(face.expression, face.euler, face.translation, blink, self.face_model.name)

    def pose_from_file(self, path: Path, frames: int) -> tuple[Tensor, Tensor]:
        """Head pose of a clip or of a motion file, played forwards and backwards until `frames` are filled.

        Angles and decimetres mean the same in every face model, so the motion may be of another one; its 25 frames a
        second are checked when it is read, and clips are resampled to them.

        Returns:
            Euler angles [frames, 3] in radians and translations [frames, 3] in decimetres.
        """
        source = Motion.load(path) if path.suffix.lower() in MOTION_FILES else self.fit(path)
        index = mirror_index(torch.arange(frames), len(source))
        return source.euler[index], source.translation[index]

    def fit(self, clip: Path) -> FaceCoefficients:
        """Fit the face model to every frame of a clip at 25 frames a second."""
        info, frames = open_video(clip)
        landmarks = detect_clip(frames, name=clip.name)
        box = clip_crop((info.height, info.width), landmarks)
        inside = crop_landmarks(landmarks, (info.height, info.width), box)
        return fit_clip(self.face_model, torch.from_numpy(inside).float())

    def check_portrait(self, portrait: Portrait) -> Portrait:
        """Refuse a face of another face model."""
        if portrait.face_model != self.face_model.name:
            raise UserError(f"the portrait is of the {portrait.face_model} face model, the checkpoint of "
                            f"{self.face_model.name}; use a portrait made with this checkpoint")
        return portrait

    def check_motion(self, motion: Motion) -> Motion:
        """Refuse expressions of another face model."""
        if motion.face_model != self.face_model.name:
            raise UserError(f"the motion is of the {motion.face_model} face model, the checkpoint of "
                            f"{self.face_model.name}; use a motion made with this checkpoint")
        return motion

    # ---- frames

    def frames(self, portrait: Portrait, motion: Motion, background: Tensor | str | None = None,
               batch: int | None = None) -> Iterator[np.ndarray]:
        """Render in constant memory.

        Args:
            background: a picture [1, 3, S, S] in [-1, 1], "transparent", or None for the photo's own.
            batch: frames rendered together; None: see `batch`.
        Yields:
            uint8 [S, S, 3], or [S, S, 4] when transparent.
        """
        for output, _ in self._render(portrait, motion, background, batch):
            image = output.image
            if background == "transparent":
                image = torch.cat([image, 2 * output.alpha - 1], dim=1)
            yield from to_pixels(image)

    def debug_frames(self, portrait: Portrait, motion: Motion, background: Tensor | str | None = None,
                     batch: int | None = None) -> Iterator[np.ndarray]:
        """The same with source, PNCC, raw render, depth and final picture side by side: uint8 [S, 5 S, 3]."""
        for output, pncc in self._render(portrait, motion, None if background == "transparent" else background, batch):
            distance = torch.linalg.vector_norm(output.camera.camera_to_world[:, :3, 3], dim=-1).view(-1, 1, 1, 1)
            depth = (2 * (distance - output.depth)).clamp(-1, 1).expand(-1, 3, -1, -1)     # near bright, box half = 1
            source = portrait.picture.to(output.image).expand_as(output.image)
            panels = [F.interpolate(p.float(), size=(self.size, self.size), mode="nearest")
                      for p in (source, pncc, output.image_raw, depth, output.image)]
            yield from to_pixels(torch.cat(panels, dim=-1))

    def _render(self, portrait: Portrait, motion: Motion, background: Tensor | str | None,
                batch: int | None) -> Iterator[tuple[PortraitOutput, Tensor]]:
        batch = batch or self.batch
        track = self.track(self.check_portrait(portrait), self.check_motion(motion))
        scene = background if isinstance(background, Tensor) else portrait.background
        classes = one_hot(portrait.classes)
        with torch.inference_mode(), self._precision():
            camera = pose_camera(portrait.euler, portrait.translation, self.model.config.focal_length)
            planes = self.model.canonical_planes(self._here(portrait.head), camera.to(self.device))
            source = self.model.encode_source(self._here(portrait.torso), self._here(classes), self._here(scene))
            still = torch.cat([torch.zeros_like(portrait.expression), self._source_expression(portrait, track)])
            fixed = self._pncc(portrait, still)                                               # [2, 3, N, N]
        for start in range(0, len(motion), batch):
            part = slice(start, start + batch)
            with torch.inference_mode(), self._precision():
                pncc = self._driving_pncc(portrait, track, part)
                stack = self._adapter_input(fixed, pncc)
                output = self.model(planes, track.cameras[part].to(self.device), stack, source,
                                    self._here(track.source_keypoints), self._here(track.keypoints[part]))
            yield output, pncc

    def track(self, portrait: Portrait, motion: Motion) -> Track:
        """Cameras, key points and expressions of all frames (a few hundred bytes each)."""
        euler, translation = prepare_poses(portrait.euler, portrait.translation, motion.euler, motion.translation,
                                           len(motion))
        expression, closing = self._blinks(motion)
        points = self.face_model.landmarks(portrait.identity, expression, 68)
        keypoints = torso_keypoints(points, euler, translation)
        source = self.face_model.landmarks(portrait.identity, portrait.expression, 68)
        cameras = smooth_cameras(pose_camera(euler, translation, self.model.config.focal_length), SMOOTHING)
        return Track(cameras=cameras, keypoints=smooth_features(keypoints, SMOOTHING), expression=expression,
                     source_keypoints=torso_keypoints(source, portrait.euler, portrait.translation), closing=closing)

    def _blinks(self, motion: Motion) -> tuple[Tensor, Tensor]:
        """Blinks as expression where the face model has modes for them, else as closing amounts for the PNCC."""
        modes = self.face_model.blink_modes
        if not modes:
            return motion.expression, motion.blink[:, 0]
        expression = motion.expression.clone()
        expression[:, modes] = torch.maximum(expression[:, modes], motion.blink)
        return expression, torch.zeros(len(motion))

    def _source_expression(self, portrait: Portrait, track: Track) -> Tensor:
        first_driving = self.model.config.source_pncc == "first_driving"
        return track.expression[:1] if first_driving else portrait.expression

    def _here(self, values: Tensor) -> Tensor:
        return values.to(self.device, torch.float32)

    def _pncc(self, portrait: Portrait, expression: Tensor) -> Tensor:
        """PNCC of the portrait's person with expressions [B, 64]: [B, 3, N, N]."""
        return render_pncc(self._drawn_face, self._here(portrait.identity), self._here(expression),
                           self.model.pncc_size)

    def _driving_pncc(self, portrait: Portrait, track: Track, part: slice) -> Tensor:
        """PNCC of some frames, eyes closed where the face model cannot: [B, 3, N, N]."""
        pncc = self._pncc(portrait, track.expression[part])
        closing = track.closing[part].tolist()
        if any(closing):
            pncc = torch.stack([close_eyes(p, amount) for p, amount in zip(pncc, closing)])
        return pncc

    def _adapter_input(self, fixed: Tensor, driving: Tensor) -> Tensor | None:
        """What the motion adapter reads [B, K, 3, N, N]: canonical, source, driving, or the first and the last of them.

        Args:
            fixed: [2, 3, N, N], canonical and source.
            driving: [B, 3, N, N].
        """
        if self.model.motion_adapter is None:             # stage 1: a head that turns, but has one expression
            return None
        canonical, source = (picture.expand_as(driving) for picture in fixed)
        return self.model.config.motion_adapter.stack(canonical, source, driving)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def find_portrait(checkpoint: Path) -> Path:
    """The folder of a checkpoint that holds the portrait model.

    Raises:
        UserError: there is none; of the original's files it says that they must be converted.
    """
    folder = checkpoint / "portrait"
    if folder.is_dir():
        return folder
    if checkpoint.suffix == ".ckpt" or any(checkpoint.glob("*.ckpt")):
        raise UserError(f"{checkpoint} is a checkpoint of the original; convert it: "
                        f"python -m scripts.convert_checkpoint {checkpoint} checkpoints/official")
    raise UserError(f"no checkpoint in {checkpoint}; it must hold a folder portrait (and audio2motion)")


def load_portrait_model(folder: Path, config: Real3DPortraitConfig) -> Real3DPortrait:
    """The model of `config` with the weights in `folder`.

    Raises:
        UserError: a file or a tensor is missing, damaged or of another size.
    """
    model = Real3DPortrait(config)
    for name, part in model.named_children():
        load_module(folder, name, part)
    return model


def torso_keypoints(points: Tensor, euler: Tensor, translation: Tensor) -> Tensor:
    """Canonical landmarks [T, 68, 3] and poses [T, 3] -> projected, clamped to [-1, 1], z = 0 (spec face3d 2.3)."""
    fractions = project(pose_points(points, euler, translation))                     # [T, 68, 2]
    return F.pad((2 * fractions - 1).clamp(-1, 1), (0, 1))


def choose_device(name: str) -> torch.device:
    """auto (CUDA if there is one), cpu, cuda, cuda:N, mps.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used here ({reason}); use auto or cpu") from error
    return device
