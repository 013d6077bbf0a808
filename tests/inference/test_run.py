"""The command: what each option does, and what bad input says."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from inference.live_speech import LiveConfig
from inference.motion import Drawing, Motion
from inference.run import main
from modules.media.audio import read_sound
from tests.conftest import ROOT

# A process that was started in the background may ignore Ctrl-C; this one does not.
INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import inference.run as run; "
    "check = run.check; run.check = lambda options: (check(options), print('started', flush=True)); "
    "sys.exit(run.main())"
)


# Passes of the garbage collector while the command imports, and what a saved portrait does not need.
IMPORTING = """
import gc, sys
import inference.run as run
passes = []
imported = lambda: hasattr(sys.modules.get("inference.video"), "make_video")
gc.callbacks.append(lambda phase, facts: "torch" in sys.modules and not imported() and passes.append(phase))
run.check = lambda options: None
assert run.main(["--checkpoint", "nowhere"]) == 2
print(imported(), passes, [name for name in ("transformers", "torchvision") if name in sys.modules])
"""


def frames_of(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture
def run(checkpoint, speech, tmp_path, capfd):
    """run("--seed", "1") -> exit code, frames or None, what stood on stderr."""

    def call(*options: str, audio: bool = True, name: str = "out.mp4"):
        output = tmp_path / "neuer Ordner" / name
        arguments = ["--checkpoint", str(checkpoint), "--output", str(output), "--device", "cpu", *options]
        code = main(arguments + (["--audio", str(speech)] if audio else []))
        return code, frames_of(output) if output.is_file() else None, capfd.readouterr().err

    return call


def test_a_procedural_person_speaks(run, tmp_path):
    code, frames, _ = run()
    assert code == 0 and frames.shape == (11, 64, 64, 3)
    with av.open(str(tmp_path / "neuer Ordner" / "out.mp4")) as container:
        assert container.streams.audio and "synthetic" in container.metadata["comment"].lower()
        assert abs(container.duration / av.time_base - 0.44) <= 0.04 + 0.025
    assert [path.name for path in (tmp_path / "neuer Ordner").iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", "1"),
        ("--temperature", "1"),
        ("--mouth-amplitude", "1.5"),
        ("--pose", "still"),
        ("--background", "#00ff00"),
        ("--debug-video",),
    ],
)
def test_each_option_changes_the_video(run, options):
    _, usual, _ = run()
    code, changed, _ = run(*options)
    assert code == 0
    assert changed.shape != usual.shape or not np.array_equal(changed, usual)


def test_the_rig_draws_at_its_own_size(run):
    code, frames, _ = run("--renderer", "rig", "--size", "256", "--pose", "still")
    assert code == 0 and frames.shape == (11, 256, 256, 3)
    code, wide, _ = run("--renderer", "rig", "--size", "256", "--debug-video", "--background", "#00ff00")
    assert code == 0 and wide.shape == (11, 256, 5 * 256, 3)


def test_the_same_seed_gives_the_same_video(run):
    assert np.array_equal(run()[1], run()[1])


def test_blinks_are_periodic_or_absent(run, tmp_path):
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(16000 * 3), 16000)
    blinks = {}
    for mode in ("period", "none"):
        saved = tmp_path / f"{mode}.npz"
        options = ["--audio", str(tmp_path / "long.wav"), "--blink", mode, "--save-motion", str(saved)]
        assert run(*options, audio=False)[0] == 0
        blinks[mode] = Motion.load(saved).blink
    assert float(blinks["none"].max()) == 0 and float(blinks["period"].max()) > 0.9


def test_look_ahead_is_that_of_a_live_session(run, tmp_path, pipeline, speech):
    motions = []
    for name, options in (("whole", ()), ("live", ("--look-ahead", "0"))):
        assert run(*options, "--temperature", "1", "--save-motion", str(tmp_path / f"{name}.npz"))[0] == 0
        motions.append(Motion.load(tmp_path / f"{name}.npz"))
    whole, live = motions
    assert torch.equal(whole.euler, live.euler) and torch.equal(whole.blink, live.blink)
    assert not torch.allclose(whole.expression, live.expression, atol=1e-5)
    config = LiveConfig(look_ahead=0.0, temperature=1.0)
    heard = pipeline.motion_from_live_speech(speech, Drawing.of_seed(0).lips, config)
    assert torch.equal(heard.expression, live.expression)


def test_a_motion_is_saved_and_given_back(run, tmp_path, speech):
    path = tmp_path / "m.json"
    _, first, _ = run("--save-motion", str(path))
    code, again, _ = run("--motion", str(path), "--sound", str(speech), audio=False)
    assert code == 0 and again.shape == first.shape
    assert np.abs(again.astype(int) - first).mean() < 1
    code, posed, _ = run("--pose", str(path))
    assert code == 0 and len(posed) == 11


def test_a_motion_goes_out_and_comes_in_as_arkit_curves(run, tmp_path, speech):
    path = tmp_path / "m.csv"
    code, first, _ = run("--save-motion", str(path), "--renderer", "rig", "--size", "256")
    assert code == 0 and path.read_text().startswith("frame,time,eyeBlinkLeft,")
    options = ("--motion", str(path), "--sound", str(speech), "--renderer", "rig", "--size", "256")
    code, again, _ = run(*options, audio=False)
    assert code == 0 and np.abs(again.astype(int) - first).mean() < 1
    assert run("--pose", str(path))[0] == 0


def test_the_moving_head_is_written_as_a_mesh(run, tmp_path):
    code, _, _ = run("--mesh", str(tmp_path / "talk.glb"), "--renderer", "rig", "--size", "256")
    assert code == 0 and (tmp_path / "talk.glb").read_bytes().startswith(b"glTF")
    code, _, output = run("--mesh", str(tmp_path / "talk.obj"))
    assert code == 2 and "--mesh talk.obj: use a name that ends in .glb" in output


def test_poses_that_the_original_fitted_are_followed_but_expressions_only_by_its_face_model(run, tmp_path):
    fitted = {
        "id": np.zeros((1, 80)),
        "exp": np.zeros((5, 64)),
        "euler": np.linspace(0, 0.4, 15).reshape(5, 3),
        "trans": np.zeros((5, 3)),
    }
    path = tmp_path / "x_coeff_fit_mp.npy"
    np.save(path, fitted, allow_pickle=True)
    code, posed, _ = run("--pose", str(path))
    assert code == 0 and not np.array_equal(posed, run("--pose", "still")[1])
    code, _, message = run("--motion", str(path), audio=False)
    assert code == 2 and "bfm face model" in message and len(message.strip().splitlines()) == 1


def test_a_portrait_file_serves_as_the_source_of_its_face_model(run, portrait, tmp_path):
    portrait.save(tmp_path / "p.safetensors")
    replace(portrait, face_model="bfm").save(tmp_path / "foreign.safetensors")
    code, frames, _ = run("--source", str(tmp_path / "p.safetensors"))
    assert code == 0 and frames.shape == (11, 64, 64, 3)
    code, frames, message = run("--source", str(tmp_path / "foreign.safetensors"), name="foreign.mp4")
    assert code == 2 and frames is None
    assert "bfm face model" in message and len(message.strip().splitlines()) == 1


def test_a_sound_track_that_starts_after_the_pictures_is_heard_with_the_lips_that_speak_it(run, tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    with av.open(str(tmp_path / "late.mp4"), "w") as container:
        pictures = container.add_stream("libx264", rate=25)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        pictures.width = pictures.height = 64
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        for start in range(0, 16000, 1000):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1000], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 8000 + start, Fraction(1, 16000)  # 0.5 s late
            container.mux(sound.encode(frame))
        container.mux([*pictures.encode(), *sound.encode()])
    code, frames, _ = run("--audio", str(tmp_path / "late.mp4"), audio=False)
    heard = read_sound(tmp_path / "neuer Ordner" / "out.mp4")
    assert code == 0 and abs(len(frames) / 25 - 1) < 0.15  # a second and the codec's padding
    assert np.argmax(np.abs(heard.samples()[:, 0]) > 0.1) / heard.rate < 0.12


def test_a_preview_is_the_beginning_of_the_video(run):
    _, whole, _ = run()
    code, frames, _ = run("--seconds", "0.2", "--threads", "1")
    assert code == 0 and len(frames) == 5
    assert np.abs(frames[:2].astype(int) - whole[:2]).mean() < 2  # later ones are smoothed with frames that are missing


def test_the_result_is_one_line_with_the_size_and_a_file_that_is_replaced_is_mentioned(checkpoint, tmp_path, capfd):
    options = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "out.png"), "--renderer", "planes"]
    options += ["--device", "cpu"]
    assert main(options) == 0
    first = capfd.readouterr()
    assert first.out.startswith(f"{tmp_path / 'out.png'}: a still of 64 x 64, 0.04 s, in ") and first.err == ""
    assert main(options) == 0
    assert capfd.readouterr().err == f"note: {tmp_path / 'out.png'} is there and will be replaced\n"
    assert main([*options[:4], "--device", "cpu"]) == 0  # nobody said who draws
    assert f"note: {checkpoint} has no folder rig, so its networks drew" in capfd.readouterr().err


def test_pictures_instead_of_a_video(checkpoint, speech, tmp_path):
    arguments = ["--checkpoint", str(checkpoint), "--audio", str(speech), "--device", "cpu", "--seconds", "0.12"]
    for name in ("a.gif", "a.webp", "folder", "a.jpg"):
        assert main([*arguments, "--output", str(tmp_path / name), "--background", "#204060"]) == 0
    for name in ("a.gif", "a.webp"):  # pictures that are alike may be one of as long
        with Image.open(tmp_path / name) as animation:
            assert animation.size == (64, 64)
            for number in range(animation.n_frames):
                animation.seek(number)
            assert 40 <= animation.n_frames * 40 <= 120
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert main([*arguments, "--output", str(tmp_path / "clear.webp"), "--background", "transparent"]) == 0
    assert Image.open(tmp_path / "clear.webp").mode == "RGBA"
    assert {path.name for path in tmp_path.iterdir()} == {"a.gif", "a.webp", "folder", "a.jpg", "clear.webp"}


def test_a_transparent_video_is_written(run):
    code, frames, _ = run("--background", "transparent", name="out.webm")
    assert code == 0 and len(frames) == 11


def test_a_real_photo_and_clip_work(run, media, clip, assets):
    code, frames, _ = run("--source", str(media / "portraits" / "front_suit_man.png"))
    assert code == 0 and len(frames) == 11
    code, frames, _ = run("--driving", str(clip), audio=False)
    assert code == 0 and len(frames) == 12
    code, frames, _ = run("--pose", str(clip))
    assert code == 0 and len(frames) == 11


class Attack:
    def __init__(self, victim) -> None:
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


def bad_files(folder) -> dict[str, list[str]]:
    """Options that must fail, by what is wrong with them."""
    (folder / "text.png").write_text("not a picture", encoding="utf-8")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "whole.wav", np.zeros(16000), 16000)
    (folder / "cut.wav").write_bytes((folder / "whole.wav").read_bytes()[:2000])
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    np.save(folder / "code.npy", {"exp": Attack(folder / "executed")}, allow_pickle=True)
    return {
        "text as a picture": ["--source", str(folder / "text.png")],
        "20 pixels": ["--source", str(folder / "small.png")],
        "no such photo": ["--source", str(folder / "absent.jpg")],
        "empty sound": ["--audio", str(folder / "empty.wav")],
        "truncated sound": ["--audio", str(folder / "cut.wav")],
        "text as sound": ["--audio", str(folder / "text.png")],
        "no such clip": ["--driving", str(folder / "absent.mp4")],
        "code in a motion": ["--motion", str(folder / "code.npy")],
        "code in a pose": ["--pose", str(folder / "code.npy")],
        "no such checkpoint": ["--checkpoint", str(folder / "nothing")],
        "no such background": ["--background", "nowhere.png"],
        "wrong ending": ["--output", str(folder / "out.avi")],
        "output is a folder": ["--output", str(folder / "taken.mp4")],
        "no such device": ["--device", "abacus"],
        "amplitude out of range": ["--mouth-amplitude", "-1"],
        "no frames at once": ["--batch", "0"],
    }


@pytest.mark.parametrize(
    "case",
    [
        "text as a picture",
        "20 pixels",
        "no such photo",
        "empty sound",
        "truncated sound",
        "text as sound",
        "no such clip",
        "code in a motion",
        "code in a pose",
        "no such checkpoint",
        "no such background",
        "wrong ending",
        "output is a folder",
        "no such device",
        "amplitude out of range",
        "no frames at once",
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(checkpoint, tmp_path, capfd, case):
    (tmp_path / "taken.mp4").mkdir()
    options = bad_files(tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    defaults = {"--checkpoint": str(checkpoint), "--output": str(tmp_path / "out.mp4")}
    arguments = [part for key, value in defaults.items() if key not in options for part in (key, value)]
    assert main(arguments + options) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "two_faces_couple_rgba.png",
        "occluded_balaclava.jpg",
        "face_cut_by_border.jpg",
        "dog_detected_as_face.jpg",
        "no_face_coffee.png",
    ],
)
def test_photos_without_one_usable_face_are_refused(run, media, assets, name):
    code, frames, message = run("--source", str(media / "reject" / name))
    assert code == 2 and frames is None
    assert message.startswith("error: ") and len(message.strip().splitlines()) == 1


def test_an_empty_checkpoint_says_what_is_missing(checkpoint, tmp_path, capfd, speech):
    shutil.copytree(checkpoint, tmp_path / "c")
    (tmp_path / "c" / "portrait" / "htbsr.safetensors").unlink()
    assert main(["--checkpoint", str(tmp_path / "c"), "--audio", str(speech), "--output", str(tmp_path / "o.mp4")]) == 2
    assert "htbsr.safetensors" in capfd.readouterr().err


@pytest.mark.parametrize(
    "numbers, code, moment",
    [
        ([signal.SIGINT], 130, "writing"),
        ([signal.SIGTERM], 143, "writing"),
        ([signal.SIGHUP], 129, "writing"),
        ([signal.SIGTERM] * 3, 143, "writing"),
        ([signal.SIGTERM], 143, "loading"),
    ],
)
def test_a_signal_leaves_no_half_video(checkpoint, tmp_path, numbers, code, moment):
    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 120), 16000)
    arguments = ["--checkpoint", checkpoint, "--audio", tmp_path / "long.wav", "--output", tmp_path / "out.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments, "--device", "cpu"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "started\n"
    while moment == "writing" and process.poll() is None and len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)  # until the video is being written
    for number in numbers:
        process.send_signal(number)
    try:
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code and message.splitlines()[-1] == "stopped"
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_the_command_imports_without_waste():
    done = subprocess.run([sys.executable, "-c", IMPORTING], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True [] []\n"
