"""Clips of procedural people, small enough to be measured in seconds: real detector, real fit, real files."""

import os
from pathlib import Path

import numpy as np
import pytest

from modules.media.audio import Sound
from modules.media.pixels import to_pixels
from modules.procedural.clips import sample_motion
from modules.procedural.head import procedural_model
from modules.procedural.person import sample_person
from modules.procedural.render import render
from tasks.evaluate import main
from tasks.evaluation.phones import phones_path
from tests.conftest import ROOT, SHARED
from tests.videos import write_video

SIZE, FRAMES = 256, 7


def person_frames(seed: int, frames: int = FRAMES, size: int = SIZE) -> list[np.ndarray]:
    """A procedural person who moves and speaks: uint8 [size, size, 3]."""
    person, motion = sample_person(seed), sample_motion(seed, frames)
    face = motion.replace(identity=person.identity[None])
    model = procedural_model()
    return [to_pixels(render(model, person, face[number], size).image)[0] for number in range(frames)]


def buzz(seconds: float) -> Sound:
    """A buzz that comes and goes three times a second."""
    time = np.arange(int(seconds * 16000)) / 16000
    wave = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12)) * np.sin(3 * np.pi * time) ** 2
    return Sound.from_samples(0.2 * wave.astype(np.float32), 16000)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two clips, anna.mp4 and bert.mp4, with sound; of anna's it is known when there is a p."""
    folder = tmp_path_factory.mktemp("clips")
    for name, seed in (("anna", 900_001), ("bert", 900_004)):
        write_video(folder / f"{name}.mp4", person_frames(seed), sound=buzz(FRAMES / 25))
    phones_path(folder / "anna.mp4").write_text("a\t0\t0.04\np\t0.04\t0.12\na\t0.12\t0.24\n")
    return folder


SETTINGS = ("size=128", "min_frames=5", "picture_every=3", "samples=100", "keep=1")
WITHOUT = ("without=[csim_dlib]",)  # a quarter of a second a picture; tests/modules/metrics/ has it


@pytest.fixture(scope="session")
def same_identity(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a finished evaluation of both people, with their own clips as the method "copy"."""
    with pytest.MonkeyPatch.context() as patch:
        if not (SHARED / "models" / "face_landmarker.task").is_file() and "REAL3D_ASSETS" not in os.environ:
            pytest.skip("no MediaPipe models; set REAL3D_ASSETS")
        patch.setenv("REAL3D_ASSETS", os.environ.get("REAL3D_ASSETS", str(SHARED / "models")))
        output = tmp_path_factory.mktemp("evaluation") / "same"
        assert run(people, output, f"methods={{copy: {people}}}") == 0
    return output


def run(videos: Path, output: Path, *more: str, protocol: str = "same_identity") -> int:
    """The command with settings for small clips."""
    settings = [*SETTINGS, *(() if protocol == "speech_to_motion" else WITHOUT)]
    return main(
        [str(ROOT / f"configs/evaluate/{protocol}.yaml"), f"videos={videos}", f"output={output}", *settings, *more]
    )
