import itertools
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.motion import Motion
from inference.pipeline import TalkingPortrait, choose_device, torso_keypoints
from modules.errors import UserError


def still_motion(frames: int, **changes: torch.Tensor) -> Motion:
    parts = {"expression": torch.zeros(frames, 64), "euler": torch.zeros(frames, 3),
             "translation": torch.zeros(frames, 3), "blink": torch.zeros(frames, 1)}
    return Motion(**(parts | changes), face_model="procedural")


def rendered(talker, portrait, motion, *arguments) -> np.ndarray:
    return np.stack(list(talker.frames(portrait, motion, *arguments)))


def test_frames_do_not_depend_on_how_many_are_rendered_together(talker, portrait):
    euler = torch.linspace(0, 0.3, 5)[:, None] * torch.tensor([0.2, 1.0, 0.1])
    motion = still_motion(5, euler=euler)
    one, three = (rendered(talker, portrait, motion, None, batch).astype(int) for batch in (1, 3))
    assert one.shape == (5, 64, 64, 3)
    assert np.abs(one - three).max() <= 1


def test_a_still_motion_gives_a_still_picture(talker, portrait):
    frames = rendered(talker, portrait, still_motion(3))
    assert np.array_equal(frames[0], frames[1]) and np.array_equal(frames[1], frames[2])


@pytest.mark.parametrize("change", [
    {"expression": torch.eye(64)[:1].repeat(2, 1)}, {"euler": torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.3, 0.0]])},
    {"translation": torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])}, {"blink": torch.ones(2, 1)}])
def test_every_part_of_a_motion_changes_the_picture(talker, portrait, change):
    moved = rendered(talker, portrait, still_motion(2, **change))[1]
    assert not np.array_equal(moved, rendered(talker, portrait, still_motion(2))[1])


def test_the_background_comes_from_photo_picture_or_nowhere(talker, portrait):
    motion = still_motion(1)
    own = rendered(talker, portrait, motion)[0]
    white = rendered(talker, portrait, motion, torch.ones(1, 3, 64, 64))[0]
    clear = rendered(talker, portrait, motion, "transparent")[0]
    assert not np.array_equal(own, white)
    assert clear.shape == (64, 64, 4) and len(np.unique(clear[..., 3])) > 1


def test_debug_frames_hold_five_pictures(talker, portrait):
    frame = next(talker.debug_frames(portrait, still_motion(1)))
    assert frame.shape == (64, 320, 3)
    source = ((portrait.picture[0].permute(1, 2, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    assert np.array_equal(frame[:, :64], source)


def test_memory_does_not_grow_with_the_length(talker, portrait):
    def peak(frames: int) -> int:
        stream = talker.frames(portrait, still_motion(frames), None, 1)
        next(stream)
        tracemalloc.start()
        for _ in itertools.islice(stream, 6):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size
    peak(8)
    assert peak(4000) < peak(8) + 2**20


def test_a_motion_of_another_face_model_is_refused(talker):
    with pytest.raises(UserError, match="bfm"):
        talker.check_motion(replace(still_motion(1), face_model="bfm"))


def test_key_points_follow_the_head_and_stay_in_the_picture(talker, portrait):
    points = talker.face_model.cpu().landmarks(portrait.identity, portrait.expression, 68)
    far = torch.tensor([[0.0, 0.0, -5.0]])
    middle = torso_keypoints(points, torch.zeros(1, 3), far)
    right = torso_keypoints(points, torch.zeros(1, 3), far + torch.tensor([[0.3, 0.0, 0.0]]))
    gone = torso_keypoints(points, torch.zeros(1, 3), far + torch.tensor([[9.0, 0.0, 0.0]]))
    assert bool((right[..., 0] > middle[..., 0]).all()) and float(middle[..., 2].abs().max()) == 0
    assert float(gone.abs().max()) <= 1


def test_a_missing_checkpoint_or_device_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        TalkingPortrait.load(tmp_path)
    with pytest.raises(UserError, match="cannot be used here"):
        choose_device("no-such-device")


def test_bf16_gives_nearly_the_same_picture(checkpoint, talker, portrait):
    low = TalkingPortrait.load(checkpoint, "cpu", "bf16")
    exact, rough = (rendered(t, portrait, still_motion(1)).astype(float) for t in (talker, low))
    assert 0 < np.abs(exact - rough).mean() < 8


def test_a_clip_is_followed(clip, assets, talker):
    motion = talker.motion_from_clip(clip)
    assert len(motion) == 12
    assert 0.005 < float(motion.expression.std(dim=0).max()) < 2
