"""Clips of speech with motion for the audio stages: procedural, or prepared on disk and batched by length.

A sample is a function of the seed and its number alone, whatever the number of workers (docs/spec/training.md#4-4).
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from modules.audio.amplitude import blink_units, eye_amplitude, mouth_amplitude
from modules.audio.augment import AugmentConfig
from modules.audio.features import (
    FEATURE_WINDOW,
    MEL_BANDS,
    AudioFeatures,
    FeatureKind,
    PitchKind,
    extract,
    feature_frames,
    mel_frames,
)
from modules.audio.whisper import DEFAULT_WHISPER, load_whisper
from modules.clips.format import Clip, has_sound, write_speech
from modules.clips.splits import SplitConfig, check_folders, split_clips
from modules.clips.store import StoreConfig
from modules.clips.summary import ClipSummary, read_summary
from modules.face3d.morphable_model import MorphableModel
from modules.procedural.person import HELD_OUT_SEED
from modules.procedural.speech import rerecord, synthesize
from modules.system.errors import UserError
from tasks.engine.seeds import item_generator, item_seed

VALIDATION_UTTERANCES = 32
Sample = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class SpeechDataConfig:
    """The clips to read, and the limits of a batch.

    `folder` and `validation_folder` hold prepared clips; without the latter some people of `folder` are held out
    (`split`). No folder: procedural speech, synthesised during training, `seconds` long each. `augment` changes the
    sound that is trained on, before its features are extracted; stored features (HuBERT's) cannot be augmented.
    """

    folder: str = "data/voxceleb2"  # prepared clips; empty: procedural speech
    validation_folder: str = ""  # clips for validation; empty: some people of folder (split)
    store: StoreConfig = StoreConfig()  # of clips in object storage
    split: SplitConfig = SplitConfig()
    max_clips: int = 512  # clips in a batch
    max_tokens: int = 20_000  # audio frames of a batch, padding included
    min_frames: int = 32  # video frames; shorter clips are left out
    seconds: float = 4.16  # of a procedural utterance
    utterances: int = 100_000  # procedural utterances in an epoch
    augment: AugmentConfig = AugmentConfig()
    seed: int = 9999  # of procedural speech and of augmentation
    whisper: str = DEFAULT_WHISPER  # folder of scripts/convert_whisper.py; procedural speech with features whisper

    def __post_init__(self) -> None:
        if self.max_clips < 1:
            raise ValueError(f"max_clips is {self.max_clips}; it must be at least 1")
        check_folders(self.validation_folder, self.split)
        if self.seconds < 1 or self.min_frames < 25:
            raise ValueError(
                f"seconds is {self.seconds} (at least 1), min_frames {self.min_frames} (at least 25): "
                "pairs of the sync network are up to 10 frames apart"
            )


def length_buckets(sizes: list[int], max_clips: int, max_tokens: int) -> list[list[int]]:
    """Divide clips, sorted by length, into batches.

    Args:
        sizes: audio frames of each clip.
        max_clips, max_tokens: limits of a batch: clips, and audio frames with padding.
    Returns:
        Indices into `sizes`, batch by batch.
    Raises:
        UserError: one clip alone is longer than `max_tokens`.
    """
    batches: list[list[int]] = []
    largest = 0
    for clip in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if sizes[clip] > max_tokens:
            raise UserError(f"clip {clip} has {sizes[clip]} audio frames, max_tokens is {max_tokens}; raise it")
        largest = max(largest, sizes[clip])
        full = batches and (len(batches[-1]) >= max_clips or (len(batches[-1]) + 1) * largest > max_tokens)
        if not batches or full:
            batches.append([])
            largest = sizes[clip]
        batches[-1].append(clip)
    return batches


def make_sample(audio: AudioFeatures, identity: Tensor, expression: Tensor, model: MorphableModel) -> Sample:
    """One clip as the input and target of A2M, cut to whole latents (docs/spec/audio2motion.md#4-1).

    Args:
        audio: features of the speech, two frames for each video frame.
        identity: [1, 80].
        expression: [T, 64], the target.
        model: gives the landmarks from which blinks and amplitudes are measured.
    Returns:
        audio [Tx, A], f0 [Tx], blink [Tx, 1] int64, mouth_amplitude [1], eye_amplitude [1], identity [80],
        expression [Tx / 2, 64], mask [Tx / 2], which is 0 for frames that the video lacks.
    """
    landmarks = model.landmarks(identity, expression, 68)
    length = len(audio) // 8 * 8
    frames = min(length // 2, len(expression))
    missing = length // 2 - frames
    return {
        "audio": audio.features[:length],
        "f0": audio.f0[:length],
        "blink": F.pad(blink_units(landmarks)[:frames], (0, missing)).repeat_interleave(2)[:, None],
        "mouth_amplitude": mouth_amplitude(landmarks)[None],
        "eye_amplitude": eye_amplitude(landmarks)[None],
        "identity": identity[0],
        "expression": F.pad(expression[:frames], (0, 0, 0, missing)),
        "mask": F.pad(torch.ones(frames), (0, missing)),
    }


def collate(items: list[list[Sample]]) -> Sample:
    """Make a batch [B, ...] of lists of samples, padded with zeros at the end to the longest."""
    samples = [sample for item in items for sample in item]
    frames = max(len(s["mask"]) for s in samples)
    lengths = {"audio": 2 * frames, "f0": 2 * frames, "blink": 2 * frames, "expression": frames, "mask": frames}

    def padded(sample: Sample, name: str) -> Tensor:
        value = sample[name]
        if name not in lengths:
            return value
        return F.pad(value, (0, 0) * (value.ndim - 1) + (0, lengths[name] - len(value)))

    return {name: torch.stack([padded(sample, name) for sample in samples]) for name in samples[0]}


class ProceduralSpeech(Dataset):
    """Procedural utterances, all of one length; an item is a list of one sample.

    Args:
        count: number of items.
        first: number of the first utterance.
        features: mel or whisper.
    """

    def __init__(
        self,
        config: SpeechDataConfig,
        model: MorphableModel,
        count: int,
        first: int = 0,
        features: FeatureKind = "mel",
    ) -> None:
        self.config, self.model, self.count, self.first, self.features = config, model, count, first, features
        self.network = load_whisper(Path(config.whisper)) if features == "whisper" else None

    def __len__(self) -> int:
        return self.count

    @property
    def audio_size(self) -> int:
        """Numbers of an audio frame."""
        return MEL_BANDS if self.network is None else self.network.size

    def __getitem__(self, index: int) -> list[Sample]:
        return [self.sample(self.first + index)]

    def sample(self, number: int) -> Sample:
        """Utterance `number`, of a random speaker, face, room and microphone."""
        seed = item_seed(self.config.seed, number)
        random = torch.Generator().manual_seed(seed)
        utterance = synthesize(seed, self.config.seconds)
        change = self.config.augment.change(number % (1 + self.config.augment.variants), item_generator(seed, 1))
        audio, expression = change.of_sound(utterance.audio), change.of_motion(utterance.expression)
        features = feature_frames(rerecord(audio, seed), self.features, self.network)
        true_f0 = change.of_pitch(utterance.f0)[: len(features)]
        f0 = _as_tracked(F.pad(true_f0, (0, len(features) - len(true_f0))), random)
        identity = torch.randn(1, self.model.identity_basis.shape[-1], generator=random)
        return make_sample(AudioFeatures(features, f0), identity, expression, self.model)


def _as_tracked(f0: Tensor, generator: torch.Generator) -> Tensor:
    """The true pitch [T] with a pitch tracker's errors on a noisy recording: some frames count as unvoiced."""
    loss = 0.3 * torch.rand((), generator=generator) ** 2
    smooth = F.avg_pool1d(torch.rand(1, 1, len(f0) + 4, generator=generator), 5, 1)[0, 0]
    return torch.where(smooth < smooth.quantile(float(loss)), torch.zeros(()), f0)


class PreparedSpeech(Dataset):
    """Prepared clips with sound; an item is a list of samples of similar length, which are read when it is needed.

    Speech features are stored beside the clip. Mel features that are missing are computed when the clip is first read;
    those of HuBERT need it and are made before (data_gen/speech.py). With `augment` every clip comes as recorded and in
    changed versions, whose mel features are computed each time; a longer one is cut to its clip's length.

    Args:
        pitch: the tracker of all pitch, also of that which is stored; None: it is not read, and may be any.
    """

    def __init__(
        self,
        config: SpeechDataConfig,
        model: MorphableModel,
        features: FeatureKind,
        clips: list[Path],
        pitch: PitchKind | None = None,
    ) -> None:
        if config.augment.variants > 0 and features != "mel":
            raise UserError(
                f"data.augment changes sound, but {features} features are stored ones; set features=mel, or "
                "data.augment.variants=0"
            )
        self.config, self.model, self.features, self.pitch = config, model, features, pitch
        frames = {clip: self._frames(read_summary(clip) or Clip(clip)) for clip in clips}
        lengths = {clip: count for clip, count in frames.items() if count is not None}
        if missing := [clip for clip in clips if clip not in lengths]:
            raise UserError(
                f"{len(missing)} clips have no {features} features, {missing[0]} for one; compute them once with: "
                f"{self._command(missing[0].parent)}"
            )
        self.clips = [clip for clip, count in lengths.items() if count >= config.min_frames]
        if not self.clips:
            raise UserError(f"no clip of {clips[0].parent} has sound and {config.min_frames} frames")
        sizes = [2 * lengths[clip] for clip in self.clips]
        self.buckets = length_buckets(sizes, config.max_clips, config.max_tokens)

    def _command(self, folder: Path) -> str:
        return f"python -m data_gen.speech {folder} --features {self.features}"

    def __len__(self) -> int:
        return len(self.buckets) * (1 + self.config.augment.variants)

    @property
    def audio_size(self) -> int:
        """Numbers of an audio frame, those of the first clip."""
        stored = Clip(self.clips[0]).speech(self.features)
        return MEL_BANDS if stored is None else stored.features.shape[1]

    def __getitem__(self, index: int) -> list[Sample]:
        variant, bucket = divmod(index, len(self.buckets))
        return [self._changed(i, variant) if variant else self._sample(self.clips[i]) for i in self.buckets[bucket]]

    def _changed(self, number: int, variant: int) -> Sample:
        clip = Clip(self.clips[number])
        seed = item_seed(self.config.seed, variant * len(self.clips) + number)
        change = self.config.augment.change(variant, item_generator(seed, 1))
        sound = torch.from_numpy(self._sound(clip))
        audio = extract(change.of_sound(sound)[: len(sound)], self.features, pitch=self.pitch or "praat")
        expression = change.of_motion(clip.face.expression)[: len(clip)]
        return make_sample(audio, clip.face.identity[:1], expression, self.model)

    def _sample(self, folder: Path) -> Sample:
        clip = Clip(folder)
        audio = clip.speech(self.features) or self._computed(clip)
        return make_sample(audio, clip.face.identity[:1], clip.face.expression, self.model)

    def _computed(self, clip: Clip) -> AudioFeatures:
        """Compute the clip's features and store them, if its folder can be written."""
        audio = extract(torch.from_numpy(self._sound(clip)), self.features, pitch=self.pitch or "praat")
        with suppress(OSError):
            write_speech(clip.folder, self.features, audio)
        return audio

    def _sound(self, clip: Clip) -> np.ndarray:
        wave = clip.audio()
        if wave is None:
            raise UserError(f"{clip.folder} has lost its audio.wav; prepare the clip again")
        return wave

    def _frames(self, clip: Clip | ClipSummary) -> int | None:
        """How many video frames of a clip have sound, None if its features are missing and cannot be computed."""
        if clip.face_model != self.model.name:
            raise UserError(
                f"{clip.folder} was fitted with the {clip.face_model} face model, not {self.model.name}; "
                f"set face_model={clip.face_model}"
            )
        if stored := clip.stored_speech(self.features):
            length, pitch = stored
            if self.pitch not in (None, pitch):
                raise UserError(
                    f"{clip.folder} has the pitch of {pitch}, not of {self.pitch}; set pitch={pitch}, or compute the "
                    f"other with: {self._command(clip.folder.parent)} --pitch {self.pitch}"
                )
            return min(length // 2, len(clip))
        if (samples := clip.audio_length()) < FEATURE_WINDOW:
            return 0
        return min(mel_frames(samples) // 2, len(clip)) if self.features == "mel" else None


def speech_datasets(
    config: SpeechDataConfig, features: FeatureKind, model: MorphableModel, pitch: PitchKind | None = None
) -> tuple[ProceduralSpeech | PreparedSpeech, ProceduralSpeech | PreparedSpeech | None]:
    """The data sets for training and for validation, None if nobody is held out.

    Args:
        pitch: as of `PreparedSpeech`; procedural speech has its true pitch.
    Raises:
        UserError: HuBERT features are asked of procedural speech; features or the Whisper layers
            are missing; the folder has no usable clips.
    """
    as_recorded = replace(config, augment=AugmentConfig())  # for validation
    if not config.folder:
        if features == "hubert":
            raise UserError(
                "procedural speech has no hubert features; set features=mel, features=whisper or data.folder"
            )
        return (
            ProceduralSpeech(config, model, config.utterances, features=features),
            ProceduralSpeech(as_recorded, model, VALIDATION_UTTERANCES, HELD_OUT_SEED, features),
        )
    split = split_clips(config.folder, config.split, config.validation_folder, has_sound, config.store)
    train = PreparedSpeech(config, model, features, split.train, pitch)
    return train, PreparedSpeech(as_recorded, model, features, split.validation, pitch) if split.validation else None
