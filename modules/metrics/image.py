"""Image metrics: how near made frames are to the true ones.

`psnr` is for the validation of a training: images in [-1, 1], one number. The others are for the evaluation: frames in
[0, 1], one number for each frame. They filter with OpenCV, on the CPU: a whole evaluation is a hundred thousand of such
pictures, and its Gaussian takes a twentieth of the time of a convolution with the window. LPIPS and FID have networks:
`modules/metrics/networks.py`.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import cv2
import numpy as np
import torch
from torch import Tensor

_GREY = (0.299, 0.587, 0.114)
_WINDOW, _SIGMA = 11, 1.5  # of SSIM: pixels
_C1, _C2 = 0.01**2, 0.03**2
_GREY_LEVEL = 0.5  # is taken off before squares are, whose rounding else shows in flat, bright parts


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio: -10 log10 of the mean squared error of images scaled to [0, 1].

    Higher is better: 0 dB for black instead of white, about 30 dB for a good likeness, at most 100 dB (equal images).

    Args:
        prediction, target: [B, 3, H, W] in [-1, 1]; the prediction is clamped to that range.
    Returns:
        dB, mean over the B images' own ratios.
    """
    error = ((prediction.float().clamp(-1, 1) - target.float()) / 2).square().flatten(1).mean(dim=1)
    return _decibels(error).mean()


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
    return _decibels(_masked_mean((made - truth).square(), mask))


def ssim(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each frame (Wang and others, 2004): Gaussian window 11, sigma 1.5, K 0.01 and 0.03.

    From -1 to 1, higher is better. Each colour by itself, then their mean; borders reflected: what torchmetrics gives.
    With a mask: mean of the map over its pixels, each of which still looks at its neighbourhood of 11 pixels.

    Args:
        made, truth: [B, 3, H, W] in [0, 1].
        mask: [B, 1, H, W].
    Returns:
        [B]
    """
    return _masked_mean(TruePictures(truth).ssim_map(made), mask)


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
    energy = [_masked_mean(_energy(image), mask) for image in (made, truth)]
    return (energy[0] / energy[1]).sqrt()


class TruePictures:
    """True frames with all that every comparison with them needs again, so that it is computed once for many methods.

    Args:
        truth: [B, 3, H, W] in [0, 1].
        masks: name -> [B, 1, H, W], or None for the whole picture.
    """

    def __init__(self, truth: Tensor, masks: Mapping[str, Tensor | None] | None = None) -> None:
        self.truth, self.masks = truth, dict(masks or {"": None})

    def compare(self, made: Tensor) -> dict[str, Tensor]:
        """`l1`, `frame_psnr` (as "psnr"), `ssim` and `detail` of `made` [B, 3, H, W]: "l1" + a mask's name -> [B]."""
        error = made - self.truth
        maps = {"l1": error.abs(), "psnr": error.square_(), "ssim": self.ssim_map(made), "detail": _energy(made)}
        flat = {name: _over_colours(values) for name, values in maps.items()}
        result = {}
        for end, mask in self.masks.items():
            means = {name: _masked_mean(values, mask) for name, values in flat.items()}
            means["psnr"] = _decibels(means["psnr"])
            means["detail"] = (means["detail"] / self._energies[end]).sqrt()
            result |= {f"{name}{end}": value for name, value in means.items()}
        return result

    def ssim_map(self, made: Tensor) -> Tensor:
        """Structural similarity of `made` around each pixel and in each colour, [B, 3, H, W]."""
        made, truth = made - _GREY_LEVEL, self._centred
        (mean, spread), (true_mean, true_spread) = _moments(made), self._moments
        shared = _blurred(made * truth).sub_(mean * true_mean)
        mean, true_mean = mean.add_(_GREY_LEVEL), true_mean + _GREY_LEVEL
        above = (mean * true_mean).mul_(2).add_(_C1).mul_(shared.mul_(2).add_(_C2))
        return above.div_(mean.square_().add_(true_mean.square_()).add_(_C1).mul_(spread.add_(true_spread).add_(_C2)))

    @cached_property
    def _centred(self) -> Tensor:
        return self.truth - _GREY_LEVEL

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return _moments(self._centred)

    @cached_property
    def _energies(self) -> dict[str, Tensor]:
        energy = _energy(self.truth)
        return {name: _masked_mean(energy, mask) for name, mask in self.masks.items()}


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance in the window of SSIM around each pixel of [B, 3, H, W]."""
    mean = _blurred(images)
    return mean, _blurred(images.square()).sub_(mean.square()).clamp_(min=0)


def _blurred(images: Tensor) -> Tensor:
    """The Gaussian of SSIM over [B, 3, H, W], borders reflected."""
    return _filtered(
        images, lambda image: cv2.GaussianBlur(image, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT_101)
    )


def _energy(images: Tensor) -> Tensor:
    """[B, 3, H, W] -> square of the Laplacian of its grey picture [B, 1, H, W]."""

    def laplacian(image: np.ndarray) -> np.ndarray:
        grey = cv2.transform(image, np.array([_GREY], np.float32))
        return cv2.Laplacian(grey, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT_101)

    return _filtered(images, laplacian).square_()


def _filtered(images: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """A filter of float32 pictures [H, W, C] applied to each of [B, C, H, W]; a result without channels gets one."""
    rows = [image.permute(1, 2, 0).float().cpu().contiguous().numpy() for image in images.detach()]
    made = [np.atleast_3d(change(row)) for row in rows]
    return torch.from_numpy(made[0][None] if len(made) == 1 else np.stack(made)).permute(0, 3, 1, 2).to(images.device)


def _decibels(error: Tensor) -> Tensor:
    """Mean squared errors of values in [0, 1] as dB, at most 100."""
    return -10 * torch.log10(error.clamp(min=1e-10))


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of [B, C, H, W] over a mask [B, 1, H, W] -> [B]; NaN where the mask is empty."""
    values = _over_colours(values)
    if mask is None:
        return values.flatten(1).mean(dim=1)
    weights = mask.to(values)
    return (values * weights).flatten(1).sum(dim=1) / weights.flatten(1).sum(dim=1)


def _over_colours(values: Tensor) -> Tensor:
    """Mean of [B, C, H, W] over C: [B, 1, H, W] float32; as a product, which is faster for pictures in memory."""
    count = values.shape[1]
    return (
        values.float()
        if count == 1
        else (values.float().movedim(1, -1) @ values.new_full((count,), 1 / count))[:, None]
    )
