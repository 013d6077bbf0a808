"""Speech to motion: an audio-to-motion checkpoint, its features, and the face model whose expressions it speaks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from inference.motion import Motion, periodic_blink, still_pose
from modules.audio.amplitude import run_centres
from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, SpeechConditions
from modules.audio.features import (
    GROUP,
    FeatureKind,
    FeatureNetwork,
    PitchKind,
    check_speech,
    feature_frames,
    mel_frames,
    pitch_frames,
)
from modules.audio.hubert import DEFAULT_HUBERT, load_hubert
from modules.audio.pitch import Samples
from modules.audio.whisper import DEFAULT_WHISPER, WhisperFeatures, load_whisper
from modules.media.rates import FRAME_SAMPLES, SAMPLE_RATE
from modules.media.stored_sound import stored_mono
from modules.system.checkpoint import CONFIG, build_network, load_module, read_config, read_model_config
from modules.system.errors import UserError

_PART = 2048  # audio frames that are made together, about: 41 s


@dataclass(frozen=True, kw_only=True)
class SpeechStyle:
    """How speech is performed.

    Attributes:
        temperature: variety of the lip motion; 0 is the most likely one.
        mouth_amplitude: how wide the mouth opens.
        blinks: ask the model for a blink about every five seconds; its expressions close the eyes.
    """

    temperature: float = 0.2
    mouth_amplitude: float = 0.45
    blinks: bool = False


USUAL_STYLE = SpeechStyle()


def blink_condition(audio_frames: int, generator: torch.Generator) -> Tensor:
    """Blinks as the model knows them: of each of `periodic_blink` the middle frame.

    Args:
        audio_frames: Tx, two for each video frame.
    Returns:
        [1, Tx, 1] int64, 1 in the middle of a blink.
    """
    closing = periodic_blink(audio_frames // 2, generator)[:, 0]
    return run_centres(closing > 0).repeat_interleave(2)[None, :, None]


def drawn_noise(model: Audio2Motion, latents: int, generator: torch.Generator, temperature: float) -> Tensor:
    """Normal noise [1, C, latents] of deviation `temperature`, drawn latent after latent: more sound changes none."""
    rows = [torch.randn(1, model.config.latent_size, generator=generator) for _ in range(latents)]
    return temperature * torch.cat(rows).T[None]


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
        settings = read_model_config(folder, Audio2MotionConfig)
        model = build_network(folder, lambda: Audio2Motion(settings))
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
    def motion(self, audio: Path, generator: torch.Generator, style: SpeechStyle = USUAL_STYLE) -> Motion:
        """The motion of a speech file with a still head: a frame for every 40 ms of sound that have begun.

        Raises:
            UserError: no sound, an empty or damaged file; the model has no blinks among its conditions; or the package
                of its pitch is not installed.
        """
        if style.blinks and not self.model.config.blink:
            raise UserError("the checkpoint's audio-to-motion model has no blinks; draw them: --blink period")
        with stored_mono(audio, SAMPLE_RATE) as waveform:
            check_speech(audio, len(waveform))
            expression = self.expression(waveform, generator, style)
        frames = len(expression)
        return Motion(expression, *still_pose(frames), torch.zeros(frames, 1), self.face_model, relative=True)

    @torch.inference_mode()
    def expression(self, waveform: Samples, generator: torch.Generator, style: SpeechStyle = USUAL_STYLE) -> Tensor:
        """Expression coefficients [T, 64] on the CPU for speech [N] at 16 kHz, N >= 512, T = ceil(N / 640).

        Made in parts that overlap by what the network hears: with "whisper" features nothing but the result and the
        pitch grows with the length of the speech.
        """
        device, unit = next(self.model.parameters()).device, self._unit
        reach, part = unit * -(-self.model.config.reach // unit), unit * max(1, _PART // unit)
        hear, count = self._ears(waveform)
        f0 = pitch_frames(waveform, count, self.pitch)
        blink = blink_condition(count, generator) if style.blinks else None
        noise = drawn_noise(self.model, count // GROUP, generator, style.temperature)
        amplitude = torch.tensor([[style.mouth_amplitude]], device=device)
        parts = []
        for start in range(0, count, part):
            end = min(start + part, count)
            first, last = max(0, start - reach), min(end + reach, count)
            conditions = SpeechConditions(
                hear(first, last - first)[None].to(device),
                f0[None, first:last].to(device),
                None if blink is None else blink[:, first:last].to(device),
                amplitude,
            )
            motion = self.model.decode_noise(conditions, noise[:, :, first // GROUP : last // GROUP].to(device))
            parts.append(motion[0, (start - first) // 2 : (end - first) // 2].float().cpu())
        expression = torch.cat(parts)
        frames = -(-len(waveform) // FRAME_SAMPLES)
        index = torch.arange(frames).clamp(max=len(expression) - 1)  # features may end a frame early
        return expression[index]

    @property
    def _unit(self) -> int:
        """Audio frames of which parts hold a multiple."""
        return self.network.config.block if isinstance(self.network, WhisperFeatures) else GROUP

    def _ears(self, waveform: Samples) -> tuple[Callable[[int, int], Tensor], int]:
        """A function that gives features [frames, A] from a first frame on, and how many there are."""
        network = self.network
        if isinstance(network, WhisperFeatures):
            return partial(network.part, waveform), mel_frames(len(waveform))
        whole = torch.as_tensor(waveform[:]).to(next(self.model.parameters()).device)
        features = feature_frames(whole, self.features, network, self.model.config.hears_whole_end)
        return lambda first, frames: features[first : first + frames], len(features)

    @cached_property
    def network(self) -> FeatureNetwork | None:
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
