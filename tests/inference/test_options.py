"""Options are checked before anything is loaded: each acts, or is refused by its name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from inference.options import ACTS_WITH, check, note_of_renderer
from inference.run import main, parse, parse_line
from modules.system.assets import DEMO_CHECKPOINT
from modules.system.errors import UserError
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file of each kind (of no content: nothing is read here) and two checkpoints."""
    for name in ("face.jpg", "portrait.safetensors", "speech.wav", "clip.mp4", "motion.json", "pose.npz", "wall.png"):
        (tmp_path / name).write_bytes(b"x")
    for name, features in (("mel", "mel"), ("hubert", "hubert")):
        (tmp_path / name / "portrait").mkdir(parents=True)
        (tmp_path / name / "audio2motion").mkdir()
        (tmp_path / name / "audio2motion" / "config.yaml").write_text(f"features: {features}\n")
    (tmp_path / "deaf" / "portrait").mkdir(parents=True)
    (tmp_path / "HuBERT").mkdir()
    (tmp_path / "HuBERT" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*arguments: str) -> str:
    """What `check` says; empty if nothing. Nothing may be written or changed."""
    before = times()
    try:
        check(parse([*([] if "--checkpoint" in arguments else ["--checkpoint", "hubert"]), *arguments]))
    except UserError as error:
        return str(error)
    finally:
        assert times() == before
    return ""


def times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*")}


