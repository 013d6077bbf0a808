from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from modules.clips.splits import SplitConfig
from modules.face3d.pncc import render_pncc
from modules.media.pixels import to_float
from tasks.data.frame_pairs import ClipDataConfig, FramePairs
from tasks.engine.task import Task
from tasks.stages import previews
from tasks.stages.a2m import A2MLossConfig, A2MTask
from tasks.stages.htbsr import HTBSRTask, HTBSRTaskConfig
from tasks.stages.motion_adapter import MotionAdapterTask, MotionAdapterTaskConfig
from tasks.stages.previews import FACE_SIDE, FRAMES, clip_video, depth_picture, face_video
from tests.tasks.data.test_frame_pairs import FlatModel
from tests.tasks.tiny_images import SIZE, tiny_model, write_tiny_clips
from tests.tasks.tiny_speech import A2M, a2m_task

CPU = torch.device("cpu")
CLIP_FRAMES = 6


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Three clips, the first of which is held out; a face model without a mesh."""
    monkeypatch.setattr("tasks.data.frame_pairs.load_face_model", lambda name: FlatModel())
    write_tiny_clips(tmp_path / "clips", clips=3, frames=CLIP_FRAMES)
    (tmp_path / "split.yaml").write_text("train: [clip_1, clip_2]\nvalidation: [clip_0]\n")
    return ClipDataConfig(
        folder=str(tmp_path / "clips"),
        split=SplitConfig(file=str(tmp_path / "split.yaml")),
        face_model="procedural",
        pncc_size=SIZE,
        torso=True,
        eye_closing=True,
    )


def stage(number: int, clips: ClipDataConfig, **settings: object) -> Task:
    """A stage with random weights, ready for pictures."""
    generator, config = torch.Generator().manual_seed(0), {"model": tiny_model(number), "data": clips, **settings}
    kinds = {2: (MotionAdapterTask, MotionAdapterTaskConfig), 3: (HTBSRTask, HTBSRTaskConfig)}
    kind, config_class = kinds[number]
    task = kind(config_class(loss={"image": 1.0}, **config), generator)
    task.model.eval()
    return task


def held_out(clips: ClipDataConfig) -> Path:
    return Path(clips.folder) / "clip_0"


def held_out_pairs(clips: ClipDataConfig) -> list[dict[str, Tensor]]:
    """Batches of the first frame and every frame of the held-out clip, in the way validation reads them."""
    pairs = FramePairs(clips, [held_out(clips)], FlatModel())
    items = [pairs.pair(0, 0, target, torch.Generator()) for target in range(CLIP_FRAMES)]
    return [{name: value[None] for name, value in item.items()} for item in items]


def columns_of(video: Tensor) -> tuple[Tensor, ...]:
    return video.split(video.shape[1], dim=2)


def as_bytes(pictures: list[Tensor]) -> Tensor:
    """Pictures [1, 3, H, W] in [-1, 1] -> uint8 [T, H, W, 3]."""
    return ((torch.cat(pictures) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def test_near_is_bright_and_nothing_is_black():
    depth = torch.tensor([2.0, 3.0, 9.0, 9.0]).view(1, 1, 2, 2)
    picture = depth_picture(depth, torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2))
    assert picture[0, 0, 0, 0] > picture[0, 0, 0, 1] > -1 == picture[0, 0, 1, 0]
    assert torch.isfinite(depth_picture(depth, torch.zeros(1, 1, 2, 2))).all()


def test_a_clip_drives_itself_from_its_first_frame(clips):
    video = clip_video(
        clips, held_out(clips), CPU, lambda batch: [to_float(batch["source_image"]), to_float(batch["target_image"])]
    )
    frames = torch.from_numpy(FramePairs(clips, [held_out(clips)], FlatModel()).clip(0).frames([*range(6)]))
    source, target = columns_of(video)
    assert video.dtype == torch.uint8 and video.shape == (CLIP_FRAMES, SIZE, 2 * SIZE, 3)
    assert torch.equal(target, frames)
    assert torch.equal(source, frames[:1].expand(CLIP_FRAMES, -1, -1, -1))


def test_a_batch_is_what_validation_reads_but_for_what_losses_alone_need(clips):
    seen: list[dict[str, Tensor]] = []

    def columns(batch: dict[str, Tensor]) -> list[Tensor]:
        seen.append(batch)
        return [to_float(batch["target_image"])]

    with torch.autocast("cpu", torch.bfloat16):  # changes nothing
        clip_video(replace(clips, perturbation=0.1), held_out(clips), CPU, columns)
    for batch, expected in zip(seen, held_out_pairs(clips), strict=True):
        assert batch.keys() == expected.keys() - {"closing"}
        for name, value in batch.items():
            whole = expected[name][:, :3] if name == "pncc" else expected[name]  # without the frame's neighbours
            assert value.dtype == whole.dtype and torch.equal(value, whole), name


def test_frames_are_made_one_by_one_and_a_long_clip_is_cut(clips, monkeypatch):
    read, made = [], []
    pair = FramePairs.pair

    def counted(self: FramePairs, number: int, source: int, target: int, generator: torch.Generator) -> dict:
        read.append(target)
        return pair(self, number, source, target, generator)

    def columns(batch: dict[str, Tensor]) -> list[Tensor]:
        made.append(len(read))
        return [to_float(batch["target_image"])]

    monkeypatch.setattr(FramePairs, "pair", counted)
    monkeypatch.setattr(previews, "FRAMES", 4)
    assert len(clip_video(clips, held_out(clips), CPU, columns)) == 4
    assert made == [2, 3, 4, 5] and read == [0, 0, 1, 2, 3]  # the source once, then each target


def test_large_pictures_are_made_smaller_and_small_columns_fit_the_target(clips):
    def columns(batch: dict[str, Tensor]) -> list[Tensor]:
        grey = batch["source_image"].float().mean() / 127.5 - 1
        return [grey.expand(1, 3, size, size) for size in (8, 600)]

    video = clip_video(clips, held_out(clips), CPU, columns)
    assert video.shape == (CLIP_FRAMES, 256, 512, 3) and video.float().std() < 1


@pytest.mark.parametrize("number", [2, 3])
def test_a_stage_shows_source_pncc_prediction_and_target(clips, number):
    task, pairs = stage(number, clips), held_out_pairs(clips)
    batches = [task.frames(b) for b in pairs]
    with torch.no_grad():
        video = task.videos({})["source_pncc_output_truth"]
        outputs = [task.reenacted(b) if number == 2 else task.reenacted(b, b.target) for b in batches]
    assert video.dtype == torch.uint8 and video.shape == (CLIP_FRAMES, SIZE, 4 * SIZE, 3)
    source, pncc, output, target = columns_of(video)
    assert torch.equal(target, as_bytes([b.target.head if number == 2 else b.target.image for b in batches]))
    assert torch.equal(source, target[:1].expand_as(source))
    assert torch.equal(pncc, torch.cat([b["pncc"][:, 2] for b in pairs]).permute(0, 2, 3, 1))
    assert torch.equal(output, as_bytes([o.image for o in outputs]))
    for column in (pncc, output, target):
        assert (column[1:] != column[:-1]).flatten(1).any(dim=1).all()  # something moves in every frame


@pytest.fixture
def speech(face):
    task = a2m_task(A2MLossConfig(expression=0.5))
    task.modules["audio2motion"].eval()
    data = task.validation_dataset()
    return task, task.collate([data[0], data[1]])


def test_faces_of_prediction_and_target_speak_side_by_side(speech):
    task, batch = speech
    with torch.no_grad():
        video = task.videos(batch)["generated_truth"]
        motion = task._generate({name: value[:1] for name, value in batch.items()})[0]
    frames = batch["expression"].shape[1]
    assert video.dtype == torch.uint8 and video.shape == (frames, FACE_SIDE, 2 * FACE_SIDE, 3)
    identity = batch["identity"][:1]
    for column, expression in zip(columns_of(video), (motion, batch["expression"][0])):
        assert torch.equal(column, as_bytes([render_pncc(task.face, identity, e[None], FACE_SIDE) for e in expression]))
    target = columns_of(video)[1]
    assert (target[1:] != target[:-1]).flatten(1).any(dim=1).float().mean() > 0.5  # the ends are silent
    assert not torch.equal(*columns_of(video))


def test_padded_frames_are_not_shown_and_a_perfect_motion_looks_like_the_target(speech, monkeypatch):
    task, batch = speech
    batch["mask"][0, 20:] = 0
    monkeypatch.setattr(A2MTask, "_generate", lambda self, sample: sample["expression"])
    video = task.videos(batch)["generated_truth"]
    assert len(video) == 20 and torch.equal(*columns_of(video))


def test_an_identity_that_is_generated_is_shown(speech):
    task, batch = speech
    landmarks_alone = replace(task.config.loss, expression=0.0, landmarks=1.0)
    config = replace(task.config, model=replace(A2M, motion_size=144), loss=landmarks_alone)
    whole = A2MTask(config, torch.Generator().manual_seed(0))
    identity, expression = 3 * batch["identity"], batch["expression"]
    whole._generate = lambda sample: torch.cat(
        [identity[:1, None].expand(1, expression.shape[1], -1), sample["expression"]], dim=-1
    )
    generated, target = columns_of(whole.videos(batch)["generated_truth"])
    assert torch.equal(target, face_video(whole.face, [(batch["identity"][:1], expression[0])]))
    assert torch.equal(generated, face_video(whole.face, [(identity[:1], expression[0])]))


def test_faces_are_drawn_in_full_precision_and_for_two_seconds_at_most(face):
    identity, expression = torch.randn(1, 80), torch.randn(1, 64).repeat(FRAMES + 5, 1)
    exact = face_video(face, [(identity, expression[:2])])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(face_video(face, [(identity, expression[:2])]), exact)
    short = face_video(face, [(identity, expression), (identity, expression[:3])])
    assert len(short) == 3 and len(face_video(face, [(identity, expression)])) == FRAMES
