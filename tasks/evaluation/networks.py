"""The networks that a protocol's measures need: loaded once, or reported as missing. None of them stops a table."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from modules.audio.whisper import DEFAULT_WHISPER
from modules.metrics import networks
from modules.metrics.own_syncnet import OwnLipSync, load_own_lip_sync
from modules.system.errors import UserError
from tasks.evaluation.measures import OWN_SYNCNET, measures_of
from tasks.evaluation.settings import EvaluationConfig, Protocol


class Networks:
    """Networks by name.

    Attributes:
        loaded: those that are here.
        missing: name -> how to get it, in one line.
    """

    def __init__(
        self, protocol: Protocol, device: str, syncnet: Path, face_model: str, without: tuple[str, ...] = ()
    ) -> None:
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.loaded: dict[str, Callable] = {}
        self.missing: dict[str, str] = {}
        for name in dict.fromkeys(measure.network for measure in measures_of(protocol) if measure.network):
            if name in without:
                self.missing[name] = "left out by the key without"
                continue
            try:
                network = own_lip_sync(syncnet, face_model) if name == OWN_SYNCNET else networks.load(name, chosen)
            except UserError as error:  # a damaged file is a reason to say so, not to lose the other figures
                self.missing[name] = str(error)
                continue
            if isinstance(network, networks.Missing):
                self.missing[name] = network.how_to_get
            else:
                self.loaded[name] = network


def own_lip_sync(folder: Path, face_model: str) -> OwnLipSync:
    """This project's SyncNet, on the CPU; Whisper layers that lie beside it come first.

    Raises:
        UserError: it is missing or damaged, or was trained on another face model than that of the fits.
    """
    if not folder.is_dir():
        raise UserError(f"folder {folder}: python -m tasks.run configs/demo/syncnet.yaml trains one (syncnet=FOLDER)")
    beside = folder.parent / "whisper"
    network = load_own_lip_sync(folder, beside if beside.is_dir() else Path(DEFAULT_WHISPER))
    if network.face_model != face_model:
        raise UserError(f"{folder} was trained with face_model={network.face_model}, the fits are of {face_model}")
    return network


def load_networks(config: EvaluationConfig) -> Networks:
    """`Networks` of an evaluation, loaded once in a process."""
    return _load(config.protocol, config.device, config.syncnet, config.face_model, config.without)


@cache
def _load(protocol: Protocol, device: str, syncnet: Path, face_model: str, without: tuple[str, ...]) -> Networks:
    return Networks(protocol, device, syncnet, face_model, without)
