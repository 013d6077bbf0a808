"""HuBERT features through `transformers`, with the chunk rule of the released system.

See docs/spec/audio2motion.md#6-2.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from modules.media.rates import HOP
from modules.system.assets import locate
from modules.system.errors import UserError

DEFAULT_HUBERT = "facebook/hubert-large-ls960-ft"
RECEPTIVE_FIELD = 400  # samples under one frame
CHUNK = 320_000  # samples, 20 s: 1000 frames
FETCH = "python -m scripts.assets fetch hubert-large-ls960-ft"
UNUSED = {"masked_spec_embed"}  # tensors that only the training of HuBERT needs


class HubertFeatures(nn.Module):
    """A frozen HuBERT: normalises the whole wave, runs it in chunks of 20 s, joins the frames."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @property
    def size(self) -> int:
        """D, numbers of a frame."""
        return self.network.config.hidden_size

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz -> frames [(N - 80) // 320, D], 50 a second; fewer than 400 samples give no frame."""
        wave = waveform.float()
        if len(wave) < RECEPTIVE_FIELD:
            return wave.new_zeros(0, self.size)
        wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
        frames = [self.network(chunk[None]).last_hidden_state[0] for chunk in _chunks(wave)]
        return torch.cat(frames)


def _chunks(wave: Tensor) -> list[Tensor]:
    """Pieces of 20 s, each 80 samples into the next, then the rest if it is long enough for a frame."""
    whole = len(wave) // CHUNK
    pieces = [wave[i * CHUNK : (i + 1) * CHUNK + RECEPTIVE_FIELD - HOP] for i in range(whole)]
    rest = wave[whole * CHUNK :]
    return pieces + [rest] if len(rest) >= RECEPTIVE_FIELD else pieces


def load_hubert(source: str = DEFAULT_HUBERT) -> HubertFeatures:
    """Load a HuBERT from a local folder (config.json and weights), from the assets, or from the Hugging Face hub.

    Args:
        source: folder or hub name; for a hub name, the assets folder is searched first (hubert-large-ls960-ft).
    Raises:
        UserError: it is neither on this machine nor reachable, or damaged, or no HuBERT.
    """
    local = Path(source).expanduser()
    asset = locate(local.name) if local.name and not local.exists() else None
    origin = str(asset or (local if local.exists() else source))
    if Path(origin).exists() and not (Path(origin) / "config.json").is_file():
        raise UserError(f"{origin} holds no config.json; give the folder of a HuBERT model or a hub name")
    with _quiet_transformers():
        try:
            return HubertFeatures(_read(origin))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            if Path(origin).exists():
                raise UserError(f"{origin} cannot be read as a HuBERT ({reason}); get it again: {FETCH}") from error
            raise UserError(
                f"no HuBERT {source} here, and the Hugging Face hub gives none ({reason}); get it with: "
                f"{FETCH}, or name a local folder with --hubert"
            ) from error


def _read(origin: str) -> nn.Module:
    from transformers import HubertModel, PretrainedConfig  # seconds to import: only when it is used

    kind = PretrainedConfig.get_config_dict(origin)[0].get("model_type")
    if kind != "hubert":
        raise ValueError(f"its config.json is of a {kind}")
    network, report = HubertModel.from_pretrained(origin, output_loading_info=True)
    missing = sorted(set(report["missing_keys"]) - UNUSED)
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing: {', '.join(missing[:3])}")
    return network


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the progress bars and reports that `transformers` prints while it loads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
