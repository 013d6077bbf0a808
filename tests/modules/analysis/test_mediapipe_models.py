import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modules.analysis import mediapipe_models
from modules.analysis.mediapipe_models import FaceFinder, person_confidence, silence
from tests.conftest import ROOT


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


def test_a_segmenter_is_opened_once_and_again_when_its_file_has_changed(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, create = [], mediapipe_models._open
    monkeypatch.setattr(mediapipe_models, "_open", lambda *arguments: opened.append(1) or create(*arguments))
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    (tmp_path / "selfie_segmenter.tflite").write_bytes((assets / "selfie_segmenter.tflite").read_bytes())
    pictures = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), np.uint8)
    first, other, again = (person_confidence(picture) for picture in (*pictures, pictures[0]))
    assert opened == [1]
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    os.utime(tmp_path / "selfie_segmenter.tflite", ns=(1, 1))
    person_confidence(pictures[0])
    assert opened == [1, 1]


@pytest.mark.parametrize("picture", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_a_wrong_kind_of_array_is_refused_and_the_finder_still_works(assets: Path, picture: np.ndarray):
    with FaceFinder() as finder:
        with pytest.raises(ValueError, match="uint8"):
            finder.find(picture)
        assert finder.find(np.zeros((64, 64, 3), np.uint8)).shape == (0, 478, 2)


def test_a_program_that_has_segmented_ends_without_complaints(assets: Path):
    """Models that are still open when Python takes its modules apart cannot be closed any more."""
    program = (
        "import numpy as np; from modules.analysis.mediapipe_models import hair_confidence, person_confidence\n"
        "person_confidence(np.zeros((64, 64, 3), np.uint8)), hair_confidence(np.zeros((64, 64, 3), np.uint8))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
