"""A newcomer's first day: the commands of README and docs/finetune.md as they are written, in a fresh clone.

Only budgets are cut (a later key=value wins, an option is replaced), and the inputs are short clips of the test
media. There is no network, and nothing but what a clone holds. Each test runs in the state that the ones before left
behind.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import soundfile

from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from tests.conftest import ROOT, media_folder

pytestmark = pytest.mark.slow

FRAMES = 52  # of a clip: just above the shortest that is prepared
CLIPS = ("talk_man_german_25fps.mp4", "talk_woman_25fps.mp4")
SHORTER = {  # what is put behind a command, by what it begins with
    "python -m tasks.run configs/demo/motion_adapter.yaml": "steps=2 loader.workers=0",
    "python -m tasks.run configs/demo/htbsr.yaml": "steps=2 loader.workers=0",
    "python -m tasks.run configs/demo/syncnet.yaml": "steps=2",
    "python -m tasks.run configs/demo/a2m.yaml": "steps=2",
    "python -m inference.run": "--seconds 0.2",
    "python -m data_gen.run": "workers=1",
}


def blocks(page: str) -> list[list[str]]:
    """The commands of each bash block of a page, without their comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [[re.sub(r"\s{2,}#.*", "", line) for line in block.splitlines() if line.strip()] for block in found]


def block_with(page: str, words: str) -> list[str]:
    """The commands of the first block that holds `words`."""
    return next(block for block in blocks(page) if any(words in line for line in block))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone with the environment of this one, a stranger's photo, a sentence and two short videos."""
    media, folder = media_folder(), tmp_path_factory.mktemp("newcomer") / "clone"
    if not (ROOT / ".git").exists() or not (ROOT / ".venv").exists():
        pytest.skip("no git repository, or no .venv beside it")
    subprocess.run([shutil.which("git"), "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    shutil.copyfile(media / "portraits" / "long_hair_woman_outdoor.jpg", folder / "me.jpg")
    wave, rate = soundfile.read(media / "speech" / "en_24k_mono.wav")
    soundfile.write(folder / "hello.wav", wave[:rate], rate)
    (folder / "my_videos").mkdir()
    for name in CLIPS:
        _, frames = open_video(media / "driving" / name)
        with VideoWriter(folder / "my_videos" / name, (512, 512), sound=read_sound(media / "driving" / name)) as video:
            for frame in islice(frames, FRAMES):
                video.write(frame)
    shutil.copyfile(folder / "my_videos" / CLIPS[0], folder / "clip.mp4")
    return folder


@pytest.fixture
def run(clone: Path) -> Callable[[str], str]:
    """run(line) -> what a shell prints for a command of a page, which must succeed."""
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("REAL3D_")}
    offline = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    environment = hidden | offline | {"PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def call(line: str) -> str:
        more = next((shorter for begin, shorter in SHORTER.items() if line.startswith(begin)), "")
        shown = re.sub(rf" {more.split()[0]} \S+", "", line) if more.startswith("--") else line  # options stand once
        done = subprocess.run(
            [shutil.which("bash"), "-ec", f"{shown} {more}"],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout + done.stderr

    return call


def test_the_commands_for_a_video(clone: Path, run: Callable[[str], str]) -> None:
    made = [run(line) for line in block_with("README.md", "inference.run --source me.jpg")]
    assert len(made) >= 4
    for name in ("talk_0.2s.mp4", "me_hello_0.2s.mp4"):
        assert (clone / "infer_out" / name).is_file()
    assert "will be replaced" in made[-1] and (clone / "out.mp4").is_file()


def test_the_recipe_for_own_clips_of_the_readme(clone: Path, run: Callable[[str], str]) -> None:
    (line,) = block_with("README.md", "videos=my_videos")
    assert "2 clips" in run(f"{line} folder=data/recipe")


def test_a_field_is_filled_into_finished_clips(clone: Path, run: Callable[[str], str]) -> None:
    run("python -m data_gen.run configs/data/videos.yaml folder=data/recipe --add mouth_opening")
    assert len(list((clone / "data" / "recipe").glob("*/field_mouth_opening.npy"))) == 2


def test_the_page_on_fine_tuning_from_top_to_bottom(clone: Path, run: Callable[[str], str]) -> None:
    lines = [line for line in block_with("docs/finetune.md", "runs/own/htbsr") if not line.startswith("source ")]
    for line in lines:
        said = run(line)
        assert "starts fresh" not in said  # checkpoints/demo has every part
    assert "has no folder rig, so its networks drew" in said
    assert (clone / "checkpoints" / "own" / "portrait" / "htbsr.safetensors").is_file()
    assert (clone / "checkpoints" / "own" / "audio2motion" / "audio2motion.safetensors").is_file()


def test_other_first_questions(clone: Path, run: Callable[[str], str]) -> None:
    assert "photo       here" in run("python -m scripts.assets list")
    assert "loss.lips" in run("python -m tasks.run configs/htbsr.yaml --keys")
    run("python -m scripts.contact_sheet video infer_out/me_hello_0.2s.mp4 --count 4 --output sheet.png")
    run("python -m inference.run --source me.jpg --audio hello.wav --output still.png")
    assert (clone / "sheet.png").is_file() and (clone / "still.png").is_file()
