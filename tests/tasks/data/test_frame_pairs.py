from dataclasses import replace
from pathlib import Path

import pytest
import torch

from modules.clips.fields import add_field
from modules.clips.format import list_clips
from modules.clips.splits import SplitConfig
from modules.portrait.driving import DrivingConfig
from modules.system.errors import UserError
from tasks.data.frame_batch import SOURCE, TARGET, FrameBatch
from tasks.data.frame_pairs import ClipDataConfig, FramePairs, ValidationPairs, sample_pair
from tests.tasks.tiny_images import SIZE, write_tiny_clips

FRAMES = 6


class FlatModel:
    """A face model with 68 landmarks on a line, for which no mesh is needed."""

    name = "procedural"

    def landmarks(self, identity, expression, count):
        line = torch.linspace(-0.5, 0.5, count)[None, :, None].repeat(len(expression), 1, 1)
        return torch.cat([line + expression[:, None, :1], torch.zeros_like(line), torch.zeros_like(line)], dim=-1)


@pytest.fixture
def config(tmp_path):
    write_tiny_clips(tmp_path / "clips", clips=3, frames=FRAMES)
    return ClipDataConfig(
        folder=str(tmp_path / "clips"),
        face_model="procedural",
        pncc_size=SIZE,
        torso=True,
        eye_closing=True,
        pairs_per_clip=5,
    )


def test_fields_travel_by_name(config):
    for clip in list_clips(Path(config.folder)):
        add_field(clip, "brightness")
    item = FramePairs(replace(config, fields=("brightness",)), list_clips(Path(config.folder)), FlatModel())[0]
    assert item["brightness"].shape == (2, 1)
    frame = FrameBatch({"brightness": item["brightness"][None]}, DrivingConfig()).target
    assert torch.equal(frame.fields(["brightness"])["brightness"](), item["brightness"][None, 1])
    with pytest.raises(ValueError, match="fields names sharpness"):
        replace(config, fields=("sharpness",))


@pytest.fixture
def pairs(config):
    return FramePairs(config, list_clips(Path(config.folder))[1:], FlatModel())