SOURCES = {"": (), "a photo": ("--source", "face.jpg"), "a portrait": ("--source", "portrait.safetensors")}
DRIVERS = {
    "": (),
    "--audio": ("--audio", "speech.wav"),
    "--driving": ("--driving", "clip.mp4"),
    "--motion": ("--motion", "motion.json"),
    "--pose FILE": ("--pose", "clip.mp4"),
    "--pose motion": ("--pose", "pose.npz"),
}
VALUES = {
    "face": "1",
    "anyway": None,
    "inpainting": "nearest",
    "sound": "speech.wav",
    "driving_face": "1",
    "pose": "still",
    "pose_mode": "absolute",
    "blink": "none",
    "mouth_amplitude": "0.5",
    "temperature": "0.1",
    "look_ahead": "0.5",
    "seed": "7",
    "hubert": "some/hubert",
    "background": "wall.png",
    "checkpoint": "mel",
    "device": "cpu",
    "precision": "bf16",
    "march": "band",
    "batch": "2",
    "output": "out.mp4",
    "save_motion": "saved.json",
    "debug_video": None,
    "layers": "new_layers",
    "mesh": "talk.glb",
    "renderer": "planes",
    "size": "512",
    "seconds": "2",
    "threads": "1",
    "batch_file": "jobs.csv",  # its lines are checked one by one
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", VALUES)
def test_an_option_acts_with_the_inputs_of_the_table_and_is_refused_by_name_with_others(folder, name, source, driver):
    if name == "pose" and driver.startswith("--pose"):
        pytest.skip("that is the option itself")
    speech = driver not in ("--driving", "--motion")
    inputs = {source, driver, "speech" if speech else ""}
    option = f"--{name.replace('_', '-')}"
    message = refusal(*SOURCES[source], *DRIVERS[driver], option, *([VALUES[name]] if VALUES[name] else []))
    if name not in ACTS_WITH or inputs & set(ACTS_WITH[name]):
        assert message == ""
    else:
        assert message.startswith(option) and "not used" in message and "leave" in message and "\n" not in message


@pytest.mark.parametrize(
    "chosen",
    [("--renderer", "planes"), ("--renderer", "rig"), ("--march", "full"), ("--source", "portrait.safetensors")],
)
def test_networks_that_nobody_chose_are_noted_with_the_other_renderer(folder, chosen):
    def noted(*arguments: str) -> str:
        options = parse(["--checkpoint", "mel", *arguments])
        check(options)
        return note_of_renderer(options)

    words = "mel has no folder rig, so its networks drew, in their own size; --renderer rig draws the photo itself"
    assert noted("--source", "face.jpg").startswith(words) and noted().startswith(words)
    assert noted(*chosen) == ""
    (folder / "mel" / "rig").mkdir()
    (folder / "mel" / "rig" / "config.yaml").write_text("cells: 64\n")
    assert noted("--source", "face.jpg") == ""


def test_a_checkpoint_with_a_rig_draws_photos_by_it_unless_told_otherwise(folder):
    def renderer(*arguments: str) -> str:
        options = parse(["--checkpoint", "mel", *arguments])
        check(options)
        return options.renderer

    photo = ("--source", "face.jpg")
    assert renderer(*photo) == "planes"
    (folder / "mel" / "rig").mkdir()
    (folder / "mel" / "rig" / "config.yaml").write_text("cells: 64\n")
    assert renderer(*photo) == renderer() == renderer(*photo, "--size", "256") == "rig"
    assert renderer(*photo, "--renderer", "planes") == "planes"
    assert renderer("--source", "portrait.safetensors") == "planes"  # it is of the networks
    with pytest.raises(UserError, match="--march is not used with --renderer rig.*add --renderer planes"):
        renderer(*photo, "--march", "full")


@pytest.mark.parametrize("more", [("--inpainting", "nearest"), ("--precision", "float32"), ("--march", "full")])
def test_the_rig_refuses_what_acts_with_the_planes_alone(folder, more):
    rig = ("--source", "face.jpg", "--renderer", "rig")
    assert refusal(*rig, "--size", "1024", "--batch", "2", "--face", "0") == ""
    message = refusal(*rig, *more)
    assert message.startswith(more[0]) and "not used with --renderer rig" in message
    assert "the photo itself" in refusal("--source", "portrait.safetensors", "--renderer", "rig")


@pytest.mark.parametrize(
    "arguments, name",
    [
        ([], "talk.mp4"),
        (["--source", "face.jpg", "--audio", "speech.wav"], "face_speech.mp4"),
        (["--source", "face.jpg"], "face_talk.mp4"),
        (["--source", "face.jpg", "--seconds", "2"], "face_talk_2s.mp4"),
        (["--renderer", "rig", "--seconds", "0.5", "--size", "256"], "talk_0.5s_256_rig.mp4"),
        (["--renderer", "rig", "--size", "512"], "talk_rig.mp4"),
        (["--driving", "clip.mp4", "--background", "transparent"], "person_clip.webm"),
        (["--source", "face.jpg", "--seconds", "2", "--background", "#204060"], "face_talk_2s_204060.mp4"),
        (["--motion", "motion.json", "--output", "mine.mp4"], None),
    ],
)
def test_an_output_without_a_name_is_called_by_its_inputs(folder, monkeypatch, arguments, name):
    monkeypatch.setattr("inference.options.DEMO_CHECKPOINT", Path("hubert"))  # the usual one
    options = parse(["--checkpoint", "hubert", *arguments])
    check(options)
    assert options.output == (Path("infer_out", name) if name else Path("mine.mp4"))


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["--checkpoint", str(DEMO_CHECKPOINT)], "face_talk.mp4"),
        (["--checkpoint", str(DEMO_CHECKPOINT), "--renderer", "rig"], "face_talk.mp4"),  # as it draws by itself
        (["--renderer", "planes"], "face_talk_planes.mp4"),
        (["--checkpoint", "hubert"], "face_talk_hubert.mp4"),
        (["--checkpoint", "hubert", "--renderer", "planes"], "face_talk_hubert.mp4"),
        (["--checkpoint", "./hubert/", "--seconds", "2", "--renderer", "rig"], "face_talk_2s_hubert_rig.mp4"),
    ],
)
def test_another_checkpoint_and_another_renderer_are_in_the_name(folder, arguments, name):
    options = parse(["--source", "face.jpg", *arguments])
    check(options)
    assert options.output == Path("infer_out", name)


@pytest.mark.parametrize("output", ["a.gif", "a.webp", "a.png", "a.JPG", "new_folder", "empty"])
def test_pictures_are_outputs_too(folder, output):
    (folder / "empty").mkdir()
    assert refusal("--output", output) == ""


