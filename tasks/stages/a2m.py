"""A2M, audio to motion: trains the VAE with flow prior that predicts expressions from speech.

    python -m tasks.run configs/a2m.yaml          (or configs/demo/a2m.yaml)

See the paper, audio-to-motion model, and docs/spec/training.md#1-5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from modules.audio.audio2motion import Audio2Motion, Audio2MotionConfig, Reconstruction, SpeechConditions
from modules.audio.features import FeatureKind, PitchKind, check_audio_size
from modules.audio.keypoints import Keypoints
from modules.audio.syncnet import AUDIO_WINDOW, WINDOW, SyncNet, SyncNetConfig, windows
from modules.face3d.coefficients import EXPRESSION_SIZE, IDENTITY_SIZE
from modules.face_models import check_face_model
from modules.losses import speech as losses
from modules.metrics.motion import lip_parting, mouth_correlation
from modules.system.checkpoint import find_checkpoint, load_module, read_config
from modules.system.config import from_dict
from modules.system.config_keys import meanings_of
from modules.system.errors import UserError
from tasks.data.speech_clips import Sample, SpeechDataConfig
from tasks.engine.registry import register
from tasks.engine.seeds import seeded
from tasks.engine.task import Metric, StepState
from tasks.stages.curves import curves
from tasks.stages.learning_rates import LearningRates
from tasks.stages.previews import face_video
from tasks.stages.speech_stage import SpeechTask
from tasks.stages.warm_start import SYNC_PART

CONDITIONS = ("audio", "f0", "blink", "mouth_amplitude", "eye_amplitude")  # of a batch, in the model's order
LATENT_FRAMES = 4  # video frames of a latent
LAPLACIANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "free": losses.laplacian,
    "zero_ends": losses.laplacian_zero_ends,
}


@dataclass(frozen=True, kw_only=True)
class A2MLossConfig:
    """Weights of the losses, of which 0 switches a term off; configs/a2m.yaml holds those of the released run."""

    kl: float = 0.0  # of the latent against its prior
    kl_rise: int = 2000  # cyclic annealing: steps in which the weight rises from 0 to `kl`,
    kl_hold: int = 2000  # then steps in which it stays there, before it starts again from 0
    expression: float = 0.0  # squared error of the coefficients
    landmarks: float = 0.0  # squared error of the landmarks
    laplacian: float = 0.0  # curvature of the motion in time
    laplacian_ends: Literal["free", "zero_ends"] = "free"  # zero_ends: as the original, which pulls the ends to 0
    magnitude: float = 0.0  # size of the coefficients
    closure: float = 0.0  # of the lips where they meet; not in the paper
    prior: float = 0.0  # of all terms of motion, for what the speech alone gives, without noise; not in the paper
    sync: float = 0.0  # of the sync network
    sync_pairs: int = 8096  # windows in a step

    def __post_init__(self) -> None:
        if self.kl_rise < 1 or self.kl_hold < 0 or self.sync_pairs < 1:
            raise ValueError(
                f"kl_rise {self.kl_rise} >= 1, kl_hold {self.kl_hold} >= 0, sync_pairs {self.sync_pairs} >= 1 must hold"
            )


LOSSES = {
    name: meaning
    for name, meaning in meanings_of(A2MLossConfig).items()
    if A2MLossConfig.__annotations__[name] is float
}


@dataclass(frozen=True, kw_only=True)
class A2MConfig:
    """The keys of A2M; `sync_checkpoint` is a checkpoint or a run of the syncnet task, or checkpoints/demo."""

    model: Audio2MotionConfig = field(default_factory=Audio2MotionConfig)
    features: FeatureKind = "hubert"  # of the sound
    pitch: PitchKind = "praat"  # tracker of the pitch: Praat's method, or world (pyworld); of the model.pitch condition
    face_model: str = "bfm"  # of modules/face_models.py
    data: SpeechDataConfig = field(default_factory=SpeechDataConfig)
    loss: A2MLossConfig = field(default_factory=A2MLossConfig)
    sync_checkpoint: str = ""  # checkpoint or run of syncnet, for loss.sync
    learning_rates: LearningRates = field(default_factory=LearningRates)
    init_from: str = ""  # checkpoint or run to start from, such as checkpoints/demo

    def __post_init__(self) -> None:
        check_face_model(self.face_model)
        check_audio_size(self.features, self.model.audio_size)
        if self.loss == A2MLossConfig():
            raise ValueError("no loss has a weight; the paper's weights are in configs/a2m.yaml")
        if self.loss.sync > 0 and not self.sync_checkpoint:
            raise ValueError(
                f"loss.sync is {self.loss.sync} but sync_checkpoint is empty; train the syncnet task and "
                "name its checkpoint, or set loss.sync=0"
            )
        if self.model.motion_size not in (EXPRESSION_SIZE, IDENTITY_SIZE + EXPRESSION_SIZE):
            raise ValueError(
                f"model.motion_size is {self.model.motion_size}; use {EXPRESSION_SIZE} for the expression "
                f"or {IDENTITY_SIZE + EXPRESSION_SIZE} for identity and expression"
            )
        if self.loss.expression > 0 and self.model.motion_size > EXPRESSION_SIZE:
            raise ValueError(
                f"loss.expression is {self.loss.expression}, but with an identity (model.motion_size "
                f"{self.model.motion_size}) the landmarks alone count; set it to 0"
            )


def load_syncnet(folder: str, features: FeatureKind, face_model: str) -> SyncNet:
    """Load a trained sync network, in eval mode and without gradients.

    Raises:
        UserError: there is no such checkpoint, or it is for other features or another face model.
    """
    checkpoint = find_checkpoint(folder, (SYNC_PART,))
    settings = read_config(checkpoint)
    for key, value in (("features", features), ("face_model", face_model)):
        if settings.get(key) != value:
            raise UserError(f"the sync network {folder} was trained with {key}={settings.get(key)}, not {value}")
    network = SyncNet(from_dict(SyncNetConfig, settings["model"]))
    load_module(checkpoint, "syncnet", network)
    return network.eval().requires_grad_(False)


@register("a2m")
class A2MTask(SpeechTask):
    """Train the audio-to-motion model; the sync network and the landmark bases are frozen."""

    config_class = A2MConfig
    config: A2MConfig
    logged = LOSSES
    metrics = {  # noqa: RUF012
        "loss": Metric("mean squared error of the landmarks, generated without noise"),
        "expression": Metric("mean squared error of the coefficients"),
        "mouth_correlation": Metric("correlation of the distance of the lips over time with the true one", "higher"),
    }

    def __init__(self, config: A2MConfig, generator: torch.Generator) -> None:
        super().__init__(config, generator)
        self.pitch = config.pitch if config.model.pitch else None
        with seeded(generator):
            self.modules = {"audio2motion": Audio2Motion(config.model)}
        self.frozen = {"landmarks": Keypoints(self.face, "lm468")}
        if config.loss.sync > 0:
            sync = load_syncnet(config.sync_checkpoint, config.features, config.face_model)
            self.frozen |= {"syncnet": sync, "sync_points": Keypoints(self.face, sync.config.keypoints)}

    def training_step(self, batch: Sample, step: int, optimizer: str, state: StepState) -> Mapping[str, Tensor]:
        """The weighted losses of docs/spec/training.md#1-5."""
        model: Audio2Motion = self.modules["audio2motion"]
        speech = speech_conditions(batch)
        noise = model.noise(*speech.f0.shape, state.generator).to(speech.audio)
        result = model.reconstruct(speech, self._target(batch), batch["mask"], noise)
        weights, terms = self.config.loss, {}
        for name, (weight, loss) in self._motion_terms(result.motion.float(), batch).items():
            terms |= state.weigh(name, weight, loss)
        if weights.prior > 0:  # the posterior sees closed lips, so that the prior need not hear them
            of_speech = self._motion_terms(self._generate(batch), batch).values()
            terms |= state.weigh("prior", weights.prior, sum(weight * loss for weight, loss in of_speech))
        weight = losses.kl_weight(step, weights.kl, weights.kl_rise, weights.kl_hold)
        terms |= state.weigh("kl", weight, self._divergence(result))
        if "syncnet" in self.frozen:
            terms |= state.weigh("sync", weights.sync, self._sync(result.motion, batch, state.generator))
        return terms

    def _target(self, batch: Sample) -> Tensor:
        """The target motion [B, T, 64], or [B, T, 144] with the identity first; 0 where padded."""
        if self.config.model.motion_size == EXPRESSION_SIZE:
            return batch["expression"]
        return torch.cat([batch["identity"][:, None] * batch["mask"][..., None], batch["expression"]], dim=-1)

    def _points(self, name: str, motion: Tensor, batch: Sample) -> Tensor:
        """Landmark displacements [B, T, P] of a motion, with its own identity if it has one."""
        identity, expression = motion[..., :-EXPRESSION_SIZE], motion[..., -EXPRESSION_SIZE:]
        if identity.shape[-1] == 0:
            return self.frozen[name](batch["identity"], expression)
        points = self.frozen[name](identity.flatten(0, 1), expression.flatten(0, 1)[:, None])
        return points[:, 0].unflatten(0, motion.shape[:2])

    def _motion_terms(self, motion: Tensor, batch: Sample) -> dict[str, tuple[float, Tensor]]:
        """Weights and losses of the predicted motion [B, T, D] that need no network."""
        weights, mask = self.config.loss, batch["mask"]
        parts = [part for part in (motion[..., :-EXPRESSION_SIZE], motion[..., -EXPRESSION_SIZE:]) if part.shape[-1]]
        terms = {
            "laplacian": (weights.laplacian, sum(LAPLACIANS[weights.laplacian_ends](part, mask) for part in parts)),
            "magnitude": (weights.magnitude, sum(losses.magnitude(part, mask) for part in parts)),
        }
        if len(parts) == 1:  # with an identity the landmarks alone count
            terms["expression"] = (weights.expression, losses.mean_square(motion, batch["expression"], mask))
        if weights.landmarks > 0 or weights.closure > 0:
            points = [self._points("landmarks", m, batch) for m in (motion, batch["expression"])]
            terms["landmarks"] = (weights.landmarks, losses.landmark_square(*points, mask))
            terms["closure"] = (weights.closure, losses.closure(*points, mask))
        return terms

    def _divergence(self, result: Reconstruction) -> Tensor:
        mean, log_scale = result.mean.float(), result.log_scale.float()
        if self.config.model.flow_couplings:
            return losses.kl_flow(
                mean, log_scale, result.latent.float(), result.prior_latent.float(), result.latent_mask
            )
        return losses.kl_normal(mean, log_scale, result.latent_mask)

    def _sync(self, motion: Tensor, batch: Sample, generator: torch.Generator) -> Tensor:
        """Loss of the sync network for random windows of the predicted motion (docs/spec/audio2motion.md#4-3)."""
        frames = motion.shape[1]
        rounds = max(1, self.config.loss.sync_pairs // len(motion))
        starts = torch.randint(frames - WINDOW + 1, (rounds,), generator=generator).to(motion.device)
        points = self._points("sync_points", motion, batch)
        sync: SyncNet = self.frozen["syncnet"]
        cosine = sync(windows(batch["audio"], 2 * starts, AUDIO_WINDOW), windows(points, starts, WINDOW))
        real = windows(batch["mask"][..., None], starts, WINDOW).amin(dim=(1, 2))
        return losses.mean_where(sync.loss(cosine, torch.ones_like(real)), real)

    def validation_step(self, batch: Sample) -> Mapping[str, Tensor | float]:
        """Compare motion that is generated without noise, not reconstructed, with the target."""
        motion, mask = self._generate(batch), batch["mask"]
        points, target = (self._points("landmarks", m, batch) for m in (motion, batch["expression"]))
        return {
            "loss": losses.landmark_square(points, target, mask),
            "expression": losses.mean_square(motion[..., -EXPRESSION_SIZE:], batch["expression"], mask),
            "mouth_correlation": mouth_correlation(points, target, mask),
        }

    def pictures(self, batch: Sample) -> Mapping[str, Tensor]:
        """The first utterance over time: parting of the lips and size of the expression, predicted and true."""
        sample = {name: value[:1] for name, value in batch.items()}
        frames, target, motion = int(sample["mask"].sum()), sample["expression"], self._generate(sample)
        lips, true_lips = (lip_parting(self._points("landmarks", m, sample))[0, :frames] for m in (motion, target))
        own = motion[0, :frames, -EXPRESSION_SIZE:]
        panels = {
            "lips apart (0.1 dm)": {"predicted": lips, "true": true_lips},
            "expression (norm)": {"predicted": own.norm(dim=-1), "true": target[0, :frames].norm(dim=-1)},
        }
        return {"expression": curves(panels, "one held-out utterance, generated without noise")}

    def videos(self, batch: Sample) -> Mapping[str, Tensor]:
        """Faces that speak the first utterance, with the predicted and with the target motion."""
        sample = {name: value[:1] for name, value in batch.items()}
        frames, identity, target = int(sample["mask"].sum()), sample["identity"], sample["expression"][0]
        motion = self._generate(sample)[0]
        own = motion[:, :-EXPRESSION_SIZE] if self.config.model.motion_size > EXPRESSION_SIZE else identity
        faces = [(own, motion[:frames, -EXPRESSION_SIZE:]), (identity, target[:frames])]
        return {"generated_truth": face_video(self.face, faces)}

    def _generate(self, batch: Sample) -> Tensor:
        """Motion [B, T, D] without noise, 0 where padded: each utterance alone, as padding would be heard."""
        model: Audio2Motion = self.modules["audio2motion"]
        lengths = LATENT_FRAMES * (batch["mask"].sum(dim=1) / LATENT_FRAMES).ceil().long()
        motion = batch["mask"].new_zeros(*batch["mask"].shape, self.config.model.motion_size)
        for length in lengths.unique().tolist():
            alike = lengths == length
            cut = {name: batch[name][alike, : 2 * length] for name in CONDITIONS}
            no_noise = cut["audio"].new_zeros(len(cut["audio"]), self.config.model.latent_size, length // LATENT_FRAMES)
            motion[alike, :length] = model.decode_noise(speech_conditions(cut), no_noise).to(motion)
        return motion


def speech_conditions(batch: Sample) -> SpeechConditions:
    """The model's conditions, taken from a batch of `tasks.data.speech_clips`."""
    return SpeechConditions(*(batch[name] for name in CONDITIONS))