def test_pairs_are_far_apart(generator):
    for frames in (2, 10, 200):
        for _ in range(50):
            source, target = sample_pair(frames, generator)
            assert 0 <= source < frames and 0 <= target < frames
            assert abs(source - target) >= min(50, max((frames - 1 - target) // 2, target // 2))


def test_an_item_is_a_function_of_its_number(config, pairs):
    again = FramePairs(config, pairs.clips, FlatModel())
    for name, value in pairs[3].items():
        assert torch.equal(value, again[3][name]), name
    assert any(not torch.equal(pairs[i]["source_image"], pairs[i + 2]["source_image"]) for i in range(0, 6, 2))


def test_an_item_has_what_the_tasks_read(pairs):
    item = pairs[0]
    shapes = {name: tuple(value.shape) for name, value in item.items()}
    assert shapes == {
        "source_image": (3, SIZE, SIZE),
        "target_image": (3, SIZE, SIZE),
        "source_classes": (SIZE, SIZE),
        "target_classes": (SIZE, SIZE),
        "pncc": (5, 3, SIZE, SIZE),
        "closing": (3,),
        "euler": (2, 3),
        "translation": (2, 3),
        "keypoints": (2, 68, 2),
        "torso": (3, SIZE, SIZE),
        "background": (3, SIZE, SIZE),
    }
    assert item["source_image"].dtype == torch.uint8 and len(pairs) == 2 * 5


def test_the_five_pnccs_are_neutral_source_target_and_its_neighbours(pairs):
    stored = pairs.clip(0).clip.stored_pncc(SIZE)
    item = pairs.pair(0, 1, 3, torch.Generator())
    assert torch.equal(item["pncc"], torch.from_numpy(stored[[FRAMES, 1, 3, 2, 4]]))
    at_the_end = pairs.pair(0, 1, FRAMES - 1, torch.Generator())["pncc"]
    assert torch.equal(at_the_end[2], at_the_end[3]) and torch.equal(at_the_end[2], at_the_end[4])


def test_neighbours_that_nobody_reads_are_left_on_the_disk(pairs, config, monkeypatch):
    whole, short = pairs[0], FramePairs(config, pairs.clips, FlatModel(), neighbours=False)[0]
    assert short["pncc"].shape == (3, 3, SIZE, SIZE) and torch.equal(short["pncc"], whole["pncc"][:3])
    assert whole.keys() == short.keys()
    assert all(torch.equal(short[name], whole[name]) for name in whole.keys() - {"pncc"})


def test_without_stored_pnccs_an_item_has_the_coefficients_of_the_same_frames(pairs):
    for clip in pairs.clips:
        (clip / f"pncc_{SIZE}.npy").unlink()
    plain = FramePairs(pairs.config, pairs.clips, FlatModel())
    item = plain.pair(0, 1, 3, torch.Generator())
    face = plain.clip(0).clip.face
    assert "pncc" not in item and torch.equal(item["identity"], face.identity[0])
    assert torch.equal(item["expression"], face.expression[[1, 3, 2, 4]])
    at_the_end = plain.pair(0, 1, FRAMES - 1, torch.Generator())["expression"]
    assert torch.equal(at_the_end, face.expression[[1, FRAMES - 1, FRAMES - 1, FRAMES - 1]])


def test_a_clip_whose_pnccs_are_not_stored_is_drawn_beside_those_that_are(pairs, monkeypatch):
    monkeypatch.setattr(
        "tasks.data.frame_pairs.pncc_pixels",
        lambda model, face, rows, size: torch.zeros(len(rows), 3, size, size, dtype=torch.uint8),
    )
    (pairs.clips[1] / f"pncc_{SIZE}.npy").unlink()
    assert pairs[0].keys() == pairs[1].keys() and not pairs[1]["pncc"].any() and pairs[0]["pncc"].any()


def test_the_eyes_close_more_and_more_in_even_steps(pairs):
    amounts = torch.stack([pairs[number]["closing"] for number in range(10)])
    assert (amounts[:, 0] < 0.5).all() and (amounts[:, 2] >= 0.5).all() and (amounts[:, 2] < 1).all()
    assert torch.allclose(amounts[:, 1], (amounts[:, 0] + amounts[:, 2]) / 2) and amounts.std(dim=0).min() > 0.05


def test_the_coefficients_of_one_frame_may_have_noise(config, pairs):
    noisy = FramePairs(ClipDataConfig(**{**vars(config), "perturbation": 0.01}), pairs.clips, FlatModel())
    items = [noisy.pair(0, 1, 3, torch.Generator().manual_seed(seed)) for seed in range(40)]
    numbers = [int(item["perturbed_number"]) for item in items]
    assert set(numbers) == {SOURCE, TARGET} and 20 < numbers.count(TARGET) < 40  # three of four are the target's
    for item, number in zip(items, numbers):
        exact = noisy.clip(0).clip.face[{SOURCE: 1, TARGET: 3}[number]]
        for name in ("identity", "expression"):
            assert 0.005 < (item[f"perturbed_{name}"] - getattr(exact, name)[0]).std() < 0.015
    assert not any(name.startswith("perturbed") for name in pairs[0])


def test_the_cache_gives_the_same_pictures(config, pairs, tmp_path):
    cached = FramePairs(ClipDataConfig(**{**vars(config), "cache": str(tmp_path / "cache")}), pairs.clips, FlatModel())
    for index in range(3):
        for name, value in pairs[index].items():
            assert torch.equal(value, cached[index][name]), name
    assert list((tmp_path / "cache").rglob("*_frames.npy"))


def test_a_clip_that_was_prepared_anew_is_decoded_anew(config, pairs, tmp_path):
    settings = ClipDataConfig(**{**vars(config), "cache": str(tmp_path / "cache")})
    before = FramePairs(settings, pairs.clips, FlatModel())[0]["source_image"]
    video, other = (clip / "video.mp4" for clip in pairs.clips)
    video.write_bytes(other.read_bytes())
    assert not torch.equal(FramePairs(settings, pairs.clips, FlatModel())[0]["source_image"], before)


def test_a_clip_that_lost_its_video_is_named_with_a_cache_too(config, pairs, tmp_path):
    settings = ClipDataConfig(**{**vars(config), "cache": str(tmp_path / "cache")})
    again = FramePairs(settings, pairs.clips, FlatModel())
    for clip in pairs.clips:
        (clip / "video.mp4").unlink()
    with pytest.raises(UserError, match="has no video.mp4"):
        again[0]


def test_who_is_held_out_has_one_answer():
    with pytest.raises(ValueError, match="give one of them"):
        ClipDataConfig(validation_folder="data/held_out", split=SplitConfig(file="split.yaml"))


def test_validation_pairs_start_at_the_first_frame_and_reach_the_last(pairs):
    validation = ValidationPairs(pairs, per_clip=2)
    assert len(validation) == 4
    first, last = pairs.clip(0).clip.frames([0, FRAMES - 1])
    assert torch.equal(validation[1]["source_image"], torch.from_numpy(first).permute(2, 0, 1))
    assert torch.equal(validation[1]["target_image"], torch.from_numpy(last).permute(2, 0, 1))


def test_a_clip_of_another_face_model_is_refused(config, pairs):
    model = FlatModel()
    model.name = "bfm"
    with pytest.raises(UserError, match="fitted with the procedural face model"):
        FramePairs(config, pairs.clips, model)[0]
