import shutil
from dataclasses import replace
from tokenize import TokenError

import av
import numpy as np
import pytest
import torch

from modules.audio.features import AudioFeatures
from modules.clips import format as clip_format
from modules.clips.format import CannotWrite, Clip, ClipContent, list_clips, person_of, write_clip
from modules.face3d.coefficients import FaceCoefficients
from modules.system.errors import UserError

FRAMES, SIZE = 12, 32


@pytest.fixture
def content():
    """A clip whose picture is a ramp that gets brighter, with random classes."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 100, SIZE, dtype=np.float32)[None, :, None].repeat(SIZE, 0).repeat(3, 2)
    frames = np.stack([ramp + 10 * t for t in range(FRAMES)]).astype(np.uint8)
    face = FaceCoefficients.neutral(FRAMES).replace(euler=torch.rand(FRAMES, 3))
    return ClipContent(
        frames=frames,
        classes=random.integers(0, 6, (FRAMES, SIZE, SIZE), dtype=np.uint8),
        background=frames[0],
        face=face,
        face_model="procedural",
        landmarks=random.random((FRAMES, 68, 2)),
        audio=np.zeros(640, np.float32),
        pncc=np.zeros((FRAMES + 1, 3, 8, 8), np.uint8),
    )


def test_random_frames_are_the_ones_that_were_written(tmp_path, content):
    write_clip(tmp_path / "a", content)
    clip, indices = Clip(tmp_path / "a"), [7, 0, 11, 7]
    assert np.abs(clip.frames(indices).astype(int) - content.frames[indices]).max() <= 4
    assert np.array_equal(clip.classes(indices), content.classes[indices])
    assert len(clip) == FRAMES and clip.face_model == "procedural"
    torch.testing.assert_close(clip.face.euler, content.face.euler)


def test_reading_in_order_gives_the_same_pictures_as_random_access(tmp_path, content):
    write_clip(tmp_path / "a", content)
    clip = Clip(tmp_path / "a")
    assert np.array_equal(np.stack(list(clip.all_frames())), clip.frames(range(FRAMES)))
    assert np.array_equal(np.stack(list(clip.all_classes())), content.classes)
    assert np.array_equal(clip.background, content.background)
    assert len(clip.audio()) == 640 and clip.stored_pncc(8).shape == (FRAMES + 1, 3, 8, 8)
    assert clip.stored_pncc(16) is None


def test_what_a_clip_says_of_itself_and_its_speech_come_back(tmp_path, content):
    speech = AudioFeatures(torch.rand(8, 80), torch.rand(8))
    write_clip(tmp_path / "a", replace(content, source="a.mp4, 0.00 to 0.48 s", licence="CC0", speech={"mel": speech}))
    clip = Clip(tmp_path / "a")
    assert (clip.source, clip.licence) == ("a.mp4, 0.00 to 0.48 s", "CC0")
    read = clip.speech("mel")
    assert torch.equal(read.features, speech.features) and torch.equal(read.f0, speech.f0) and read.pitch == "praat"
    assert clip.stored_speech("mel") == (8, "praat")
    assert clip.stored_speech("hubert") is None and clip.speech("hubert") is None


def test_the_tracker_of_the_pitch_is_stored_and_praat_in_earlier_clips(tmp_path, content):
    speech = {"mel": AudioFeatures(torch.rand(8, 80), torch.rand(8), "world")}
    write_clip(tmp_path / "a", replace(content, speech=speech))
    clip, path = Clip(tmp_path / "a"), tmp_path / "a" / "speech_mel.npz"
    assert clip.speech("mel").pitch == "world" and clip.stored_speech("mel") == (8, "world")
    np.savez(path, features=np.zeros((8, 80)), f0=np.zeros(8))
    assert clip.speech("mel").pitch == "praat" and clip.stored_speech("mel") == (8, "praat")
    np.savez(path, features=np.zeros((8, 80)), f0=np.zeros(8), pitch="yin")
    with pytest.raises(UserError, match="speech_mel.npz is missing or damaged .pitch is 'yin'"):
        clip.stored_speech("mel")


def test_a_clip_of_speech_alone_has_no_pictures(tmp_path, content):
    speech = {"whisper": AudioFeatures(torch.rand(8, 4), torch.rand(8))}
    alone = replace(content, frames=None, landmarks=np.zeros((FRAMES, 0, 2)), pncc=None, speech=speech)
    write_clip(tmp_path / "a", alone)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["audio.wav", "clip.npz", "speech_whisper.npz"]
    clip = Clip(tmp_path / "a")
    assert len(clip) == FRAMES and clip.stored_speech("whisper") == (8, "praat")
    for read in (lambda: clip.frames([0]), lambda: next(clip.all_classes())):
        with pytest.raises(UserError, match="holds speech alone"):
            read()


def test_a_clip_shows_its_person_else_somebody_of_its_video(tmp_path, content):
    for name, person, video in (("a", "id07", "id07_b"), ("b", "", "holiday"), ("holiday_2_000125", "", "")):
        write_clip(tmp_path / name, replace(content, person=person, video=video))
    assert [person_of(tmp_path / name) for name in ("a", "b", "holiday_2_000125")] == ["id07", "holiday", "holiday_2"]
    with pytest.raises(UserError, match="is no prepared clip"):
        person_of(tmp_path / "nothing")


@pytest.mark.parametrize(
    "folder, person", [("talk_000000", "talk"), ("person_000012", "person_000012"), ("my_person_000012", "my_person")]
)
def test_the_folder_of_an_earlier_version_names_video_or_person(tmp_path, content, folder, person):
    write_clip(tmp_path / folder, content)
    path = tmp_path / folder / "clip.npz"
    with np.load(path) as arrays:
        before = {name: arrays[name] for name in arrays.files if name not in ("person", "video")}
    np.savez(path, **before)
    assert person_of(tmp_path / folder) == person


def test_clips_of_the_first_version_are_read_and_later_ones_refused(tmp_path, content):
    write_clip(tmp_path / "a", content)
    path = tmp_path / "a" / "clip.npz"
    with np.load(path) as arrays:
        now = {name: arrays[name] for name in arrays.files}
    assert int(now["version"]) == 2 and int(now["fps"]) == 25
    np.savez(path, **{name: now[name] for name in now if name not in ("version", "fps", "source", "licence")})
    assert (Clip(tmp_path / "a").source, len(Clip(tmp_path / "a"))) == ("", FRAMES)
    for change in ({"version": 3}, {"fps": 30}):
        np.savez(path, **(now | change))
        with pytest.raises(UserError, match=f"{next(iter(change.values()))}.*update it"):
            Clip(tmp_path / "a")


def test_a_background_can_be_made_of_what_was_written(tmp_path, content):
    def darkest(frames, classes):
        assert len(frames) == len(classes) == FRAMES
        assert np.array_equal(classes[-1], content.classes[-1])
        return min((frames[t] for t in (7, 3)), key=np.mean)

    write_clip(tmp_path / "a", replace(content, background=darkest))
    assert np.array_equal(Clip(tmp_path / "a").background, Clip(tmp_path / "a").frames([3])[0])


@pytest.mark.parametrize("short, message", [("frames", "3 frames, 4 masks"), ("classes", "4 frames, 3 masks")])
def test_a_clip_that_fails_leaves_nothing_behind(tmp_path, content, short, message):
    with pytest.raises(ValueError, match=message):
        write_clip(tmp_path / "a", replace(content, **{short: getattr(content, short)[:3]}))
    with pytest.raises(ValueError, match="0 frames"):
        write_clip(tmp_path / "a", replace(content, frames=[], classes=[]))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_distinguished_from_a_bad_clip(tmp_path, content, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clip_format.soundfile, "write", full)
    with pytest.raises(CannotWrite, match="No space left on device.*another folder"):
        write_clip(tmp_path / "a", content)
    assert list(tmp_path.iterdir()) == []


def test_missing_clips_are_explained(tmp_path):
    with pytest.raises(UserError, match="no prepared clips"):
        list_clips(tmp_path)
    with pytest.raises(UserError, match="is no prepared clip"):
        Clip(tmp_path)


@pytest.mark.parametrize("name", ["video.mp4", "masks.mkv", "background.png", "clip.npz"])
@pytest.mark.parametrize("harm", ["gone", "empty", "cut", "other"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, content, name, harm):
    folder = tmp_path / "a"
    write_clip(folder, content)
    file = folder / name
    data = file.read_bytes()
    file.unlink() if harm == "gone" else file.write_bytes({"empty": b"", "cut": data[:60], "other": b"x" * 500}[harm])
    with pytest.raises(UserError, match=name) as caught:
        clip = Clip(folder)
        list(clip.all_frames()), list(clip.all_classes()), clip.background
    assert "\n" not in str(caught.value) and "make it again" in str(caught.value)


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), TokenError("EOF in multi-line statement"), av.error.PatchWelcomeError(1, "later")]
)
def test_whatever_a_reader_raises_is_one_line(tmp_path, content, monkeypatch, error):
    """A broken header makes the readers of videos and arrays raise what nobody expects of them."""

    def broken(*arguments, **options):
        raise error

    folder = tmp_path / "a"
    write_clip(folder, content)
    monkeypatch.setattr(clip_format.av, "open", broken)
    with pytest.raises(UserError, match="video.mp4 is missing or damaged.*make it again"):
        list(Clip(folder).all_frames())


def test_a_video_of_another_length_is_named(tmp_path, content):
    write_clip(tmp_path / "a", content)
    face = content.face[: FRAMES - 2]
    short = replace(content, frames=content.frames[:-2], classes=content.classes[:-2], face=face, pncc=None)
    write_clip(tmp_path / "b", short)
    shutil.copy(tmp_path / "b/video.mp4", tmp_path / "a/video.mp4")
    with pytest.raises(UserError, match=f"{FRAMES - 2} frames instead of {FRAMES}"):
        list(Clip(tmp_path / "a").all_frames())
