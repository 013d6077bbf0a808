"""TalkingPortrait: loads the networks once, then turns a Portrait and a Motion into frames, a few at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from inference.background import pixels_before
from inference.clip_fit import fit_video
from inference.debug_panels import debug_panels
from inference.devices import choose_device, choose_precision
from inference.layers import Layers, plane_layers
from inference.live_speech import LiveConfig, live_motion
from inference.motion import Drawing, Motion
from inference.options import PORTRAIT_SUFFIX, RIG_SIZE
from inference.portrait import Portrait
from inference.rig import RigPainter
from inference.session import Paint, Session, SessionConfig
from inference.speech import USUAL_STYLE, SpeechStyle, SpeechToMotion
from inference.track import SMOOTHING, PoseMode, Track, make_track
from inference.views import Planes, View, depth_map, turned_motion
from inference.workers import FramePool, map_in_order
from modules.analysis.inpainting import BackgroundMethod
from modules.analysis.segmentation_classes import one_hot
from modules.face3d.coefficients import FaceCoefficients
from modules.face3d.morphable_model import MorphableModel
from modules.face_models import load_face_model
from modules.media.pixels import to_pixels
from modules.official.bfm import load_official_bfm
from modules.portrait.build import find_portrait, load_portrait, read_portrait_config
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.driving import Driving, PNCCInputs, draw_pncc, head_camera
from modules.portrait.photo import Photo, Surroundings
from modules.portrait.prepared import prepare
from modules.portrait.real3d_portrait import PortraitOutput, Real3DPortrait, Source
from modules.rig.config import RigConfig, draws_by_rig, read_rig_config
from modules.system.errors import UserError

Made = TypeVar("Made")  # of a frame: its pixels, or more
Renderer = Literal["planes", "rig"]
DEAF = "the checkpoint has no folder audio2motion: it cannot listen; give --driving or --motion"


class TalkingPortrait:
    """One photo and one motion -> frames.

    Attributes:
        config: the settings of the model.
        face_model: on the CPU, where photos and clips are fitted; PNCCs are drawn by a copy on the device.
        rig: settings of the renderer that does without the model (inference/rig.py).
        renderer: who draws unless told otherwise, "rig" or "planes".
    """

    def __init__(
        self,
        model: Real3DPortrait | Callable[[], Real3DPortrait],
        config: Real3DPortraitConfig,
        face_model: MorphableModel,
        speech: SpeechToMotion | None,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        rig: RigConfig | None = None,
    ) -> None:
        """`model`: the networks, or what reads them when first asked for; `rig`: None where the networks draw."""
        self._networks, self.config = model, config
        self.face_model = face_model.cpu()
        self._drawn_face = self.face_model if device.type == "cpu" else deepcopy(self.face_model).to(device)
        self.speech = speech
        self.device, self.dtype, self.rig = device, dtype, rig or RigConfig()
        self.renderer: Renderer = "planes" if rig is None else "rig"

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        device: str = "auto",
        precision: str = "float32",
        hubert: str | None = None,
        march: Literal["full", "band"] | None = None,
    ) -> "TalkingPortrait":
        """Read a folder that holds portrait/ and audio2motion/ (the latter is needed for speech alone).

        The networks are those of the checkpoint, prepared for inference (`modules.portrait.prepared`). Where the rig
        draws unless told otherwise, they are read when they are first asked for.

        Args:
            checkpoint: a folder that `scripts.export_checkpoint` or `scripts.convert_checkpoint` wrote.
            device: auto, cpu, cuda, cuda:N or mps.
            precision: "float32", "bf16", or "auto", see `choose_precision`.
            hubert: folder or hub name, instead of the one that the checkpoint names.
            march: of the renderer, instead of the checkpoint's (see `RendererConfig`).
        Raises:
            UserError: the folder, a file, a tensor, or the face model's file is missing; no such device.
        """
        chosen = choose_device(device)
        folder = find_portrait(checkpoint)
        config = read_portrait_config(folder)
        if march is not None:
            config = replace(config, renderer=replace(config.renderer, march=march))
        official = config.driving.torso_points == "official"
        face_model = load_official_bfm() if official else load_face_model(config.driving.face_model)
        dtype = choose_precision(precision, chosen)
        speech_folder = checkpoint / "audio2motion"
        speech = SpeechToMotion.load(speech_folder, chosen, hubert) if speech_folder.is_dir() else None
        talker = cls(
            lambda: prepare(load_portrait(folder, config), dtype),
            config,
            face_model,
            speech,
            chosen,
            dtype,
            read_rig_config(checkpoint) if draws_by_rig(checkpoint) else None,
        )
        return talker if talker.renderer == "rig" else talker.with_networks()

    @cached_property
    def model(self) -> Real3DPortrait:
        """The networks, in eval mode."""
        networks = self._networks if isinstance(self._networks, nn.Module) else self._networks()
        return networks.to(self.device).eval()

    def with_networks(self) -> "TalkingPortrait":
        """Itself, after its networks have been read.

        Raises:
            UserError: a file is missing, damaged or of another size.
        """
        self.model  # noqa: B018  (read at its first use)
        return self

    @property
    def size(self) -> int:
        """Pixels a side of the frames."""
        return self.config.resolution

    @property
    def batch(self) -> int:
        """Frames to render together by default: on a CPU several are no faster, but need more memory."""
        return 1 if self.device.type == "cpu" else 4

    @property
    def workers(self) -> int:
        """Threads that make frames side by side: on a CPU as many as PyTorch would use for one frame; elsewhere 0."""
        return torch.get_num_threads() if self.device.type == "cpu" else 0

    # ---- inputs

    def painter(
        self,
        source: Path | int,
        renderer: Renderer | None = None,
        size: int | None = None,
        face: int | None = None,
        inpainting: BackgroundMethod = "smooth",
        anyway: bool = False,
    ) -> Portrait | RigPainter:
        """What draws a person as `inference.run` does: a rig or, for the networks, a portrait.

        Args:
            source: a photo, a saved portrait (.safetensors), or the seed of a procedural person.
            renderer: None: the checkpoint's (`renderer`); a saved portrait is for the networks.
            size: pixels a side of the frames of a rig, without it 512; the networks have one size.
            face, inpainting, anyway: as of `portrait`.
        Raises:
            UserError: the photo shows no usable face, or the source is not for this renderer or checkpoint.
        """
        saved = isinstance(source, Path) and source.suffix.lower() == PORTRAIT_SUFFIX
        if (renderer or ("planes" if saved else self.renderer)) == "rig":
            return RigPainter.of(source, self.face_model, size or RIG_SIZE, self.device, self.rig, face, anyway)
        if saved:
            return self.check_portrait(Portrait.load(source))
        if isinstance(source, int):
            return self.procedural_portrait(source)
        return self.portrait(source, face, inpainting, anyway)

    def portrait(
        self, photo: Path, face: int | None = None, inpainting: BackgroundMethod = "smooth", anyway: bool = False
    ) -> Portrait:
        """Analyse a photo: landmarks, crop, masks, fit, in-painting. Raises UserError when it shows no usable face.

        Args:
            face: which one from the left, counted from 0, in a photo of several people.
            inpainting: how the background goes on behind the person, see `inpaint_background`.
            anyway: whether a covered face is mentioned rather than refused.
        """
        return Portrait.from_photo(photo, self.face_model, self.size, face, inpainting, anyway)

    def procedural_portrait(self, seed: int) -> Portrait:
        """The procedural person of `seed`; only for checkpoints of the procedural face model."""
        return Portrait.from_procedural(seed, self.face_model, self.size)

    def motion_from_speech(self, audio: Path, generator: torch.Generator, style: SpeechStyle = USUAL_STYLE) -> Motion:
        """Lip motion of a speech file, head still."""
        if self.speech is None:
            raise UserError(DEAF)
        return self.check_motion(self.speech.motion(audio, generator, style))

    def speaking_motion(self, audio: Path, seed: int = 0, style: SpeechStyle = USUAL_STYLE) -> Motion:
        """The motion of `inference.run --audio`: lips of the speech, natural head movement and blinks."""
        drawing = Drawing.of_seed(seed)
        return drawing.moved(self.motion_from_speech(audio, drawing.lips, style), blinks=not style.blinks)

    def motion_from_live_speech(self, audio: Path, generator: torch.Generator, config: LiveConfig) -> Motion:
        """The same with the ears of a `session`, which hear no more than its look-ahead of what is still to come."""
        if self.speech is None:
            raise UserError(DEAF)
        return self.check_motion(live_motion(self.speech, audio, config, generator))

    def motion_from_clip(self, clip: Path, which: int | None = None) -> Motion:
        """Expression and pose of the person in a clip, 25 frames a second; `which` as in `fit`."""
        face = self.fit(clip, which)
        blink = torch.zeros(len(face), 1)
        return Motion(face.expression, face.euler, face.translation, blink, self.face_model.name)

    def fit(self, clip: Path, which: int | None = None) -> FaceCoefficients:
        """Fit the face model to every frame of a clip at 25 frames a second.

        Args:
            which: the person to follow in a clip of several, from the left in the first frame, counted from 0.
        """
        return fit_video(self.face_model, clip, which)

    def check_portrait(self, portrait: Portrait) -> Portrait:
        """Refuse a face of another face model."""
        self._check_face_model("portrait", portrait.face_model)
        return portrait

    def check_motion(self, motion: Motion) -> Motion:
        """Refuse expressions of another face model."""
        self._check_face_model("motion", motion.face_model)
        return motion

    def _check_face_model(self, what: str, name: str) -> None:
        if name != self.face_model.name:
            raise UserError(
                f"the {what} is of the {name} face model, the checkpoint of {self.face_model.name}; "
                f"use a {what} made with this checkpoint"
            )

    # ---- frames

    def frames(
        self,
        painter: Portrait | RigPainter,
        motion: Motion,
        background: Tensor | str | None = None,
        batch: int | None = None,
        pose_mode: PoseMode = "relative",
    ) -> Iterator[np.ndarray]:
        """Render in constant memory.

        Args:
            painter: a portrait for the networks, or a photo's rig.
            background: a picture [1, 3, S, S] in [-1, 1], "transparent", or None for the photo's own.
            batch: frames rendered together; None: as the property `batch` says.
            pose_mode: whether the head starts in the photo's pose, as under a rig always, or has the motion's own,
                see `make_track`.
        Yields:
            uint8 [S, S, 3], or [S, S, 4] when transparent.
        """
        if isinstance(painter, RigPainter):
            yield from painter.frames(*self._for_rig(motion, background, batch, pose_mode))
            return
        pixels, background = pixels_before(background)
        track = self.track(painter, motion, pose_mode)
        yield from self._render(painter, track, background, batch, pixels)

    def layered_frames(
        self,
        painter: Portrait | RigPainter,
        motion: Motion,
        background: Tensor | str | None = None,
        batch: int | None = None,
        pose_mode: PoseMode = "relative",
    ) -> Iterator[tuple[np.ndarray, Layers]]:
        """`frames`, each with what it is made of, see `plane_layers` and `rig_layers`."""
        if isinstance(painter, RigPainter):
            yield from painter.layered_frames(*self._for_rig(motion, background, batch, pose_mode))
            return
        pixels, background = pixels_before(background)
        track = self.track(painter, motion, pose_mode)

        def both(driving: Driving, output: PortraitOutput) -> list[tuple[np.ndarray, Layers]]:
            return list(zip(pixels(driving, output), plane_layers(driving, output)))

        yield from self._render(painter, track, background, batch, both)

    def debug_frames(
        self,
        painter: Portrait | RigPainter,
        motion: Motion,
        background: Tensor | str | None = None,
        batch: int | None = None,
        pose_mode: PoseMode = "relative",
    ) -> Iterator[np.ndarray]:
        """The same with source, PNCC, raw render, depth and final picture side by side: uint8 [S, 5 S, 3]."""
        background = None if background == "transparent" else background
        if isinstance(painter, RigPainter):
            yield from painter.debug_frames(*self._for_rig(motion, background, batch, pose_mode))
            return

        def pixels(driving: Driving, output: PortraitOutput) -> np.ndarray:
            return to_pixels(debug_panels(painter.picture, driving, output))

        track = self.track(painter, motion, pose_mode)
        yield from self._render(painter, track, background, batch, pixels)

    def _for_rig(
        self, motion: Motion, background: Tensor | str | None, batch: int | None, pose_mode: PoseMode
    ) -> tuple[Motion, Tensor | str | None, int, int]:
        """What a rig wants to know for its frames."""
        if pose_mode != "relative":
            raise UserError(f"pose_mode is {pose_mode}; a rig always starts in the photo's pose")
        return self.check_motion(motion), background, batch or self.batch, self.workers

    def session(
        self,
        painter: Portrait | RigPainter,
        config: SessionConfig | None = None,
        background: Tensor | str | None = None,
    ) -> Session:
        """A head that speaks while the sound of its speech is still coming.

        Args:
            painter: a portrait for the networks, or a photo's rig.
            config: None: the defaults.
            background: as of `frames`.
        Raises:
            UserError: the checkpoint cannot listen (live), or the portrait is of another face model.
        """
        if self.speech is None:
            raise UserError(DEAF)
        config = config or SessionConfig()
        if isinstance(painter, RigPainter):
            workers = self._kept_workers()

            def paint(motion: Motion, part: slice) -> list[np.ndarray]:
                return list(painter.frames(motion[part], background, self.batch, workers))

            return Session(self.speech, paint, 0, config)
        return Session(self.speech, self._painter(self.check_portrait(painter), background), SMOOTHING // 2, config)

    # ---- in space

    def view(self, portrait: Portrait, yaw: float = 0.0, pitch: float = 0.0, expression: Tensor | None = None) -> View:
        """A finished picture of the portrait from another side, with depth and alpha.

        Args:
            yaw, pitch: degrees by which the head is turned from its pose in the photo: to the right side of the
                picture, and down.
            expression: [64], coefficients of the face model; None: the photo's.
        """
        return next(self._views(portrait, torch.tensor([yaw]), torch.tensor([pitch]), expression))

    def turntable(
        self, portrait: Portrait, yaw: float = 30.0, pitch: float = 10.0, frames: int = 100, turns: int = 1
    ) -> Iterator[View]:
        """Views while the head looks around in an ellipse of `yaw` by `pitch` degrees, `turns` times in `frames`."""
        angle = 2 * torch.pi * turns * torch.arange(frames) / frames
        return self._views(portrait, yaw * torch.sin(angle), -pitch * torch.cos(angle), None)

    def planes(self, portrait: Portrait) -> Planes:
        """P_cano, the tri-plane of the portrait's head, and what it holds at points in space."""
        track = self.track(portrait, turned_motion(portrait, torch.zeros(1), torch.zeros(1)))
        with self._inference():
            planes = self.model.canonical_planes(self.photo(portrait, track))
        return Planes(planes[0].float(), self.model.renderer)

    def _views(self, portrait: Portrait, yaw: Tensor, pitch: Tensor, expression: Tensor | None) -> Iterator[View]:
        track = self.track(portrait, turned_motion(portrait, yaw, pitch, expression))
        cameras = iter(range(len(yaw)))

        def maps(driving: Driving, output: PortraitOutput) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            depth = depth_map(output, self.size).cpu().numpy()
            alpha = output.decoded.alpha[:, 0].float().cpu().numpy()
            return list(zip(to_pixels(output.image), depth, alpha))

        for picture, depth, alpha in self._render(portrait, track, None, None, maps):
            number = next(cameras)
            yield View(picture, depth, alpha, track.cameras[number : number + 1])

    # ---- how

    def _render(
        self,
        portrait: Portrait,
        track: Track,
        background: Tensor | None,
        batch: int | None,
        pixels: Callable[[Driving, PortraitOutput], Iterable[Made]],
    ) -> Iterator[Made]:
        encoded = self._encode(portrait, track, background)
        yield from self._draw(portrait, track, encoded, range(len(track.cameras)), batch, pixels, self.workers)

    def _encode(self, portrait: Portrait, track: Track, background: Tensor | None) -> tuple[Source, Tensor]:
        """What all frames have in common: P_cano and more, and the PNCCs of `still_pncc`."""

        def encode(photo: Photo) -> tuple[Source, Tensor]:
            with self._inference():
                return self.model.encode(photo), self.still_pncc(portrait, track)

        [encoded] = map_in_order(encode, [self.photo(portrait, track, background)], min(1, self.workers))
        return encoded

    def _draw(
        self,
        portrait: Portrait,
        track: Track,
        encoded: tuple[Source, Tensor],
        part: range,
        batch: int | None,
        pixels: Callable[[Driving, PortraitOutput], Iterable[Made]],
        workers: int | FramePool,
    ) -> Iterator[Made]:
        """The frames `part` of a track."""
        batch, (source, still) = batch or self.batch, encoded

        def batch_of_frames(start: int) -> Iterable[Made]:
            with self._inference():
                driving = self.driving(portrait, track, slice(start, min(start + batch, part.stop)), still)
                return pixels(driving, self.model(source, self.readable(driving)))

        for frames in map_in_order(batch_of_frames, range(part.start, part.stop, batch), workers):
            yield from frames

    def _kept_workers(self) -> int | FramePool:
        """`workers` that stay for the thousands of short drawings of a session."""
        return FramePool(self.workers) if self.workers else 0

    def _painter(self, portrait: Portrait, background: Tensor | str | None) -> Paint:
        """A function that draws the frames `part` of a motion; what is the photo's alone is computed with the first."""
        pixels, background = pixels_before(background)
        kept: list[tuple[Source, Tensor]] = []
        workers = self._kept_workers()

        def paint(motion: Motion, part: slice) -> list[np.ndarray]:
            track = self.track(portrait, motion)
            if not kept:
                kept.append(self._encode(portrait, track, background))
            return list(self._draw(portrait, track, kept[0], range(part.start, part.stop), None, pixels, workers))

        return paint

    def track(self, portrait: Portrait, motion: Motion, pose_mode: PoseMode = "relative") -> Track:
        """The motion applied to the portrait, both of this checkpoint's face model; see `make_track`."""
        portrait, motion = self.check_portrait(portrait), self.check_motion(motion)
        return make_track(portrait, motion, self.face_model, self.config.driving, pose_mode)

    def photo(self, portrait: Portrait, track: Track, background: Tensor | None = None) -> Photo:
        """The photo as the model reads it, on the device."""
        camera = head_camera(portrait.euler, portrait.translation, self.config.driving)
        background = portrait.background if background is None else background
        surroundings = Surroundings(
            self._on_device(portrait.torso),
            self._on_device(one_hot(portrait.classes)),
            self._on_device(background),
            self._on_device(track.source_keypoints),
        )
        return Photo(self._on_device(portrait.head), camera.to(self.device), surroundings)

    def still_pncc(self, portrait: Portrait, track: Track) -> Tensor:
        """The PNCCs that no frame changes: canonical and source, [2, 3, N, N]."""
        return self._pncc(portrait, torch.cat([torch.zeros_like(portrait.expression), track.source_expression]))

    def driving(self, portrait: Portrait, track: Track, part: slice, still: Tensor) -> Driving:
        """Cameras, PNCCs and key points of the frames `part`, on the device; `still` is from `still_pncc`."""
        canonical, source = still.split(1)
        pncc = PNCCInputs(canonical, source, self._pncc(portrait, track.expression[part], track.closing[part]))
        return Driving(track.cameras[part].to(self.device), pncc, self._on_device(track.keypoints[part]))

    def readable(self, driving: Driving) -> Driving:
        """The driving without PNCCs for a model of stage 1, which turns the head but has one expression."""
        return driving if self.config.motion_adapter is not None else replace(driving, pncc=None)

    def _pncc(self, portrait: Portrait, expression: Tensor, closing: Tensor | None = None) -> Tensor:
        return draw_pncc(
            self._drawn_face,
            self._on_device(portrait.identity),
            self._on_device(expression),
            self.config.pncc_size,
            closing,
        )

    def _on_device(self, values: Tensor) -> Tensor:
        return values.to(self.device, torch.float32)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield
