import itertools
import os
import pickle
import re
import shutil
import tracemalloc
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.motion import Motion
from inference.pipeline import TalkingPortrait
from modules.face_models import load_face_model
from modules.portrait.build import build_portrait
from modules.portrait.driving import DrivingConfig
from modules.procedural.head import procedural_model
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tests.modules.face3d.bfm_files import write_small_bfm
from tests.tiny import tiny_portrait_config


def still_motion(frames: int, **changes: torch.Tensor) -> Motion:
    parts = {
        "expression": torch.zeros(frames, 64),
        "euler": torch.zeros(frames, 3),
        "translation": torch.zeros(frames, 3),
        "blink": torch.zeros(frames, 1),
    }
    return Motion(**(parts | changes), face_model="procedural")


def rendered(pipeline, portrait, motion, *arguments) -> np.ndarray:
    return np.stack(list(pipeline.frames(portrait, motion, *arguments)))


def test_frames_do_not_depend_on_how_many_are_rendered_together(pipeline, portrait):
    euler = torch.linspace(0, 0.3, 5)[:, None] * torch.tensor([0.2, 1.0, 0.1])
    motion = still_motion(5, euler=euler)
    one, three = (rendered(pipeline, portrait, motion, None, batch).astype(int) for batch in (1, 3))
    assert one.shape == (5, 64, 64, 3)
    assert np.abs(one - three).max() <= 1
    assert pipeline.batch == 1 and np.array_equal(rendered(pipeline, portrait, motion), one)  # the default on a CPU


def test_a_still_motion_gives_a_still_picture(pipeline, portrait):
    frames = rendered(pipeline, portrait, still_motion(3))
    assert np.array_equal(frames[0], frames[1]) and np.array_equal(frames[1], frames[2])


@pytest.mark.parametrize(
    "change",
    [
        {"expression": torch.eye(64)[:1].repeat(2, 1)},
        {"euler": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0]])},
        {"translation": torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])},
        {"blink": torch.ones(2, 1)},
    ],
)
def test_every_part_of_a_motion_changes_the_picture(pipeline, portrait, change):
    moved = rendered(pipeline, portrait, still_motion(2, **change))[1]
    assert not np.array_equal(moved, rendered(pipeline, portrait, still_motion(2))[1])


def test_the_background_comes_from_photo_picture_or_nowhere(pipeline, portrait):
    motion = still_motion(1)
    own = rendered(pipeline, portrait, motion)[0]
    white = rendered(pipeline, portrait, motion, torch.ones(1, 3, 64, 64))[0]
    clear = rendered(pipeline, portrait, motion, "transparent")[0]
    assert not np.array_equal(own, white)
    assert clear.shape == (64, 64, 4) and len(np.unique(clear[..., 3])) > 1


def test_debug_frames_hold_five_pictures(pipeline, portrait):
    frame = next(pipeline.debug_frames(portrait, still_motion(1)))
    assert frame.shape == (64, 320, 3)
    source = ((portrait.picture[0].permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(frame[:, :64], source)


def test_memory_does_not_grow_with_the_length(pipeline, portrait):
    def peak(frames: int) -> int:
        stream = pipeline.frames(portrait, still_motion(frames), None, 1)
        next(stream)
        tracemalloc.start()
        for _ in itertools.islice(stream, 6):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(8)
    assert peak(4000) < peak(8) + 2**20


def test_a_motion_of_another_face_model_is_refused(pipeline, portrait):
    foreign = replace(still_motion(1), face_model="bfm")
    for use in (pipeline.check_motion, lambda motion: next(pipeline.frames(portrait, motion))):
        with pytest.raises(UserError, match="the motion is of the bfm face model, the checkpoint of procedural; use"):
            use(foreign)
    assert pipeline.check_motion(still_motion(1)).face_model == "procedural"


def test_a_portrait_of_another_face_model_is_refused(pipeline, portrait):
    foreign, motion = replace(portrait, face_model="ict"), still_motion(1)
    for use in (
        pipeline.check_portrait,
        lambda portrait: next(pipeline.frames(portrait, motion)),
        lambda portrait: next(pipeline.debug_frames(portrait, motion)),
    ):
        with pytest.raises(UserError, match="the portrait is of the ict face model, the checkpoint of procedural; use"):
            use(foreign)
    assert pipeline.check_portrait(portrait) is portrait


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        TalkingPortrait.load(tmp_path)


def damaged(checkpoint: Path, folder: Path, case: str) -> Path:
    """A copy of the checkpoint with one thing wrong."""
    shutil.copytree(checkpoint, folder)
    portrait = folder / "portrait"
    weights, config = portrait / "renderer.safetensors", portrait / "config.yaml"
    if case == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif case == "half downloaded":
        weights.write_bytes((10**6).to_bytes(8, "little") + b'{"decoder')
    elif case == "a page instead of the file":
        weights.write_text("<!DOCTYPE html><html>Please sign in</html>", encoding="utf-8")
    elif case == "a pointer instead of the file":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", encoding="utf-8")
    elif case == "empty":
        weights.write_bytes(b"")
    elif case == "code in it":
        weights.write_bytes(pickle.dumps(Attack(folder / "executed")))
    elif case == "renamed":
        shutil.copy(portrait / "motion_adapter.safetensors", weights)
    elif case == "another architecture":
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("hidden_channels: 8", "hidden_channels: 12"), encoding="utf-8")
    elif case == "no config":
        config.unlink()
    elif case == "no network in the config":
        config.write_text("steps: 3\n", encoding="utf-8")
    elif case == "a wrong key in the config":
        config.write_text(config.read_text(encoding="utf-8").replace("neural_resolution", "neural_size"), "utf-8")
    elif case == "a wrong value in the config":
        config.write_text(config.read_text(encoding="utf-8").replace("box_size: 1.0", "box_size: big"), "utf-8")
    elif case == "half of the speech model":
        speech = folder / "audio2motion" / "audio2motion.safetensors"
        speech.write_bytes(speech.read_bytes()[:400])
    elif case == "speech from something else":
        (folder / "audio2motion" / "config.yaml").write_text("features: smell\nmodel: {}\n", encoding="utf-8")
    return folder


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


@pytest.mark.parametrize(
    "case, words",
    [
        ("truncated", r"renderer\.safetensors is damaged"),
        ("half downloaded", r"renderer\.safetensors is damaged"),
        ("a page instead of the file", r"renderer\.safetensors is damaged"),
        ("empty", r"renderer\.safetensors is damaged"),
        ("a pointer instead of the file", r"renderer\.safetensors is damaged"),
        ("code in it", r"renderer\.safetensors is damaged"),
        ("renamed", r"renderer\.safetensors.* missing decoder\.net\.0\.bias, .*unknown fuse_head"),
        ("another architecture", r"renderer\.safetensors.* shape of decoder\.net\.0\.bias \[8\] instead of \[12\]"),
        ("no config", "has no config.yaml"),
        ("no network in the config", r"portrait/config\.yaml has no group model"),
        (
            "a wrong key in the config",
            r"portrait/config\.yaml: unknown key neural_size; did you mean neural_resolution",
        ),
        ("a wrong value in the config", r"portrait/config\.yaml: renderer\.box_size must be a number, not 'big'"),
        ("half of the speech model", r"audio2motion\.safetensors is damaged"),
        ("speech from something else", r"audio2motion is no audio-to-motion checkpoint; features .* is smell"),
    ],
)
def test_a_bad_checkpoint_is_one_line_that_names_file_and_key(checkpoint, tmp_path, case, words):
    folder = damaged(checkpoint, tmp_path / "kaputt", case)
    with pytest.raises(UserError) as refusal:
        TalkingPortrait.load(folder, "cpu")
    message = str(refusal.value).replace(os.sep, "/")
    assert re.search(words, message) and "\n" not in message and len(message) < 500
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("given", ["model_ckpt_steps_5.ckpt", ""])
def test_a_checkpoint_of_the_original_says_that_it_must_be_converted(tmp_path, given):
    (tmp_path / "model_ckpt_steps_5.ckpt").touch()
    with pytest.raises(UserError, match=r"python -m scripts\.convert_checkpoint .* checkpoints/official"):
        TalkingPortrait.load(tmp_path / given)


def test_a_face_model_whose_files_are_missing_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    config = tiny_portrait_config(driving=DrivingConfig.released())
    save_checkpoint(tmp_path / "c" / "portrait", {"model": to_dict(config)}, {})
    with pytest.raises(UserError, match=r"BFM_model_front\.mat.*non-commercial.*register at https://faces\.dmi"):
        TalkingPortrait.load(tmp_path / "c", "cpu")


def test_only_a_checkpoint_of_the_released_weights_gets_their_landmarks(tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path / "files"))
    write_small_bfm(tmp_path / "files")
    load_face_model.cache_clear()
    where = {}
    for points in ("exact", "official"):
        config = tiny_portrait_config(2, driving=DrivingConfig(torso_points=points))
        parts = dict(build_portrait(config).named_children())
        save_checkpoint(tmp_path / points / "portrait", {"model": to_dict(config)}, parts)
        where[points] = TalkingPortrait.load(tmp_path / points, "cpu").face_model.embedding(68).vertices
    load_face_model.cache_clear()
    assert torch.equal(where["official"], where["exact"] + 1)


@pytest.mark.parametrize("stage", [1, 2])
def test_models_of_the_earlier_stages_make_heads_on_black(tmp_path, portrait, stage):
    config = tiny_portrait_config(stage, driving=DrivingConfig.demo())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_portrait(config)
    save_checkpoint(
        tmp_path / "portrait",
        {"model": to_dict(config)},
        {name: part for name, part in model.named_children() if part is not None},
    )
    head = TalkingPortrait.load(tmp_path, "cpu")
    turned = rendered(head, portrait, still_motion(2, euler=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.4, 0.0]])))
    assert turned.shape == (2, 64, 64, 3) and not np.array_equal(turned, rendered(head, portrait, still_motion(2)))
    with pytest.raises(UserError, match="it cannot listen"):
        head.motion_from_speech(tmp_path / "a.wav", torch.Generator())


@pytest.mark.parametrize("names", [("canonical", "driving"), ("source", "driving")])
def test_an_adapter_gets_the_pnccs_that_it_reads(portrait, names):
    config = tiny_portrait_config(driving=DrivingConfig.demo())
    config = replace(config, motion_adapter=replace(config.motion_adapter, pncc_inputs=names))
    model = TalkingPortrait(build_portrait(config), config, procedural_model(), None, torch.device("cpu"))
    assert rendered(model, portrait, still_motion(1)).shape == (1, 64, 64, 3)


def test_frames_are_the_same_whatever_the_number_of_threads(pipeline, portrait):
    """Also the encoding of the photo: every worker has one torch thread."""
    motion, before = still_motion(4, euler=torch.linspace(0, 0.3, 4)[:, None].repeat(1, 3)), torch.get_num_threads()
    videos = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert pipeline.workers == threads
            videos.append(rendered(pipeline, portrait, motion))
            assert torch.get_num_threads() == threads  # the caller's own stay as they are
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(videos[0], videos[1]) and np.array_equal(videos[0], videos[2])


def test_bf16_gives_nearly_the_same_picture(checkpoint, pipeline, portrait):
    low = TalkingPortrait.load(checkpoint, "cpu", "bf16")
    exact, rough = (rendered(t, portrait, still_motion(1)).astype(float) for t in (pipeline, low))
    assert 0 < np.abs(exact - rough).mean() < 8


