"""The example, on a short sentence, and whole as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from examples.talk import main as talk_command
from examples.talk import talk
from examples.views import main as views_command
from inference.video import DEMO_PERSON
from modules.system.assets import DEMO_CHECKPOINT
from tests.conftest import ROOT


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_person_speaks_and_turns_the_head(tmp_path: Path) -> None:
    wave, rate = soundfile.read(DEMO_CHECKPOINT / "speech.wav", frames=16000 * 2 // 5)
    soundfile.write(tmp_path / "short.wav", wave, rate)
    talk(DEMO_PERSON, tmp_path / "short.wav", tmp_path / "out")
    frames = frames_of(tmp_path / "out" / "talk.mp4").astype(float)
    still = np.array(Image.open(tmp_path / "out" / "turned.png")).astype(float)
    assert frames.shape == (10, 512, 512, 3) and still.shape == (256, 256, 3)
    with av.open(str(tmp_path / "out" / "talk.mp4")) as container:
        assert container.streams.audio
    assert np.abs(frames[-1] - frames[0]).max() > 20  # somebody speaks
    turned = np.abs(still - frames[0][::2, ::2]).mean()
    assert turned > 3 * np.abs(frames[-1] - frames[0]).mean()  # and turns much further


def test_help_makes_nothing_and_a_wrong_option_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (talk_command, views_command):
        with pytest.raises(SystemExit) as end:
            command(["--help"])
        assert end.value.code == 0 and "--output" in capsys.readouterr().out
        with pytest.raises(SystemExit) as end:
            command(["--seed", "3"])
        assert end.value.code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_whole_example_needs_less_than_a_minute_of_one_core(tmp_path: Path) -> None:
    before = os.times()
    result = subprocess.run(
        [sys.executable, "-m", "examples.talk"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    after = os.times()
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert after.children_user + after.children_system - before.children_user - before.children_system < 60
    folder = tmp_path / "infer_out" / "example"
    assert sorted(path.name for path in folder.iterdir()) == ["talk.mp4", "turned.png"]
    assert len(frames_of(folder / "talk.mp4")) == 131
