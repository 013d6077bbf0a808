"""This project's own SyncNet as a measure of lip sync: it needs no download, sees the fitted face, hears the sound.

It is trained on synthetic speech (`tasks/stages/syncnet.py`), so its numbers are its own and compare with no published
ones.
"""

from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from modules.audio.features import FeatureKind, FeatureNetwork, feature_frames
from modules.audio.keypoints import Keypoints
from modules.audio.syncnet import WINDOW, SyncNet, SyncNetConfig
from modules.audio.whisper import load_whisper
from modules.face_models import load_face_model
from modules.metrics.sync import SoundLag, SyncScore, own_sync_score, sound_lag
from modules.system.checkpoint import build_network, find_checkpoint, load_module, read_config, read_model_config
from modules.system.errors import UserError


class OwnLipSync:
    """Expressions of a fit, and sound -> `SyncScore`.

    Attributes:
        face_model: name of the model whose coefficients it sees.
    """

    def __init__(self, network: SyncNet, kind: FeatureKind, hearing: FeatureNetwork | None, face_model: str) -> None:
        """
        Args:
            kind: "mel" or "whisper"; `hearing`: what makes features of the latter.
        """
        self.network, self.kind, self.hearing, self.face_model = network.eval(), kind, hearing, face_model
        self.points = Keypoints(load_face_model(face_model), network.config.keypoints)

    @torch.inference_mode()
    def __call__(self, identity: Tensor, expression: Tensor, waveform: Tensor) -> SyncScore | None:
        """How well lips and sound agree, at the best of 31 offsets.

        Args:
            identity: [80]; expression: [T, 64] of the fit, 25 a second; NaN rows (no face) repeat the row before.
            waveform: [N] at 16 kHz.
        Returns:
            None where there is no face, or less than a window of both.
        """
        seen = expression.isfinite().all(dim=1)
        audio = self.heard(waveform)
        if not seen.any() or min(len(expression), len(audio) // 2) < WINDOW + 1:
            return None
        numbers = torch.where(seen, torch.arange(len(seen)), -1).cummax(0).values
        whole = expression[numbers.clamp(min=int(seen.nonzero()[0]))]
        return own_sync_score(self.network, audio, self.points(identity[None], whole[None])[0])

    @torch.inference_mode()
    def lag(self, identity: Tensor, expression: Tensor, waveform: Tensor, reach: int) -> SoundLag | None:
        """By how much the sound is late (`sound_lag`), at most `reach` frames; None for less than a second.

        Args:
            identity: [1, 80]; expression: [T, 64] of a fit with a face in every frame.
            waveform: [N] at 16 kHz.
        """
        return sound_lag(self.network, self.heard(waveform), self.points(identity, expression[None])[0], reach)

    def heard(self, waveform: Tensor) -> Tensor:
        """What the network hears of a sound [N] at 16 kHz: [Tx, A] at 50 Hz."""
        return feature_frames(waveform.float(), self.kind, self.hearing)


def load_own_lip_sync(folder: Path, whisper: Path) -> OwnLipSync:
    """Read a checkpoint or a run of the stage SyncNet.

    Args:
        folder: with config.yaml and syncnet.safetensors, or with such a folder syncnet; or a run of `tasks.run`.
        whisper: folder of the Whisper layers, for one that was trained on their features.
    Raises:
        UserError: it is not there, damaged, or hears features of HuBERT.
    """
    checkpoint = find_checkpoint(folder, ("syncnet",))
    config = read_config(checkpoint)
    kind = config.get("features")
    if kind not in get_args(FeatureKind) or kind == "hubert":
        raise UserError(f"{folder} was trained with features={kind}; the measure needs one of mel or whisper")
    settings = read_model_config(checkpoint, SyncNetConfig)
    network = build_network(checkpoint, lambda: SyncNet(settings))
    load_module(checkpoint, "syncnet", network)
    hearing = load_whisper(whisper) if kind == "whisper" else None
    return OwnLipSync(network.requires_grad_(False), kind, hearing, str(config.get("face_model", "bfm")))
