import os
from pathlib import Path

import numpy as np
import pytest

from modules.analysis.mediapipe_models import FaceFinder, person_confidence, silence


def test_silence_hides_native_output_and_ends(capfd: pytest.CaptureFixture):
    with silence():
        os.write(2, b"greeting")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_silence_ends_after_an_error(capfd: pytest.CaptureFixture):
    with pytest.raises(RuntimeError), silence():
        raise RuntimeError
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_confidence_has_the_size_of_the_picture(assets: Path):
    confidence = person_confidence(np.zeros((70, 90, 3), np.uint8))
    assert confidence.shape == (70, 90)
    assert 0 <= confidence.min() and confidence.max() <= 1


@pytest.mark.parametrize("picture", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_a_wrong_kind_of_array_is_refused_and_the_finder_still_works(assets: Path, picture: np.ndarray):
    with FaceFinder() as finder:
        with pytest.raises(ValueError, match="uint8"):
            finder.find(picture)
        assert finder.find(np.zeros((64, 64, 3), np.uint8)).shape == (0, 478, 2)
