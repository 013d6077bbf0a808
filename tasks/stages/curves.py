"""Curves over time with axes, as a picture for the log of the speech stages."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from modules.media.rates import FRAME_RATE

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a HOME that it cannot write is no news
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


def curves(panels: Mapping[str, Mapping[str, Tensor]], title: str = "") -> Tensor:
    """Panels above each other, uint8 [H, W, 3].

    Args:
        panels: name of a vertical axis -> label -> [T], 25 a second.
    """
    figure = Figure(figsize=(9, 2.2 * len(panels)), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, lines) in zip(axes, panels.items()):
        for label, values in lines.items():
            axis.plot(np.arange(len(values)) / FRAME_RATE, values.detach().float().cpu().numpy(), label=label)
        axis.set_ylabel(name)
        axis.legend(loc="upper right", fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("seconds")
    axes[0].set_title(title)
    canvas.draw()
    return torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3])
