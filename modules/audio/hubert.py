"""HuBERT features through `transformers`, with the chunk rule of the released system (spec audio2motion 6.2)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from modules.errors import UserError

DEFAULT_HUBERT = "facebook/hubert-large-ls960-ft"
RECEPTIVE_FIELD = 400          # samples under one frame
HOP = 320
CHUNK = 320_000                # samples, 20 s: 1000 frames


class HubertFeatures(nn.Module):
    """A frozen HuBERT: normalises the whole wave, runs it in chunks of 20 s, joins the frames."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """waveform [N] at 16 kHz -> frames [(N - 80) // 320, D]; a wave shorter than 400 samples gives no frame."""
        wave = waveform.float()
        if len(wave) < RECEPTIVE_FIELD:
            return wave.new_zeros(0, self.network.config.hidden_size)
        wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
        frames = [self.network(chunk[None]).last_hidden_state[0] for chunk in _chunks(wave)]
        return torch.cat(frames)


def _chunks(wave: Tensor) -> list[Tensor]:
    """Pieces of 20 s, each 80 samples into the next, then the rest if it is long enough for a frame."""
    whole = len(wave) // CHUNK
    pieces = [wave[i * CHUNK:(i + 1) * CHUNK + RECEPTIVE_FIELD - HOP] for i in range(whole)]
    rest = wave[whole * CHUNK:]
    return pieces + [rest] if len(rest) >= RECEPTIVE_FIELD else pieces


def load_hubert(source: str = DEFAULT_HUBERT) -> HubertFeatures:
    """A HuBERT from a local folder (config.json and weights) or by its name on the Hugging Face hub.

    Raises:
        UserError: it is neither here nor reachable, or not a HuBERT.
    """
    from transformers import HubertModel  # seconds to import: only when it is used

    local = Path(source).expanduser()
    if local.exists() and not (local / "config.json").is_file():
        raise UserError(f"{source} holds no config.json; give the folder of a HuBERT model or a hub name")
    try:
        return HubertFeatures(HubertModel.from_pretrained(source))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no HuBERT at {source}: download {DEFAULT_HUBERT} into a folder and name that folder, "
                        f"or use a checkpoint with mel features ({str(error).splitlines()[0]})") from error
