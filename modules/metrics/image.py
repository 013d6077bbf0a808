"""Image metrics: how near made frames are to the true ones.

`psnr` is for the validation of a training: images in [-1, 1], one number. The others are for the evaluation: frames in
[0, 1], one number for each frame. LPIPS and FID have networks: `modules/metrics/networks.py`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

_GREY = (0.299, 0.587, 0.114)


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio: -10 log10 of the mean squared error of images scaled to [0, 1].

    Higher is better: 0 dB for black instead of white, about 30 dB for a good likeness, at most 100 dB (equal images).

    Args:
        prediction, target: [B, 3, H, W] in [-1, 1]; the prediction is clamped to that range.
    Returns:
        dB, mean over the B images' own ratios.
    """
    error = ((prediction.float().clamp(-1, 1) - target.float()) / 2).square().flatten(1).mean(dim=1)
    return (-10 * torch.log10(error.clamp(min=1e-10))).mean()


def l1(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean |made - truth| over pixels and colours, of values in [0, 1]; 0 to 1, lower is better.

    Some papers give it for values in [0, 255].

    Args:
        made, truth: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W], what counts; default all.
    Returns:
        [B]; NaN where the mask is empty.
    """
    return _masked_mean((made - truth).abs(), mask)


def frame_psnr(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame: -10 log10 of the mean squared error of values in [0, 1].

    dB, higher is better, at most 100 (equal frames). With a mask, for example of the head, the error is the mean over
    the pixels of the mask alone, not over a picture blacked out elsewhere (which gives more dB).

    Args:
        made, truth: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W].
    Returns:
        [B]; average these, not the errors.
    """
    return -10 * torch.log10(_masked_mean((made - truth).square(), mask).clamp(min=1e-10))


def ssim(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each frame (Wang and others, 2004): Gaussian window 11, sigma 1.5, K 0.01 and 0.03.

    From -1 to 1, higher is better. Each colour by itself, then their mean; borders reflected. With a mask: mean of the
    map over its pixels, each of which still looks at its neighbourhood of 11 pixels.

    Args:
        made, truth: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W].
    Returns:
        [B]
    """
    _, map_ = structural_similarity_index_measure(
        made.float(), truth.float(), data_range=1.0, reduction="none", return_full_image=True
    )
    return _masked_mean(map_, mask)


def detail(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Sharpness: root mean square of the grey Laplacian over that of the truth.

    0 or more, 1 is as the truth; less is blur, more is noise or invented edges, so more is NOT better. The Laplacian is
    that of four neighbours, borders reflected; grey is 0.299 R + 0.587 G + 0.114 B.

    Args:
        made, truth: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W].
    Returns:
        [B]
    """
    energy = [_masked_mean(_laplacian(image.float()).square(), mask) for image in (made, truth)]
    return (energy[0] / energy[1]).sqrt()


def _laplacian(image: Tensor) -> Tensor:
    """[B, 3, H, W] -> Laplacian of its grey picture [B, 1, H, W]."""
    kernel = image.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    grey = (image * image.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
    return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="reflect"), kernel[None, None])


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [B, C, H, W] over a mask [B, 1, H, W] -> [B]; NaN where the mask is empty."""
    values = values.float().mean(dim=1, keepdim=True)
    if mask is None:
        return values.flatten(1).mean(dim=1)
    weights = mask.to(values)
    return (values * weights).flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1)