def test_every_option_that_there_is_was_tried(folder):
    inputs = {"source", "audio", "driving", "motion"}
    signing = {"sign", "sign_key", "sign_cert"}  # act with all inputs and need a package: test_signing.py
    assert {*VALUES, *inputs, *signing} == vars(parse([])).keys() - {"given"}
    assert parse(["--seed", "0", "--blink=period"]).given == {"seed", "blink"}  # as by default, but said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", "9" * 26], "--seed is 999"),
        (["--seed", str(2**63)], "--seed is 9223372036854775808"),
        (["--batch", "0"], "--batch is 0"),
        (["--source", "face.jpg", "--face", "-1"], "--face is -1"),
        (["--driving", "clip.mp4", "--driving-face", "-2"], "--driving-face is -2"),
        (["--mouth-amplitude", "nan"], "--mouth-amplitude is nan"),
        (["--look-ahead", "-1"], "--look-ahead is -1"),
        (["--look-ahead", "nan"], "--look-ahead is nan"),
        (["--look-ahead", "0.5", "--blink", "model"], "--blink model needs the whole speech"),
        (["--temperature", "-0.1"], "--temperature is -0.1"),
        (["--device", "abacus"], "--device abacus"),
        (["--output", "-"], "--output -"),
        (["--output", "out.avi"], "--output out.avi"),
        (["--output", "out.gif", "--background", "transparent"], "for a transparent background"),
        (["--output", "out.gif", "--seconds", "31"], "at most 30 seconds"),
        (["--output", "hubert"], "--output hubert is a folder with files"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--threads", "0"], "--threads is 0"),
        (["--output", "out.mp4", "--background", "transparent"], "transparent"),
        (["--output", "out.webm", "--background", "transparent", "--debug-video"], "--debug-video"),
        (["--layers", "hubert"], "--layers hubert is there and not an empty folder"),
        (["--layers", "clip.mp4"], "--layers clip.mp4 is there and not an empty folder"),
        (["--layers", "here", "--output", "here"], "--layers here would replace --output here"),
        (["--layers", "here", "--debug-video"], "--layers are those of the frames"),
        (["--save-motion", "m.txt"], "--save-motion m.txt"),
        (["--background", "nowhere.png"], "--background nowhere.png: no such picture and no such colour"),
        (["--background", "#20406080"], "--background #20406080"),
        (["--background", "x" * 5000], "no such picture"),
        (["--audio", "x" * 5000], "no such file"),
        (["--audio", "gone.wav"], "--audio gone.wav: there is no such file"),
        (["--source", "gone.jpg"], "--source gone.jpg: there is no such file"),
        (["--driving", "hubert"], "--driving hubert is a folder"),
        (["--pose", "gone.mp4"], "--pose gone.mp4: there is no such file"),
        (["--checkpoint", "gone"], "--checkpoint gone"),
        (["--checkpoint", "deaf"], "cannot listen"),
        (["--checkpoint", "mel", "--hubert", "some/hubert"], "--hubert: mel listens to mel"),
        (["--output", "hubert.mp4/out.mp4"], "--output"),
        (["--output", "taken.mp4"], "--output taken.mp4 is a folder"),
    ],
)
def test_a_value_that_cannot_be_is_one_line_that_names_it(folder, arguments, words):
    (folder / "taken.mp4").mkdir()
    (folder / "hubert.mp4").touch()
    message = refusal(*arguments)
    assert words in message and "\n" not in message


def test_blinks_of_a_model_that_has_none_are_refused(folder):
    assert refusal("--blink", "model") == ""
    (folder / "hubert" / "audio2motion" / "config.yaml").write_text("features: hubert\nmodel: {blink: false}\n")
    assert refusal("--blink", "model") == (
        "--blink model: hubert has no blinks among its conditions; use period or none"
    )
    assert refusal("--blink", "none") == refusal("--blink", "period") == ""


CHOICES_AND_FLAGS = {"debug_video", "anyway", "inpainting", "pose_mode", "seed", "blink", "precision", "march", "batch"}
CHOICES_AND_FLAGS |= {"renderer", "size", "threads"}


@pytest.mark.parametrize("name", sorted(VALUES.keys() - CHOICES_AND_FLAGS))
def test_an_empty_text_is_refused(folder, name):
    numbers = ("face", "driving_face", "mouth_amplitude", "temperature", "look_ahead", "seconds")
    if name in numbers:
        with pytest.raises(SystemExit) as stop:
            refusal(f"--{name.replace('_', '-')}", "")
        assert stop.value.code == 2
    else:
        assert refusal(f"--{name.replace('_', '-')}", "").startswith(f"--{name.replace('_', '-')} is empty")


@pytest.mark.parametrize("option", ["--source", "--audio", "--driving", "--motion"])
def test_an_empty_input_is_refused(folder, option):
    assert refusal(option, "").startswith(f"{option} is empty")


