"""The sound of a live session's frames: what was heard at their time, silence where nobody spoke."""

import numpy as np

from modules.media.rates import FRAME_RATE


class SpokenSound:
    """Sound [n] float32 that waits for its frames, mono."""

    def __init__(self, rate: int) -> None:
        """`rate`: samples a second."""
        self._rate, self._given, self._frames = rate, 0, 0
        self._heard = np.zeros(0, np.float32)

    def hear(self, samples: np.ndarray) -> None:
        """More of a speech, whose frames are still to come."""
        self._heard = np.concatenate([self._heard, samples])

    def of_next(self, frames: int) -> np.ndarray:
        """The sound of the next so many frames: what was heard, or else silence."""
        self._frames += frames
        count = self._frames * self._rate // FRAME_RATE - self._given
        self._given += count
        part, self._heard = self._heard[:count], self._heard[count:]
        return np.pad(part, (0, count - len(part)))

    def forget(self) -> None:
        """Drop what no frame was made of."""
        self._heard = self._heard[:0]
