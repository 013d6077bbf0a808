"""--layers: what a frame is made of, whole or not at all; put together it is the frame."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from inference.layers import DEPTH_STEPS, LayerWriter
from inference.motion import Motion
from inference.rig import RigPainter, procedural_rig_photo
from inference.run import main
from modules.system.errors import UserError

OF_RIG = {"alpha", "depth", "colour", "visibility", "stretch", "eyes", "mouth"}
OF_PLANES = {"alpha", "depth", "head", "torso", "raw", "pncc"}


@pytest.fixture(scope="module")
def rig_painter(pipeline) -> RigPainter:
    return RigPainter(procedural_rig_photo(900_007, pipeline.face_model, 64), pipeline.face_model, 64, pipeline.device)


@pytest.fixture
def motion() -> Motion:
    expression = torch.zeros(3, 64)
    expression[1, 0] = 1  # the mouth opens
    euler = torch.tensor([[0.0, 0.2 * k, 0.0] for k in range(3)])
    return Motion(expression, euler, torch.zeros(3, 3), torch.zeros(3, 1), "procedural", relative=True)


def test_the_rig_s_person_over_the_background_is_the_frame(rig_painter, motion):
    made = list(rig_painter.layered_frames(motion, None, 2))
    assert np.array_equal(np.stack([frame for frame, _ in made]), np.stack(list(rig_painter.frames(motion))))
    behind = rig_painter.background().astype(float)
    for frame, layers in made:
        assert layers.keys() == OF_RIG and all(layer.shape[:2] == (64, 64) for layer in layers.values())
        alpha = layers["alpha"][..., None] / 255
        assert np.abs(alpha * layers["colour"] + (1 - alpha) * behind - frame).max() <= 2
        seen = layers["depth"] > 0
        assert layers["depth"].dtype == np.uint16 and (layers["alpha"][~seen] < 255).all()
        middle = layers["depth"][32, 32] / DEPTH_STEPS
        assert 5 < middle < 20 and middle <= layers["depth"][seen].max() / DEPTH_STEPS
    mouths = [layers["mouth"].astype(int).sum() for _, layers in made]
    assert mouths[1] > mouths[0] and mouths[1] > 500
    panels = np.stack(list(rig_painter.debug_frames(motion)))[:, :, 64:128, 0]
    assert np.array_equal(np.stack([layers["visibility"] for _, layers in made]), panels) and panels.max() == 255
    assert 178 < np.median(made[0][1]["stretch"][made[0][1]["alpha"] == 255]) < 184  # 181: not stretched


def test_the_networks_layers_are_what_the_frame_came_from(pipeline, portrait, motion):
    made = list(pipeline.layered_frames(portrait, motion, "transparent"))
    frames = np.stack(list(pipeline.frames(portrait, motion, "transparent")))
    debug = np.stack(list(pipeline.debug_frames(portrait, motion)))
    for number, (frame, layers) in enumerate(made):
        assert layers.keys() == OF_PLANES
        assert np.array_equal(frame, frames[number]) and np.array_equal(layers["alpha"], frame[..., 3])
        assert layers["head"].shape == (64, 64, 4) and np.array_equal(layers["head"][..., :3], frame[..., :3])
        assert (layers["head"][..., 3] <= layers["alpha"]).all()
        for name, panel in (("pncc", 1), ("raw", 2)):  # drawn smaller; repeated in the panels
            factor = 64 // len(layers[name])
            repeated = layers[name].repeat(factor, 0).repeat(factor, 1)
            assert np.array_equal(repeated, debug[number][:, 64 * panel : 64 * (panel + 1)])
        assert layers["torso"].shape[2] == 4 and layers["depth"].dtype == np.uint16
        depth = layers["depth"][layers["depth"] > 0] / DEPTH_STEPS
        assert len(depth) == 0 or 5 < np.median(depth) < 20


@pytest.mark.parametrize("renderer, names", [("rig", OF_RIG), ("planes", OF_PLANES)])
def test_the_command_writes_a_folder_for_each_layer(checkpoint, tmp_path, monkeypatch, renderer, names, capfd):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(1600), 16000)
    size = ("--size", "256") if renderer == "rig" else ()
    common = ("--checkpoint", str(checkpoint), "--device", "cpu", "--audio", "a.wav", "--renderer", renderer, *size)
    assert main([*common, "--layers", "new/layers", "--output", "frames"]) == 0
    folder = tmp_path / "new" / "layers"
    assert {path.name for path in folder.iterdir()} == {*names, "background.png"}
    for name in names:
        assert sorted(path.name for path in (folder / name).iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert Image.open(folder / "depth" / "00001.png").mode == "I;16"
    assert "synthetic" in Image.open(folder / "alpha" / "00000.png").text["Comment"].lower()
    if renderer == "rig":
        colour, alpha, behind, frame = (
            np.asarray(Image.open(path)).astype(float)
            for path in (
                folder / "colour" / "00002.png",
                folder / "alpha" / "00002.png",
                folder / "background.png",
                tmp_path / "frames" / "00002.png",
            )
        )
        share = alpha[..., None] / 255
        assert np.abs(share * colour + (1 - share) * behind - frame).max() <= 2
    assert main([*common, "--layers", "clear", "--output", "clear.webm", "--background", "transparent"]) == 0
    assert {path.name for path in (tmp_path / "clear").iterdir()} == names
    capfd.readouterr()
    assert main([*common, "--layers", "new/layers", "--output", "again.mp4"]) == 2
    assert "not an empty folder" in capfd.readouterr().err


def test_layers_appear_whole_or_not_at_all(tmp_path):
    picture = np.zeros((4, 4), np.uint8)

    def made():
        yield np.zeros((4, 4, 3), np.uint8), {"alpha": picture}
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        with LayerWriter(tmp_path / "out", np.zeros((4, 4, 3), np.uint8)) as writer:
            list(writer.frames(made()))
    assert list(tmp_path.iterdir()) == []
    with LayerWriter(tmp_path / "out") as writer:
        for _ in writer.frames(iter([(picture, {"alpha": picture})])):
            assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "alpha", "00000.png"]
    with pytest.raises(UserError, match="not an empty folder"):
        LayerWriter(tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        with LayerWriter(tmp_path / "file" / "out") as writer:
            list(writer.frames(iter([(picture, {"alpha": picture})])))


def test_on_a_full_disk_nothing_is_left_from_the_first_picture_on(small_disk):
    small_disk.fill(2_000)
    with pytest.raises(UserError, match="--layers .* cannot be written .No space left"):
        LayerWriter(small_disk.folder / "layers", np.zeros((64, 64, 3), np.uint8)).__enter__()
    assert [path.name for path in small_disk.folder.iterdir()] == ["filler"]
