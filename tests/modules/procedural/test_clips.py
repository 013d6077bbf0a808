import torch

from modules.procedural.clips import render_clip, sample_motion
from modules.procedural.head import expression_index, procedural_model
from modules.procedural.person import sample_person


def test_a_longer_clip_begins_with_the_shorter_one():
    short, long = sample_motion(3, 20), sample_motion(3, 60)
    for name in ("euler", "translation"):
        torch.testing.assert_close(getattr(long, name)[:20], getattr(short, name))
    torch.testing.assert_close(long.expression[:19], short.expression[:19], atol=1e-5, rtol=0)


def test_heads_move_smoothly_within_natural_limits():
    for seed in range(20):
        motion = sample_motion(seed, 100)
        limits = torch.deg2rad(torch.tensor([12.5, 20.5, 6.5]))
        assert (motion.euler.abs() <= limits).all()
        assert motion.euler.diff(dim=0).abs().max() < torch.deg2rad(torch.tensor(3.0))
        assert -6.2 < motion.translation[:, 2].min() and motion.translation[:, 2].max() < -4.2


def test_eyes_blink_for_two_to_eight_frames():
    closed = torch.cat([sample_motion(seed, 250).expression[:, expression_index("blink_left")] for seed in range(5)])
    assert closed.max() > 0.85 and 0.02 < (closed > 0.5).float().mean() < 0.2


def test_speech_drives_the_mouth_and_leaves_the_eyes_to_chance():
    speech = torch.zeros(50, 64)
    speech[:, expression_index("jaw_open")] = 0.7
    speech[:, expression_index("blink_left")] = 5.0
    motion = sample_motion(1, 50, speech)
    assert (motion.expression[:, expression_index("jaw_open")] == 0.7).all()
    assert motion.expression[:, expression_index("blink_left")].max() <= 1


def test_a_clip_holds_frames_classes_and_its_background():
    person = sample_person(4)
    clip = render_clip(procedural_model(), person, sample_motion(4, 2), 48)
    assert clip.frames.shape == (2, 3, 48, 48) and clip.classes.shape == (2, 48, 48)
    empty = clip.classes == 0
    same = torch.nn.functional.max_pool2d((~empty)[:, None].float(), 3, 1, 1)[:, 0] == 0
    difference = (clip.frames - clip.background).abs().amax(dim=1)
    assert difference[same].max() < 1e-5
    assert torch.equal(clip.coefficients.identity[0], person.identity)
