"""Speech to motion: an audio-to-motion checkpoint, its features, and the face model whose expressions it speaks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from inference.motion import Motion, periodic_blink, still_pose
from modules.audio.amplitude import run_centres
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.features import FeatureKind, FeatureNetwork, PitchKind, extract, read_audio
from modules.audio.hubert import DEFAULT_HUBERT, load_hubert
from modules.audio.whisper import DEFAULT_WHISPER, WhisperFeatures, load_whisper
from modules.media.rates import FRAME_SAMPLES
from modules.system.checkpoint import CONFIG, load_module, read_config, read_model_config
from modules.system.errors import UserError


def blink_condition(audio_frames: int, generator: torch.Generator) -> Tensor:
    """Blinks as the model knows them: of each of `periodic_blink` the middle frame.

    Args:
        audio_frames: Tx, two for each video frame.
    Returns:
        [1, Tx, 1] int64, 1 in the middle of a blink.
    """
    closing = periodic_blink(audio_frames // 2, generator)[:, 0]
    return run_centres(closing > 0).repeat_interleave(2)[None, :, None]


@dataclass(frozen=True)
class SpeechToMotion:
    """Audio2Motion with the kind of its features and the name of its face model.

    Attributes:
        model: in eval mode.
        features: "whisper", "hubert" or "mel".
        face_model: name of the face model whose 64 expression modes come out.
        hubert: folder, asset or hub name of HuBERT; loaded with the first speech, and only for "hubert" features.
        whisper: folder of the first layers of Whisper; likewise.
        pitch: the tracker that the model was trained with; no other is used.
    """

    model: Audio2Motion
    features: FeatureKind
    face_model: str
    hubert: str = DEFAULT_HUBERT
    whisper: Path = Path(DEFAULT_WHISPER)
    pitch: PitchKind = "praat"

    @classmethod
    def load(cls, folder: Path, device: torch.device, hubert: str | None = None) -> "SpeechToMotion":
        """Read a folder with config.yaml and audio2motion.safetensors; a folder whisper beside it is for its features.

        Args:
            hubert: instead of the one that config.yaml names.
        Raises:
            UserError: missing, damaged or of another network.
        """
        config = {"pitch": "praat"} | read_config(folder)
        for key, kinds in (("features", get_args(FeatureKind)), ("pitch", get_args(PitchKind))):
            if config.get(key) not in kinds:
                raise UserError(
                    f"{folder} is no audio-to-motion checkpoint; {key} in its {CONFIG} is {config.get(key)}, none of "
                    f"{', '.join(kinds)}"
                )
        model = Audio2Motion(read_model_config(folder, Audio2MotionConfig))
        load_module(folder, "audio2motion", model)
        return cls(
            model.to(device).eval(),
            config["features"],
            config.get("face_model", "bfm"),
            hubert or config.get("hubert", DEFAULT_HUBERT),
            folder.parent / "whisper",
            config["pitch"],
        )

    @torch.inference_mode()
    def motion(
        self,
        audio: Path,
        generator: torch.Generator,
        temperature: float = 0.2,
        mouth_amplitude: float = 0.45,
        blinks: bool = False,
    ) -> Motion:
        """The motion of a speech file with a still head: a frame for every 40 ms of sound that have begun.

        Args:
            blinks: ask the model for a blink about every five seconds; its expressions close the eyes.
        Raises:
            UserError: no sound, an empty or damaged file; the model has no blinks among its conditions; or the package
                of its pitch is not installed.
        """
        if blinks and not self.model.config.blink:
            raise UserError("the checkpoint's audio-to-motion model has no blinks; draw them: --blink period")
        waveform = read_audio(audio)
        device = next(self.model.parameters()).device
        whole_end = self.model.config.hears_whole_end
        audio_features = extract(waveform.to(device), self.features, self._network, whole_end, self.pitch)
        expression = (
            self.model.generate(
                audio_features.features[None].to(device),
                audio_features.f0[None].to(device),
                blink_condition(len(audio_features), generator).to(device) if blinks else None,
                generator=generator,
                temperature=temperature,
                mouth_amplitude=torch.tensor([[mouth_amplitude]], device=device),
            )[0]
            .float()
            .cpu()
        )
        frames = -(-len(waveform) // FRAME_SAMPLES)
        index = torch.arange(frames).clamp(max=len(expression) - 1)  # features may end a frame early
        euler, translation = still_pose(frames)
        return Motion(expression[index], euler, translation, torch.zeros(frames, 1), self.face_model, relative=True)

    @cached_property
    def _network(self) -> FeatureNetwork | None:
        """The network of the features on the model's device, kept from one speech to the next; None for mel."""
        if self.features == "mel":
            return None
        hubert = self.features == "hubert"
        network, source = (load_hubert(self.hubert), self.hubert) if hubert else (self._whisper(), self.whisper)
        expected = self.model.config.audio_size
        if network.size != expected:
            advice = f"use {DEFAULT_HUBERT}" if hubert else "take the layers that it was trained with"
            raise UserError(
                f"the {'HuBERT' if hubert else 'Whisper'} {source} gives {network.size} numbers a frame, the "
                f"checkpoint listens to {expected}; {advice}"
            )
        return network.to(next(self.model.parameters()).device)

    def _whisper(self) -> WhisperFeatures:
        if not self.whisper.is_dir():
            raise UserError(
                f"no folder {self.whisper}: the checkpoint listens through the first layers of Whisper; copy "
                f"{DEFAULT_WHISPER} there, or make it with python -m scripts.convert_whisper"
            )
        return load_whisper(self.whisper)
