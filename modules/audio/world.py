"""Pitch by WORLD's DIO and StoneMask (M. Morise et al., 2009 and 2016), the alternative to Praat's method.

The package pyworld is optional: requirements-augment.txt. WORLD hears voice in other frames than Praat
(docs/spec/audio2motion.md#6-4), so that a model must hear the pitch that it was trained with.
"""

from types import ModuleType

import numpy as np

from modules.audio.pitch import AT_ONCE, Array, PitchConfig, Samples
from modules.media.rates import HOP, SAMPLE_RATE
from modules.system.packages import optional_package

_MARGIN = 50  # frames around those at once: 1 s, farther than WORLD looks


def world() -> ModuleType:
    """The package pyworld.

    Raises:
        UserError: it is not installed.
    """
    return optional_package("pyworld", "pitch: world", "set pitch=praat in preparation and training")


def world_pitch_at_hop(waveform: Samples, frames: int) -> Array:
    """As `pitch_at_hop`: [N] at 16 kHz -> [frames] Hz, 50 a second, frame i centred at (i + 1) 20 ms, 0 = unvoiced.

    Raises:
        UserError: pyworld is not installed.
    """
    pyworld, limits = world(), PitchConfig()
    f0 = np.zeros(frames)
    for start in range(0, frames, AT_ONCE):
        stop = min(start + AT_ONCE, frames)
        first = max(0, start - _MARGIN)
        part = np.ascontiguousarray(waveform[first * HOP : (stop + _MARGIN) * HOP], dtype=np.float64)
        coarse, times = pyworld.dio(
            part, SAMPLE_RATE, f0_floor=limits.floor, f0_ceil=limits.ceiling, frame_period=1000 * HOP / SAMPLE_RATE
        )
        found = pyworld.stonemask(part, coarse, times, SAMPLE_RATE)[start + 1 - first : stop + 1 - first]
        f0[start : start + len(found)] = found
    return f0
