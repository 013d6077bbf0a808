import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from modules.media import video_writer as video
from modules.media.audio import Sound, read_sound
from modules.media.rates import FRAME_RATE
from modules.media.video_reader import open_video
from modules.media.video_writer import PROVENANCE, VideoWriter
from modules.system.errors import UserError
from tests.conftest import ROOT
from tests.videos import counting_frames, levels, tone, write_video


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_frames_come_back_in_number_order_and_colour(tmp_path: Path, size: tuple[int, int]):
    frames = counting_frames(12, size[1], size[0])
    frames[3][:, :30] = (200, 30, 30)
    info, decoded = open_video(write_video(tmp_path / "new folder é" / "a b.mp4", frames))
    decoded = list(decoded)
    assert (info.width, info.height) == (64, 48) and info.rate == FRAME_RATE and not info.has_sound
    assert levels(decoded[5:]) == list(range(5, 12)) and len(decoded) == 12
    assert np.abs(decoded[3][10:30, 8:22].astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.parametrize(
    "rate, channels, suffix",
    [(16000, 1, ".mp4"), (44100, 2, ".mp4"), (11025, 1, ".mp4"), (16000, 1, ".webm"), (48000, 2, ".mov")],
)
@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_the_sound_is_as_long_as_the_pictures(tmp_path: Path, rate: int, channels: int, suffix: str, seconds: float):
    alpha = suffix != ".mp4"
    path = write_video(
        tmp_path / f"talk{suffix}",
        counting_frames(25, channels=4 if alpha else 3),
        alpha=alpha,
        sound=tone(seconds, rate, channels),
    )
    sound = read_sound(path)
    samples = sound.samples()
    assert samples.shape[1] == channels
    assert len(samples) / sound.rate == pytest.approx(1.0, abs=0.045)
    level = np.sqrt((samples[: int(min(seconds, 0.9) * sound.rate)] ** 2).mean())
    assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.12)
    silence = samples[int((seconds + 0.1) * sound.rate) : int(0.95 * sound.rate)]
    assert np.abs(silence).max(initial=0) < 0.02


@pytest.mark.parametrize("suffix, decoder", [(".webm", "libvpx-vp9"), (".mov", "prores")])
def test_transparency_is_kept(tmp_path: Path, suffix: str, decoder: str):
    frame = np.full((48, 64, 4), 120, np.uint8)
    frame[..., 3] = np.where(np.arange(64) < 32, 255, 0)
    path = write_video(tmp_path / f"cut{suffix}", [frame] * 3, alpha=True)
    with av.open(str(path)) as container:
        context = av.CodecContext.create(decoder, "r")
        context.extradata = container.streams.video[0].codec_context.extradata
        context.width, context.height = 64, 48
        packet = next(container.demux(video=0))
        context.codec_tag = container.streams.video[0].codec_context.codec_tag
        decoded = (context.decode(packet) + context.decode(None))[0].to_ndarray(format="rgba")
    assert decoded[24, 8, 3] > 250 and decoded[24, 56, 3] < 5
    assert abs(int(decoded[24, 8, 0]) - 120) < 6


def test_the_file_says_that_it_is_synthetic(tmp_path: Path):
    for suffix, alpha in ((".mp4", False), (".mov", True), (".webm", True)):
        path = write_video(tmp_path / f"a{suffix}", counting_frames(2, channels=4 if alpha else 3), alpha=alpha)
        with av.open(str(path)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
        assert tags["comment"] == PROVENANCE


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_or_ctrl_c_nothing_is_left(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), VideoWriter(tmp_path / "talk.mp4", (64, 48), sound=tone(1, 16000)) as writer:
        writer.write(counting_frames(1)[0])
        assert list(tmp_path.iterdir())
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path):
    path = write_video(tmp_path / "talk.mp4", counting_frames(3))
    before = path.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(path, (64, 48)) as writer:
        writer.write(counting_frames(1)[0])
        raise RuntimeError
    assert path.read_bytes() == before
    write_video(path, counting_frames(6))
    assert path.read_bytes() != before and list(tmp_path.iterdir()) == [path]


def test_a_damaged_sound_stops_the_video_and_leaves_nothing(tmp_path: Path):
    def blocks():
        yield np.zeros((100, 1), np.float32)
        raise UserError("the sound is damaged")

    with pytest.raises(UserError, match="sound is damaged"):
        write_video(tmp_path / "talk.mp4", counting_frames(5), sound=Sound(16000, blocks))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, alpha, words",
    [
        ("a.avi", False, "written as .mp4"),
        ("a.mp4", True, ".webm or .mov"),
        ("folder.mp4", False, "is a folder"),
        ("file/a.mp4", False, "cannot be written"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, name: str, alpha: bool, words: str):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=words) as caught:
        VideoWriter(tmp_path / name, (64, 48), alpha=alpha)
    assert name in str(caught.value)


def test_no_frames_make_no_file(tmp_path: Path):
    with pytest.raises(UserError, match="no frames"), VideoWriter(tmp_path / "a.mp4", (64, 48)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"\[48, 64, 3\]"), VideoWriter(tmp_path / "a.mp4", (64, 48)) as writer:
        writer.write(np.zeros((48, 48, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError("the sound is damaged")])
def test_what_stops_the_opening_leaves_nothing(tmp_path: Path, error: BaseException | type[BaseException]):
    def blocks():
        raise error
        yield np.zeros((1, 1), np.float32)

    with pytest.raises((KeyboardInterrupt, UserError)):
        VideoWriter(tmp_path / "a.mp4", (64, 48), sound=Sound(16000, blocks))
    assert list(tmp_path.iterdir()) == []


def test_without_h264_a_note_says_what_the_file_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(video, "_can_encode", lambda name: name == "mpeg4")
    with VideoWriter(tmp_path / "a.mp4", (64, 48)) as writer:
        writer.write(counting_frames(1)[0])
    assert "MPEG-4 part 2" in writer.note and (tmp_path / "a.mp4").is_file()
    monkeypatch.setattr(video, "_can_encode", lambda name: False)
    with pytest.raises(UserError, match="no H.264 encoder"):
        VideoWriter(tmp_path / "b.mp4", (64, 48))


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path):
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from modules.media.video_writer import VideoWriter
        from modules.system.errors import run_command
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        def body():
            rng = np.random.default_rng(0)
            with VideoWriter(Path(sys.argv[1]), (256, 256)) as writer:
                for _ in range(60):
                    writer.write(rng.integers(0, 255, (256, 256, 3)).astype(np.uint8))
        sys.exit(run_command(body))
    """)
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.mp4")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "cannot be written" in result.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix, alpha", [(".mp4", False), (".webm", True), (".mov", True)])
def test_the_file_says_which_colours_it_holds_and_they_come_back(tmp_path: Path, suffix: str, alpha: bool):
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    frame = np.repeat(np.repeat(colours, 32, axis=0), 32, axis=1)
    opaque = np.full((*frame.shape[:2], 1), 255, np.uint8)
    path = write_video(tmp_path / f"a{suffix}", [np.dstack([frame, opaque]) if alpha else frame] * 3, alpha=alpha)
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
    assert (decoded.colorspace, decoded.color_primaries, decoded.color_trc, decoded.color_range) == (1, 1, 1, 1)
    seen = list(open_video(path)[1])[1].reshape(6, 32, 8, 32, 3)[:, 8:24, :, 8:24].mean((1, 3))
    assert np.abs(seen - colours).max() < 2
