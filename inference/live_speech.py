"""Speech that is still coming to motion: four frames as soon as enough sound behind them has been heard."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.motion import Motion, still_pose
from inference.options import LONGEST_LOOK_AHEAD
from inference.speech import SpeechToMotion, drawn_noise
from modules.audio.audio2motion import SpeechConditions
from modules.audio.features import FEATURE_WINDOW, GROUP, check_speech, feature_frames, mel_frames
from modules.audio.live_pitch import MARGIN, LivePitch
from modules.audio.whisper import WhisperFeatures
from modules.media.audio import mono_pieces
from modules.media.rates import FEATURE_RATE, FRAME_SAMPLES, HOP, SAMPLE_RATE
from modules.system.errors import UserError

_WINDOW = 512  # audio frames of which mel and HuBERT hear at most, 10 s: what is left of a whole sound


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """How speech is heard while it comes; see docs/live.md."""

    look_ahead: float = 0.32  # seconds of sound behind four frames that are waited for, rounded up to 0.16 s
    temperature: float = 0.2
    mouth_amplitude: float = 0.45

    def __post_init__(self) -> None:
        if not 0 <= self.look_ahead <= LONGEST_LOOK_AHEAD:
            raise ValueError(f"look_ahead is {self.look_ahead}; it must be from 0 to {LONGEST_LOOK_AHEAD:g} seconds")
        for name in ("temperature", "mouth_amplitude"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")

    @property
    def ahead(self) -> int:
        """Audio frames of look-ahead, a multiple of 8."""
        return GROUP * math.ceil(round(self.look_ahead * FEATURE_RATE / GROUP, 6))


class RecentSound:
    """The end of a sound that grows: `Samples` whose forgotten beginning must not be asked for."""

    def __init__(self) -> None:
        self._kept, self._start = np.zeros(0, np.float32), 0

    def __len__(self) -> int:
        return self._start + len(self._kept)

    def __getitem__(self, part: slice) -> np.ndarray:
        first, last, _ = part.indices(len(self))
        if first < min(self._start, last):
            raise IndexError(f"sample {first} is forgotten; the first that is kept is {self._start}")
        return self._kept[max(first - self._start, 0) : max(last - self._start, 0)]

    def append(self, samples: np.ndarray) -> None:
        """Samples [n] at the end."""
        self._kept = np.concatenate([self._kept, samples])

    def forget(self, before: int) -> None:
        """Drop the samples before that number."""
        cut = min(max(before - self._start, 0), len(self._kept))
        if cut:
            self._kept, self._start = self._kept[cut:].copy(), self._start + cut


class SpeechStream:
    """One speech, pushed in pieces of any size -> expression coefficients, four frames at a time.

    What comes out depends on the sound and on `LiveConfig` alone, not on the pieces.
    """

    def __init__(self, speech: SpeechToMotion, config: LiveConfig, generator: torch.Generator) -> None:
        """Nothing is heard yet.

        Raises:
            UserError: the checkpoint's pitch needs the whole sound.
        """
        if speech.pitch != "praat":
            raise UserError(
                f"the checkpoint was trained with the pitch {speech.pitch}, which needs the whole sound; "
                "it cannot listen live"
            )
        self._speech, self._config, self._generator = speech, config, generator
        self._device = next(speech.model.parameters()).device
        self._reach = GROUP * -(-speech.model.config.reach // GROUP)
        self._sound, self._made, self._ended = RecentSound(), 0, False  # made: audio frames
        self._pitch = LivePitch(2 * self._reach + config.ahead + 2 * GROUP)
        self._noise, self._drawn = torch.zeros(1, speech.model.config.latent_size, 0), 0  # latents that are kept
        network = speech.network
        self._whisper = network if isinstance(network, WhisperFeatures) else None
        self._blocks: dict[int, Tensor] = {}  # of Whisper, by their first frame

    def __len__(self) -> int:
        """Samples heard."""
        return len(self._sound)

    def push(self, samples: np.ndarray) -> list[Tensor]:
        """Hear on: samples [n] float32 at 16 kHz -> parts [4, 64] of the expression, on the CPU, that are determined.

        Raises:
            ValueError: the speech is finished.
        """
        if self._ended:
            raise ValueError("this speech is finished; begin another one")
        self._sound.append(samples)
        parts = []
        while (self._made + GROUP + self._config.ahead) * HOP + MARGIN <= len(self._sound):
            parts.append(self._part(self._made + GROUP + self._config.ahead))
        return parts

    def finish(self) -> list[Tensor]:
        """The rest, up to a frame for every 40 ms of sound that have begun: parts [4 or fewer, 64]."""
        self._ended = True
        length = len(self._sound)
        count, frames = mel_frames(length), -(-length // FRAME_SAMPLES)
        parts = []
        while self._made < count:
            left = frames - self._made // 2
            parts.append(self._part(min(self._made + GROUP + self._config.ahead, count))[:left])
        return parts

    @torch.inference_mode()
    def _part(self, heard: int) -> Tensor:
        """The next four frames [4, 64] from the first `heard` audio frames of the sound."""
        start, end = self._made, self._made + GROUP
        first, last = max(0, start - self._reach), min(end + self._reach, heard)
        known = len(self._sound) if self._ended else heard * HOP + MARGIN
        voiced = min(heard, (known - FEATURE_WINDOW) // HOP + 1) if self._ended else heard
        self._pitch.extend(self._sound, voiced, known)
        features = self._blocks_heard(first, last, heard) if self._whisper else self._window_heard(first, last, heard)
        conditions = SpeechConditions(
            features[None].to(self._device),
            torch.from_numpy(self._pitch.f0(first, last)).float()[None].to(self._device),
            None,
            torch.tensor([[self._config.mouth_amplitude]], device=self._device),
        )
        motion = self._speech.model.decode_noise(conditions, self._latents(first, last).to(self._device))
        self._made = end
        self._forget(heard)
        return motion[0, (start - first) // 2 : (end - first) // 2].float().cpu()

    def _latents(self, first: int, last: int) -> Tensor:
        """Noise [1, C, (last - first) / 8] of these audio frames."""
        more = last // GROUP - self._drawn
        if more > 0:
            new = drawn_noise(self._speech.model, more, self._generator, self._config.temperature)
            self._noise, self._drawn = torch.cat([self._noise, new], dim=2), self._drawn + more
        start = self._drawn - self._noise.shape[2]
        return self._noise[:, :, first // GROUP - start : last // GROUP - start]

    def _blocks_heard(self, first: int, last: int, heard: int) -> Tensor:
        """Whisper's frames [last - first, A]: of whole blocks as `part` has them, then of a window that ends now."""
        network = self._whisper
        block, after = network.config.block, network.config.after
        parts, at = [], first - first % block
        while at < last and (self._ended or at + block + after <= heard):
            if at not in self._blocks:
                self._blocks[at] = network.part(self._sound, at, block)
            parts.append(self._blocks[at])
            at += block
        begun = first - first % block
        if at < last:
            latest = network.latest(self._sound, heard)  # ends with frame `heard`
            parts.append(latest[len(latest) - (heard - at) :] if at > begun else latest[-(heard - first) :])
            begun = begun if at > begun else first
        return torch.cat(parts)[first - begun : last - begun]

    def _window_heard(self, first: int, last: int, heard: int) -> Tensor:
        """Frames [last - first, A] of a network, or of mel, that hears the last ten seconds as if they were all."""
        start = max(0, min(first, heard - _WINDOW))
        wave = torch.as_tensor(self._sound[start * HOP : len(self._sound) if self._ended else heard * HOP])
        wave = torch.nn.functional.pad(wave, (0, max(0, FEATURE_WINDOW - len(wave)))).to(self._device)
        speech = self._speech
        features = feature_frames(wave, speech.features, speech.network, speech.model.config.hears_whole_end)
        short = max(0, last - start - len(features))  # HuBERT's may end a frame early
        return torch.nn.functional.pad(features, (0, 0, 0, short))[first - start : last - start]

    def _forget(self, heard: int) -> None:
        """Drop what no later frame depends on."""
        first = max(0, self._made - self._reach)
        spare = max(0, first // GROUP - (self._drawn - self._noise.shape[2]))
        self._noise = self._noise[:, :, spare:]
        if self._whisper:
            config = self._whisper.config
            self._blocks = {at: part for at, part in self._blocks.items() if at + config.block > first}
            kept = min(heard - config.window - 2 * GROUP, first - config.before)
        else:
            kept = min(first, heard - _WINDOW)
        self._sound.forget((kept - 2) * HOP)


def live_expression(
    speech: SpeechToMotion, pieces: Iterable[np.ndarray], config: LiveConfig, generator: torch.Generator
) -> Tensor:
    """Expression [T, 64] of a speech in pieces [n] at 16 kHz as a session with the same settings makes it."""
    stream = SpeechStream(speech, config, generator)
    parts = [part for piece in pieces for part in stream.push(piece)]
    return torch.cat([*parts, *stream.finish()])


def live_motion(speech: SpeechToMotion, audio: Path, config: LiveConfig, generator: torch.Generator) -> Motion:
    """`SpeechToMotion.motion` with the ears of a session.

    Raises:
        UserError: what `SpeechToMotion.motion` refuses, or the checkpoint cannot listen live.
    """
    length = 0

    def counted() -> Iterable[np.ndarray]:
        nonlocal length
        for piece in mono_pieces(audio, SAMPLE_RATE):
            length += len(piece)
            yield piece
        check_speech(audio, length)

    expression = live_expression(speech, counted(), config, generator)
    frames = len(expression)
    return Motion(expression, *still_pose(frames), torch.zeros(frames, 1), speech.face_model, relative=True)
