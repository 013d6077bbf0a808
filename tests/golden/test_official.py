"""The way of a user of the released weights: convert them, take a photo and speech or a clip, get a video."""

import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from inference.speech import SpeechToMotion
from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.system.assets import ANALYSIS
from scripts.convert_checkpoint import main as convert
from tests.conftest import ROOT
from tests.golden.official import HUBERT, write_all, write_hubert, write_official

# The command, and how much memory its process held at most.
MEASURED = (
    "import resource, sys; from inference.run import main; code = main(); "
    "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
)
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what getrusage counts
SPOKEN, DRIVEN = 12, 4  # frames; one takes about 15 s on a CPU thread


def test_a_converted_speech_model_hears_a_real_speech_with_the_hubert_of_the_assets(
    golden_dir, media, tmp_path, monkeypatch
):
    write_official(tmp_path / "audio2secc_vae", golden_dir, "a2m")
    assert convert([str(tmp_path / "audio2secc_vae"), str(tmp_path / "c")]) == 0
    write_hubert(tmp_path / "assets" / HUBERT)
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path / "assets"))
    listener = SpeechToMotion.load(tmp_path / "c" / "audio2motion", torch.device("cpu"))
    motion = listener.motion(media / "speech" / "en_24k_mono.wav", torch.Generator().manual_seed(0))
    assert motion.face_model == "bfm"
    assert len(motion) == pytest.approx(25 * soundfile.info(media / "speech" / "en_24k_mono.wav").duration, abs=1)
    assert float(motion.expression.std(dim=0).min()) > 1e-3


@pytest.fixture(scope="module")
def folder(golden_dir, tmp_path_factory) -> Path:
    """Checkpoints in the original's form, converted, and the assets they need."""
    return write_all(tmp_path_factory.mktemp("official") / "all", golden_dir)


@pytest.fixture
def released(folder, assets) -> Path:
    """The same with the MediaPipe files."""
    for name in ANALYSIS:
        shutil.copy(assets / name, folder / "assets")
    return folder


def run(folder: Path, output: Path, *options: str) -> int:
    """The command line in a process of its own; returns its largest memory in bytes."""
    arguments = ["--checkpoint", folder / "converted", "--device", "cpu", "--output", output, *options]
    environment = os.environ | {"REAL3D_ASSETS": str(folder / "assets"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return UNIT * int(re.search(r"peak (\d+)", done.stdout)[1])


def check_video(path: Path, frames: int) -> None:
    """512 x 512, so many frames of 25 a second that are not all the same, and sound as long as they."""
    with av.open(str(path)) as container:
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert container.streams.video[0].average_rate == 25
    assert pictures.shape == (frames, 512, 512, 3)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 0.1
    heard = read_sound(path)
    samples = heard.samples()
    assert len(samples) / heard.rate == pytest.approx(frames / 25, abs=0.05) and np.abs(samples).max() > 0.01


@pytest.mark.slow
def test_a_real_photo_speaks_at_full_size_in_less_than_8_gib(released, media, tmp_path):
    samples, rate = soundfile.read(media / "speech" / "en_male_16k_stereo.wav")
    soundfile.write(tmp_path / "speech.wav", samples[: SPOKEN * rate // 25], rate)
    peak = run(
        released,
        tmp_path / "talk.mp4",
        "--source",
        str(media / "portraits" / "front_suit_man.png"),
        "--audio",
        str(tmp_path / "speech.wav"),
    )
    check_video(tmp_path / "talk.mp4", SPOKEN)
    assert peak < 8 * 2**30


@pytest.mark.slow
def test_a_real_photo_follows_a_clip_at_full_size_in_less_than_8_gib(released, media, tmp_path):
    source = media / "driving" / "talk_woman_head_turns_25fps.mp4"
    with VideoWriter(tmp_path / "clip.mp4", (512, 512), sound=read_sound(source)) as video:
        for frame in islice(open_video(source)[1], 0, 8 * DRIVEN, 8):  # moves eight times as fast
            video.write(frame)
    peak = run(
        released,
        tmp_path / "out.mp4",
        "--source",
        str(media / "portraits" / "long_hair_woman_outdoor.jpg"),
        "--driving",
        str(tmp_path / "clip.mp4"),
    )
    check_video(tmp_path / "out.mp4", DRIVEN)
    assert peak < 8 * 2**30