@pytest.mark.parametrize(
    "name", ["clip.mp4", "link.mp4", "hard.mp4", f"mel/{os.pardir}/clip.mp4", "here/clip.mp4", "CLIP.MP4"]
)
@pytest.mark.parametrize("option", ["--source", "--audio", "--driving", "--pose", "--background"])
def test_a_video_over_an_input_is_refused_by_any_name(folder, option, name):
    (folder / "link.mp4").symlink_to("clip.mp4")
    (folder / "hard.mp4").hardlink_to("clip.mp4")
    (folder / "here").symlink_to(folder)
    message = refusal(option, "clip.mp4", "--output", name)
    assert message == f"--output {name} would replace {option} clip.mp4; give --output another name"


def test_a_motion_over_an_input_is_refused(folder):
    (folder / "s.json").symlink_to("motion.json")
    assert "--save-motion s.json would replace --motion" in refusal(
        "--motion", "motion.json", "--save-motion", "s.json"
    )
    assert "would replace --pose pose.npz" in refusal("--pose", "pose.npz", "--save-motion", "pose.npz")
    message = refusal("--motion", "motion.json", "--sound", "clip.mp4", "--output", "clip.mp4")
    assert "--output clip.mp4 would replace --sound" in message
    message = refusal("--hubert", "HuBERT", "--save-motion", "HuBERT/config.json")
    assert "would replace a file of --hubert HuBERT" in message
    (folder / "m.json").write_bytes(b"x")
    (folder / "out.mp4").hardlink_to(folder / "m.json")
    assert "would replace --output" in refusal("--save-motion", "m.json", "--output", "out.mp4")


@pytest.mark.parametrize("option", ["--driving", "--pose"])
def test_a_picture_is_no_clip(folder, option):
    Image.new("RGB", (40, 40)).save("face.png")
    Image.new("RGB", (40, 40)).save("misnamed.mp4", format="GIF")
    for name in ("face.png", "misnamed.mp4"):
        assert refusal("--source", "face.jpg", option, name).startswith(f"{name} is a picture or animation; --driving")


def test_speech_of_a_checkpoint_that_needs_an_absent_package_is_refused(folder, monkeypatch):
    config = folder / "mel" / "audio2motion" / "config.yaml"
    config.write_text("features: mel\npitch: world\n")
    monkeypatch.setattr("modules.system.packages.is_installed", lambda name: name == "pyworld")
    assert refusal("--checkpoint", "mel") == ""
    monkeypatch.setattr("modules.system.packages.is_installed", lambda name: name != "pyworld")
    assert refusal("--checkpoint", "mel", "--driving", "clip.mp4") == ""
    message = refusal("--checkpoint", "mel")
    assert message.startswith("mel hears the pitch of WORLD and needs the package pyworld; pip install")
    assert message.endswith("or give --driving or --motion")


def test_an_output_that_is_no_input_may_be_there_and_endings_may_be_in_capitals(folder):
    assert refusal("--audio", "speech.wav", "--output", "clip.mp4") == ""
    assert refusal("--output", "new/folder/OUT.MP4", "--save-motion", "M.JSON") == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(folder):
    (folder / "mel").chmod(0o555)
    assert "no permission" in refusal("--output", "mel/new/out.mp4")


def test_the_command_answers_with_one_line_and_exit_code_2_and_loads_nothing_heavy(folder, capsys):
    assert main(["--audio", "clip.mp4", "--output", "clip.mp4"]) == 2
    assert capsys.readouterr().err == (
        "error: --output clip.mp4 would replace --audio clip.mp4; give --output another name\n"
    )
    code = (
        "import sys; from inference.run import main; assert main(['--batch', '0']) == 2; "
        "print([name for name in ('torch', 'numpy', 'av', 'cv2', 'mediapipe') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n" and done.stderr == "error: --batch is 0; give at least 1\n"


@pytest.mark.parametrize("more", [("--output", "b.mp4"), ("--out", "b.mp4"), ("--output=a.mp4",)])
def test_an_option_that_is_given_twice_is_refused(folder, capsys, more):
    assert main(["--output", "a.mp4", *more]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --output is given twice (a.mp4, ") and said.count("\n") == 1
    assert main(["--audio", "speech.wav", "--audio", "speech.wav"]) == 2  # in a group of options, too
    assert "--audio is given twice" in capsys.readouterr().err


def test_a_line_of_a_table_replaces_an_option_of_the_command(folder):
    assert parse_line(["--seed", "1", "--seed=2"]).seed == 2