def test_a_clip_is_followed(clip, assets, pipeline):
    motion = pipeline.motion_from_clip(clip)
    assert len(motion) == 12
    assert 0.005 < float(motion.expression.std(dim=0).max()) < 2


def head_of(stage: int) -> TalkingPortrait:
    """A model of an earlier stage: without a torso."""
    config = tiny_portrait_config(stage, driving=DrivingConfig.demo())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_portrait(config)
    return TalkingPortrait(model, config, procedural_model(), None, torch.device("cpu"))


def changed_frames(pipeline: TalkingPortrait, portrait, motion: Motion) -> list[int]:
    """Frames that differ from those of a still motion."""
    still = rendered(pipeline, portrait, still_motion(len(motion)))
    return [k for k, (a, b) in enumerate(zip(rendered(pipeline, portrait, motion), still)) if not np.array_equal(a, b)]


def spike(size: int) -> torch.Tensor:
    """13 rows of zeros with a one in the middle of the first column."""
    values = torch.zeros(13, size)
    values[6, 0] = 1
    return values


def test_a_jerk_of_the_head_is_spread_over_seven_frames(portrait):
    assert changed_frames(head_of(2), portrait, still_motion(13, translation=0.3 * spike(3))) == [*range(3, 10)]
    assert changed_frames(head_of(2), portrait, still_motion(13, euler=0.3 * spike(3))) == [*range(3, 10)]


def test_the_torso_follows_a_twitch_of_the_jaw_over_seven_frames_and_the_face_in_one(pipeline, portrait):
    twitch = still_motion(13, expression=3 * spike(64))
    assert changed_frames(head_of(2), portrait, twitch) == [6]
    assert changed_frames(pipeline, portrait, twitch) == [*range(3, 10)]


def test_transparent_frames_keep_the_body(pipeline, portrait):
    def opacity(bias: float) -> np.ndarray:
        """Alpha where the torso covers nothing (a low bias of its cover) or everything (a high one)."""
        model = deepcopy(pipeline.model)
        torch.nn.init.constant_(model.decoder.torso_model.occlusion_2_predictor[-2].bias, bias)
        changed = TalkingPortrait(model, pipeline.config, pipeline.face_model, None, torch.device("cpu"))
        return rendered(changed, portrait, still_motion(1), "transparent")[0, ..., 3]

    assert opacity(-50.0).min() < 250
    assert (opacity(50.0) == 255).all()


def test_the_motion_is_seen_from_the_expression_of_the_photo(portrait):
    smiling = replace(portrait, expression=torch.eye(64)[:1])
    still = still_motion(1)
    assert not np.array_equal(rendered(head_of(2), portrait, still), rendered(head_of(2), smiling, still))
    assert np.array_equal(rendered(head_of(1), portrait, still), rendered(head_of(1), smiling, still))


def test_a_picture_is_no_driving_clip(tmp_path, pipeline):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    with pytest.raises(UserError, match="photo.png is a picture.*--driving"):
        pipeline.motion_from_clip(tmp_path / "photo.png")


def test_a_training_run_as_a_checkpoint_is_answered_with_its_export(tmp_path):
    step = tmp_path / "run" / "checkpoints" / "step_00000010"
    save_checkpoint(step, {"task": "htbsr"}, {"htbsr": torch.nn.Linear(1, 1)})
    for path in (tmp_path / "run", step):
        with pytest.raises(UserError, match=f"export_checkpoint --portrait {path} --audio2motion"):
            TalkingPortrait.load(path, "cpu")


def test_where_the_rig_draws_the_networks_are_read_when_they_are_asked_for(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "c")
    (tmp_path / "c" / "rig").mkdir()
    (tmp_path / "c" / "rig" / "config.yaml").write_text("cells: 64\n")
    (tmp_path / "c" / "portrait" / "image_to_plane.safetensors").unlink()
    talker = TalkingPortrait.load(tmp_path / "c", "cpu")
    with pytest.raises(UserError, match="image_to_plane.safetensors does not exist"):
        talker.with_networks()
