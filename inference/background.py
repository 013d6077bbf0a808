"""The background of a video: the photo's own, a picture, a colour, or nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from modules.analysis.crop import centre_crop
from modules.media.images import read_picture
from modules.media.pixels import to_float, to_pixels, to_tensor
from modules.portrait.driving import Driving
from modules.portrait.real3d_portrait import PortraitOutput
from modules.system.errors import UserError


def load_background(choice: str, size: int) -> Tensor | str | None:
    """Read the value of --background.

    Args:
        choice: "photo", "transparent", a colour ("#204060", "white"), or the path of a picture.
        size: S, pixels a side.
    Returns:
        None for the photo's own background, "transparent", or a picture [1, 3, S, S] in [-1, 1] (cut square from the
        middle, never squashed).
    Raises:
        UserError: neither a colour nor a picture.
    """
    if choice == "photo":
        return None
    if choice == "transparent":
        return choice
    if Path(choice).exists():
        return to_tensor(centre_crop(read_picture(Path(choice)), size))
    try:
        colour = ImageColor.getrgb(choice)[:3]
    except ValueError as error:
        raise UserError(
            f"--background {choice}: no such picture and no such colour; give photo, transparent, "
            "a picture file, or a colour like #204060"
        ) from error
    return to_float(torch.tensor(colour)).view(1, 3, 1, 1).repeat(1, 1, size, size)


def pixels_before(
    background: Tensor | str | None,
) -> tuple[Callable[[Driving, PortraitOutput], np.ndarray], Tensor | None]:
    """What makes pixels of an output, and the background for the model, which draws none behind a transparent one."""
    transparent = background == "transparent"

    def pixels(driving: Driving, output: PortraitOutput) -> np.ndarray:
        alpha = [2 * output.decoded.alpha - 1] if transparent else []
        return to_pixels(torch.cat([output.image, *alpha], dim=1))

    return pixels, None if transparent else background
