"""Pictures of a training on one sheet that fits a screen: captioned rows, samples side by side."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from tasks.engine.task import grid

SHEET_HEIGHT, SHEET_WIDTH = 1000, 1600  # pixels of a sheet, at most
CAPTION = 14  # pixels of a line of text
SMALLEST = 48  # pixels a side of a picture, whatever the sheet's size


def captioned(rows: Mapping[str, Tensor], limit: int = 8) -> Tensor:
    """Float pictures in [-1, 1] as one uint8 picture [H, W, 3].

    Args:
        rows: caption -> [B, 1 or 3, h, w]; pictures that are too large for the sheet are reduced.
        limit: samples of a row, at most.
    """
    count = min(limit, *(len(row) for row in rows.values()))
    largest = max(row.shape[-2] for row in rows.values())
    side = max(SMALLEST, min(largest, SHEET_HEIGHT // len(rows) - CAPTION, SHEET_WIDTH // count))
    lines = []
    for caption, row in rows.items():
        small = nn.functional.interpolate(row[:count].detach().float().cpu(), (side, side), mode="area")
        lines += [text_line(caption, count * side), grid([small], limit=count)]
    return torch.cat(lines)


def text_line(text: str, width: int) -> Tensor:
    """White text on black, uint8 [14, width, 3]."""
    picture = Image.new("RGB", (width, CAPTION))
    ImageDraw.Draw(picture).text((3, 1), text, fill=(255, 255, 255))
    return torch.from_numpy(np.array(picture))
