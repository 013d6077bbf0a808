"""What the server makes of uploads; the files of the server are never named."""

import numpy as np
import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.rig import RigPainter
from inference.web.config import ServerLimits
from inference.web.studio import Making, Studio, VideoOptions
from modules.media.video_writer import VideoWriter
from modules.system.errors import UserError


def clip_of(path, frames: int, size=(64, 48), fps: int = 25):
    with VideoWriter(path, size, fps) as video:
        for _ in range(frames):
            video.write(np.zeros((size[1], size[0], 3), np.uint8))
    return path


def test_the_rig_draws_at_the_size_that_is_asked_for(pipeline, portrait):
    studio = Studio(pipeline, "rig", ServerLimits(), 128)
    painter = studio.portrait(None)
    assert isinstance(painter, RigPainter) and studio.picture(painter).shape[2] == 3
    assert Studio(pipeline, "planes", ServerLimits()).size == 64


def test_a_video_comes_step_by_step_and_closing_it_leaves_nothing(pipeline, portrait, tmp_path, speech):
    studio, options = Studio(pipeline, "planes", ServerLimits()), VideoOptions(seconds=0.2)
    for steps_to_do, left in ((3, []), (99, ["talk.mp4"])):
        making = Making()
        steps = studio.video(portrait, options.namespace(speech, None), "photo", tmp_path / "talk.mp4", making)
        seen = [(making.frames, making.total) for _, _ in zip(range(steps_to_do), steps)]
        steps.close()
        assert seen[:3] == [(0, 5), (1, 5), (2, 5)] and [path.name for path in tmp_path.iterdir()] == left


def test_a_seal_is_put_on_videos(pipeline, portrait, tmp_path, speech):
    sealed = []
    studio = Studio(
        pipeline, "planes", ServerLimits(), seal=lambda path, suffix: sealed.append((path.exists(), suffix))
    )
    options = VideoOptions(seconds=0.1).namespace(speech, None)
    for _ in studio.video(portrait, options, "photo", tmp_path / "a.mp4", Making()):
        pass
    assert sealed == [(True, ".mp4")]


def test_media_are_measured(pipeline, speech, clip, tmp_path):
    studio = Studio(pipeline, "planes", ServerLimits(speech_seconds=2, clip_pixels=300_000))
    sound, video = studio.media(speech), studio.media(clip)
    assert (sound.has_sound, sound.has_pictures, sound.seconds) == (True, False, pytest.approx(0.44))
    assert (video.has_sound, video.has_pictures) == (True, True) and 0.4 < video.seconds < 0.6
    silent = studio.media(clip_of(tmp_path / "silent.mp4", 25))
    assert not silent.has_sound and silent.seconds == pytest.approx(0.96)
    with pytest.raises(UserError, match="longer than 2 seconds"):
        studio.media(clip_of(tmp_path / "long.mp4", 80))
    with pytest.raises(UserError, match="the clip is 640 x 480; make it smaller"):
        studio.media(clip_of(tmp_path / "large.mp4", 2, (640, 480)))
    (tmp_path / "named.wav").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(UserError) as refusal:
        studio.media(tmp_path / "named.wav")
    assert "named" not in str(refusal.value) and "the sound" in str(refusal.value)


def test_a_photo_without_a_face_is_called_the_photo(pipeline, tmp_path):
    from PIL import Image

    Image.new("RGB", (100, 100)).save(tmp_path / "secret.png")
    with pytest.raises(UserError, match="no face found in the photo"):
        Studio(pipeline, "planes", ServerLimits()).portrait(tmp_path / "secret.png")


@pytest.mark.parametrize("wrong", [{"background": "docs"}, {"background": "#12345"}, {"seconds": float("nan")}])
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VideoOptions(**wrong)


def test_options_mean_what_they_mean_on_the_command_line(speech):
    options = VideoOptions(pose="still", blink="none", mouth_amplitude=0.7, temperature=0, seed=9, seconds=1.5)
    parsed = options.namespace(speech, None)
    assert (parsed.audio, parsed.driving, parsed.pose, parsed.blink) == (speech, None, "still", "none")
    assert (parsed.mouth_amplitude, parsed.temperature, parsed.seed, parsed.seconds) == (0.7, 0, 9, 1.5)
    assert options.namespace(None, speech).driving == speech
