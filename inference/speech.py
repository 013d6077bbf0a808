"""Speech to motion: an audio-to-motion checkpoint, its features, and the face model whose expressions it speaks."""

from dataclasses import dataclass
from pathlib import Path

import torch

from inference.motion import FRAME_RATE, Motion, still_pose
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig
from modules.audio.features import SAMPLE_RATE, extract, read_audio
from modules.audio.hubert import DEFAULT_HUBERT, load_hubert
from modules.checkpoint import load_module, read_config
from modules.config import from_dict
from modules.errors import UserError


@dataclass(frozen=True)
class SpeechToMotion:
    """Audio2Motion with what it needs around it.

    Attributes:
        model: in eval mode.
        features: "hubert" or "mel".
        face_model: name of the face model whose 64 expression modes come out.
        hubert: folder or hub name of HuBERT; read when a speech comes, and only for "hubert" features.
    """

    model: Audio2Motion
    features: str
    face_model: str
    hubert: str = DEFAULT_HUBERT

    @classmethod
    def load(cls, folder: Path, device: torch.device, hubert: Path | None = None) -> "SpeechToMotion":
        """Read a folder with config.yaml and audio2motion.safetensors.

        Raises:
            UserError: missing, damaged or of another network.
        """
        config = read_config(folder)
        if "features" not in config or "model" not in config:
            raise UserError(f"{folder} is no audio-to-motion checkpoint; its config.yaml has no features or model")
        model = Audio2Motion(from_dict(Audio2MotionConfig, config["model"]))
        load_module(folder, "audio2motion", model)
        return cls(model.to(device).eval(), config["features"], config.get("face_model", "bfm"),
                   str(hubert or DEFAULT_HUBERT))

    @torch.inference_mode()
    def motion(self, audio: Path, generator: torch.Generator, temperature: float = 0.2,
               mouth_amplitude: float = 0.45) -> Motion:
        """The motion of a speech file with a still head: one frame per 40 ms of sound, at least one.

        Raises:
            UserError: no sound, an empty or damaged file.
        """
        waveform = read_audio(audio)
        device = next(self.model.parameters()).device
        hubert = load_hubert(self.hubert).to(device).eval() if self.features == "hubert" else None
        heard = extract(waveform, kind=self.features, hubert=hubert)
        expression = self.model.generate(
            heard.features[None].to(device), heard.f0[None].to(device), generator=generator, temperature=temperature,
            mouth_amplitude=torch.tensor([[mouth_amplitude]], device=device))[0].float().cpu()
        frames = max(1, round(len(waveform) / SAMPLE_RATE * FRAME_RATE))
        index = torch.arange(frames).clamp(max=len(expression) - 1)      # features may end a frame early
        euler, translation = still_pose(frames)
        return Motion(expression[index], euler, translation, torch.zeros(frames, 1), self.face_model)
