"""The published SyncNet of LSE-C and LSE-D, and how it sees a video (Chung and Zisserman, "Out of time: automated lip
sync in the wild", 2016, table 1; its released edition, with 224 pixels and vectors of 1024).

Every window is 0.2 s: 5 frames of the face, 224 x 224, BGR in [0, 255], and 20 columns of 13 MFCC.
"""

import cv2
import numpy as np
import torch
from scipy.fft import dct
from scipy.ndimage import median_filter
from torch import Tensor, nn

from modules.media.rates import FRAME_RATE, SAMPLE_RATE
from modules.metrics.sync import SyncScore, sync_score

FACE_SIZE = 224  # pixels
LIP_WINDOW, MFCC_WINDOW = 5, 20  # frames at 25 Hz, columns at 100 Hz
_MARGIN = 0.4  # of the box, to both sides and twice below
_STEADY = 13  # frames of the median filter of the boxes
_BEYOND = 110  # grey outside of the picture
_CEPSTRA, _FILTERS, _TRANSFORM, _LIFTER, _EMPHASIS = 13, 26, 512, 22, 0.97
_FRAME, _HOP = 400, 160  # samples: 25 ms and 10 ms
_BATCH = 16  # windows


class PublishedSyncNet(nn.Module):
    """Speech and lips -> vectors; names of weights as in the released file, random here."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1),
            *_layer(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_layer(nn.Conv2d(192, 384, 3, padding=1)),
            *_layer(nn.Conv2d(384, 256, 3, padding=1)),
            *_layer(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, stride=2),
            *_layer(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netcnnlip = nn.Sequential(
            *_layer(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_layer(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_layer(nn.Conv3d(256, 512, (1, 6, 6))),
        )
        self.netfcaud, self.netfclip = (
            nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024)) for _ in range(2)
        )

    def embed_audio(self, mfcc: Tensor) -> Tensor:
        """[B, 1, 13, 20] -> [B, 1024]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def embed_lips(self, faces: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224] BGR in [0, 255] -> [B, 1024]."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def _layer(convolution: nn.Module) -> list[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return [convolution, norm(convolution.out_channels), nn.ReLU()]


@torch.inference_mode()
def lip_sync_error(network: PublishedSyncNet, frames: Tensor, landmarks: Tensor, waveform: Tensor) -> SyncScore:
    """LSE-C and LSE-D of a video with its sound.

    The one difference to the published evaluation: the box of the face is that of MediaPipe's landmarks, not of the
    detector S3FD.

    Args:
        network: in evaluation mode, with the released weights.
        frames: [T, H, W, 3] uint8 RGB, 25 a second, T at least 6.
        landmarks: [T, 478, 2] pixels; a frame without a face takes the box of its neighbours.
        waveform: [N] at 16 kHz, in [-1, 1].
    Raises:
        ValueError: too short, or no face in any frame.
    """
    device = next(network.parameters()).device
    length = min(len(frames), len(waveform) * FRAME_RATE // SAMPLE_RATE)
    count = length - LIP_WINDOW  # one less than there are, as published
    if count < 1:
        raise ValueError(f"{length} frames with sound; lip sync needs at least {LIP_WINDOW + 1}")
    faces = face_crops(frames[:length], landmarks[:length])  # [T, 224, 224, 3] uint8 BGR
    cepstra = torch.from_numpy(mfcc(waveform.numpy())).T[None].float()  # [1, 13, columns]
    lips, speech = [], []
    for first in range(0, count, _BATCH):
        starts = range(first, min(first + _BATCH, count))
        pictures = torch.stack([faces[start : start + LIP_WINDOW] for start in starts])
        lips.append(network.embed_lips(pictures.permute(0, 4, 1, 2, 3).float().to(device)))
        columns = torch.stack([cepstra[..., 4 * start : 4 * start + MFCC_WINDOW] for start in starts])
        speech.append(network.embed_audio(columns.to(device)))
    return sync_score(torch.cat(speech), torch.cat(lips))


def face_crops(frames: Tensor, landmarks: Tensor) -> Tensor:
    """The face of each frame as the network wants it: [T, H, W, 3] uint8 RGB -> [T, 224, 224, 3] uint8 BGR.

    The landmarks' box made square, its centre and size median-filtered over 13 frames, then widened by 0.4 to the sides
    and lowered by 0.4: 2.8 half sides wide and high. Grey where the picture ends.
    """
    points = landmarks.numpy()
    low, high = points.min(axis=1), points.max(axis=1)  # [T, 2]
    boxes = np.concatenate([(low + high) / 2, (high - low).max(axis=1, keepdims=True) / 2], axis=1)
    seen = np.isfinite(boxes).all(axis=1)
    if not seen.any():
        raise ValueError("no frame has a face")
    numbers = np.arange(len(boxes))
    boxes = np.stack([np.interp(numbers, numbers[seen], column[seen]) for column in boxes.T])
    boxes = median_filter(boxes, size=(1, _STEADY), mode="nearest")
    crops = []
    for frame, (x, y, half) in zip(frames.numpy(), boxes.T):
        scale = FACE_SIZE / (half * (2 + 2 * _MARGIN))
        corner = np.array([x - half * (1 + _MARGIN), y - half])
        move = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
        move[:, 2] += 0.5 * scale - 0.5  # pixel centres
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        crops.append(
            cv2.warpAffine(frame[..., ::-1], move, (FACE_SIZE, FACE_SIZE), flags=flags, borderValue=(_BEYOND,) * 3)
        )
    return torch.from_numpy(np.stack(crops))


def mfcc(waveform: np.ndarray) -> np.ndarray:
    """13 mel cepstra every 10 ms as the released network was fed: those of 16-bit sound.

    Emphasis 0.97, frames of 25 ms without a window, 26 triangles from 0 to 8 kHz, orthonormal DCT, lifter 22, the first
    one replaced by the log energy.

    Args:
        waveform: [N] at 16 kHz, in [-1, 1].
    Returns:
        [1 + ceil((N - 400) / 160), 13] float64.
    """
    sound = np.round(np.clip(waveform.astype(np.float64), -1, 1) * 32767)
    sound = np.append(sound[:1], sound[1:] - _EMPHASIS * sound[:-1])
    count = 1 + max(0, -(-(len(sound) - _FRAME) // _HOP))
    sound = np.pad(sound, (0, (count - 1) * _HOP + _FRAME - min(len(sound), (count - 1) * _HOP + _FRAME)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME)[::_HOP][:count]
    power = np.abs(np.fft.rfft(frames, _TRANSFORM)) ** 2 / _TRANSFORM
    tiny = np.finfo(float).eps
    bands = np.log(np.maximum(power @ _triangles().T, tiny))
    cepstra = dct(bands, type=2, axis=1, norm="ortho")[:, :_CEPSTRA]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_CEPSTRA) / _LIFTER)
    cepstra[:, 0] = np.log(np.maximum(power.sum(axis=1), tiny))
    return cepstra


def _triangles() -> np.ndarray:
    """[26, 257] mel filters whose corners lie on bins."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), _FILTERS + 2)
    corners = np.floor((_TRANSFORM + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(_TRANSFORM // 2 + 1)
    rows = []
    for left, middle, right in zip(corners, corners[1:], corners[2:]):
        rising = (bins >= left) & (bins < middle)
        falling = (bins >= middle) & (bins < right)
        row = np.where(rising, (bins - left) / max(middle - left, 1), 0.0)
        rows.append(np.where(falling, (right - bins) / max(right - middle, 1), row))
    return np.stack(rows)
