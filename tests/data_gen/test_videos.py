import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen import run
from data_gen.faces import FaceLimits
from data_gen.segments import NO_FACE
from data_gen.sources.folder import VideoDataConfig, find_videos
from data_gen.videos import prepare, prepare_video, summary
from modules.analysis.inpainting import inpaint_background
from modules.clips.format import Clip, list_clips, person_of
from modules.media.audio import read_sound
from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from modules.system.errors import UserError
from tests.data_gen.stand_in import FRAMES, SIZE, StandIn, install, talking_head
from tests.videos import tone, write_video

EMPTY = np.full((FRAMES, SIZE, SIZE, 3), 130, np.uint8)


@pytest.fixture(scope="module")
def talk() -> tuple[np.ndarray, np.ndarray]:
    return talking_head()


@pytest.fixture
def config(tmp_path, monkeypatch, talk) -> VideoDataConfig:
    """Settings for the rendered head; the folder of videos is there and empty."""
    install(monkeypatch, StandIn(*talk))
    (tmp_path / "raw").mkdir()
    return VideoDataConfig(
        videos=str(tmp_path / "raw"),
        folder=str(tmp_path / "clips"),
        face_model="procedural",
        size=96,
        pncc_size=32,
        shortest=0.4,
        longest=10,
        licence="our own",
        workers=1,
        limits=FaceLimits(smallest_face=40),
    )


def reports(config: VideoDataConfig) -> list:
    return list(prepare(config))[1:]


def refusals(config: VideoDataConfig) -> list[list[str]]:
    path = Path(config.folder, "rejected.tsv")
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def test_a_video_becomes_a_clip_with_all_its_parts(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "one.mp4", talk[0], tone(FRAMES / 25))
    [report] = reports(config)
    assert (report.clips, report.frames, report.with_sound, report.refused) == (1, FRAMES, 1, ())
    clip = Clip(tmp_path / "clips" / "one_000000")
    assert (clip.source, clip.licence, clip.face_model) == ("one.mp4, 0.00 to 0.48 s", "our own", "procedural")
    assert person_of(clip.folder) == "one"
    assert len(clip) == FRAMES and clip.landmarks.shape == (FRAMES, 478, 2)
    assert len(clip.audio()) == 640 * FRAMES and clip.speech("mel").features.shape == (24, 80)
    assert clip.stored_pncc(32).shape == (FRAMES + 1, 3, 32, 32)
    x, y = (clip.landmarks[5].mean(axis=0) * 96).astype(int)
    classes = clip.classes([5])[0]
    assert classes[y, x] == 3 and {0, 3, 4} <= set(np.unique(classes))
    assert clip.background.shape == clip.frames([0])[0].shape == (96, 96, 3)
    assert re.search(
        r"clips: 1 clips of 1 videos, 0.0 min of video, [\de.-]+ core-hours, 1 with sound$", summary(config)
    )


def test_finished_videos_are_not_looked_at_again(config, talk, tmp_path):
    first = write_video(tmp_path / "raw" / "one.mp4", talk[0])
    assert len(reports(config)) == 1
    write_video(tmp_path / "raw" / "two.mp4", talk[0])
    assert [report.name for report in reports(config)] == ["two"]
    assert list(prepare(config)) == [0]
    write_video(first, talk[0], tone(0.48))  # another file under that name
    assert [report.name for report in reports(config)] == ["one"]


def test_two_runs_on_one_folder_share_the_videos(config, talk, tmp_path):
    names = ("one", "two", "three", "four")
    for name in names:
        write_video(tmp_path / "raw" / f"{name}.mp4", talk[0])
    first, second = prepare(config), prepare(config)
    assert next(first) == next(second) == 4
    made = [[], []]
    for _ in names:  # in turn
        for run_of, found in zip((first, second), made):
            found.append(next(run_of))
    done = [[report.name for report in found if report is not None] for found in made]
    assert len(done[0]) == len(done[1]) == 2 and sorted(done[0] + done[1]) == sorted(names)
    assert summary(config).startswith(f"{config.folder}: 4 clips of 4 videos")
    assert all(report.seconds > 0 for found in made for report in found if report is not None)


def test_clips_of_a_run_that_was_stopped_are_kept(config, talk, tmp_path, monkeypatch):
    write_video(tmp_path / "raw" / "one.mp4", talk[0], tone(0.48))
    reports(config)
    Path(config.folder, "done.tsv").unlink()
    monkeypatch.setattr("data_gen.videos.write_clip", None)
    [report] = reports(config)
    assert (report.clips, report.with_sound) == (1, 1)


def test_a_broken_video_is_a_line_and_the_others_are_prepared(config, talk, tmp_path):
    (tmp_path / "raw" / "broken.mp4").write_bytes(b"\0" * 2000)
    write_video(tmp_path / "raw" / "good.mp4", talk[0])
    assert [report.clips for report in reports(config)] == [0, 1]
    [[name, start, stop, reason]] = refusals(config)
    assert (name, start, stop) == ("broken", "0.00", "0.00") and "cannot be read" in reason
    assert [path.name for path in list_clips(tmp_path / "clips")] == ["good_000000"]


def test_what_comes_before_the_damage_is_used(config, talk, tmp_path, monkeypatch):
    path = write_video(tmp_path / "raw" / "one.mp4", talk[0])

    def damaged(path, start, stop):
        def frames():
            yield from islice(open_video(path, start=start, stop=stop)[1], 11)
            raise UserError("one.mp4 is damaged after 0.4 s (bad data); cut it")

        return open_video(path)[0], frames()

    monkeypatch.setattr("data_gen.sources.base.open_video", damaged)
    report = prepare_video(config, find_videos(str(path))[0])
    assert report.frames == 11 and [r.reason for r in report.refused] == ["one.mp4 is damaged after 0.4 s (bad data)"]


def test_a_video_without_a_face_is_refused_in_one_line(config, tmp_path):
    write_video(tmp_path / "raw" / "empty.mp4", EMPTY)
    assert reports(config)[0].clips == 0
    assert refusals(config) == [["empty", "0.00", "0.48", NO_FACE]]
    assert "0 clips of 1 videos" in summary(config) and "1 parts refused" in summary(config)


def test_a_useless_video_gets_the_main_reason_alone(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "much.mp4", np.concatenate([talk[0][:4], EMPTY, talk[0][:4]]))
    assert reports(config)[0].clips == 0
    assert refusals(config) == [["much", "0.00", "0.80", NO_FACE]]


def test_a_useful_video_reports_its_longer_gaps(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "gap.mp4", np.concatenate([talk[0], EMPTY, talk[0], EMPTY[:5], talk[0]]))
    assert reports(config)[0].clips == 3
    assert refusals(config) == [["gap", "0.48", "0.96", NO_FACE]]


def test_a_cut_divides_a_video_and_its_sound(config, talk, tmp_path):
    sound = tone(FRAMES / 25)  # the second scene is silent
    write_video(tmp_path / "raw" / "cut.mp4", np.concatenate([talk[0], talk[0] // 3]), sound)
    [report] = reports(config)
    assert (report.clips, report.with_sound, report.refused) == (2, 1, ())
    bright, dark = (Clip(path) for path in list_clips(tmp_path / "clips"))
    assert (bright.name, dark.name) == ("cut_000000", f"cut_{FRAMES:06d}")
    assert len(bright) == len(dark) == FRAMES and dark.audio() is None
    assert dark.frames([0]).mean() < 0.5 * bright.frames([FRAMES - 1]).mean()


def test_long_scenes_are_divided_and_short_rests_refused(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "long.mp4", np.concatenate([talk[0], talk[0][::-1], talk[0][:4]]))
    [report] = reports(replace(config, longest=0.48))
    assert report.frames == 2 * FRAMES and report.refused == ()  # four frames are not worth a line
    write_video(tmp_path / "raw" / "long.mp4", talk[0][:4])
    assert reports(config)[0].refused[0].reason == "only 0.2 s long (shortest 0.4)"


def test_a_video_without_sound_is_prepared_without(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "one.mp4", talk[0])
    assert reports(config)[0].with_sound == 0
    clip = Clip(tmp_path / "clips" / "one_000000")
    assert clip.audio() is None and clip.speech("mel") is None


def test_an_empty_folder_and_a_missing_one_are_explained(config, tmp_path):
    with pytest.raises(UserError, match="no videos in"):
        next(prepare(config))
    with pytest.raises(UserError, match="there is no folder"):
        next(prepare(replace(config, videos=str(tmp_path / "nowhere"))))


def test_a_missing_model_stops_the_run_before_it_refuses_anything(config, talk, tmp_path, monkeypatch):
    write_video(tmp_path / "raw" / "one.mp4", talk[0])
    monkeypatch.setattr("data_gen.videos.ANALYSIS", ("none_such.task",))
    with pytest.raises(UserError, match="none_such.task is missing"):
        next(prepare(config))
    assert refusals(config) == []


def test_a_full_disk_stops_the_run_without_a_verdict_on_the_video(config, talk, tmp_path, monkeypatch):
    write_video(tmp_path / "raw" / "one.mp4", talk[0])

    def full(path, arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modules.clips.format.np.save", full)
    with pytest.raises(UserError, match="No space left"):
        reports(config)
    assert refusals(config) == [] and not Path(config.folder, "done.tsv").exists()
    assert [path for path in Path(config.folder).iterdir() if path.is_dir()] == []


def test_a_folder_keeps_to_its_settings(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "one.mp4", talk[0])
    reports(config)
    with pytest.raises(UserError, match="prepared with size=96, not 64"):
        next(prepare(replace(config, size=64)))


@pytest.mark.parametrize(
    "setting", [{"size": 95}, {"shortest": 5, "longest": 4}, {"workers": 0}, {"pncc_size": 10**30}]
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=str(next(iter(setting.values())))):
        VideoDataConfig(videos="raw", **setting)


def test_a_real_video_becomes_a_clip_of_the_ict_face(media, assets, tmp_path, capsys):
    source = media / "driving" / "talk_woman_torso_30fps.mp4"
    with VideoWriter(tmp_path / "raw" / "speaker.mp4", (512, 512), sound=read_sound(source)) as video:
        for frame in islice(open_video(source)[1], 12):
            video.write(frame)
    config = tmp_path / "real.yaml"
    config.write_text("source: videos\nface_model: ict\nsize: 128\nshortest: 0.4\nworkers: 1\n", encoding="utf-8")
    assert run.main([str(config), f"videos={tmp_path / 'raw'}", f"folder={tmp_path / 'clips'}"]) == 0
    assert "clips: 1 clips of 1 videos" in capsys.readouterr().out
    clip = Clip(tmp_path / "clips" / "speaker_000000")
    assert len(clip) == 12 and clip.face_model == "ict" and len(clip.audio()) == 12 * 640
    assert torch.rad2deg(clip.face.euler).abs().max() < 20
    shares = [(clip.classes(range(12)) == k).mean() for k in range(5)]
    assert min(shares) > 0.03 and shares[3] == pytest.approx(0.18, abs=0.05)  # hair, neck, face, clothes: all there
    blue = clip.background.astype(int)
    assert (blue[..., 2] > blue[..., 0] + 20).mean() > 0.95  # the wall, also behind her


def test_the_person_of_the_video_is_noted_in_its_clips(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "id07" / "one.mp4", talk[0])
    reports(replace(config, person=r"^(id\d+)_"))
    assert [person_of(clip) for clip in list_clips(tmp_path / "clips")] == ["id07"]


def test_the_scene_goes_on_behind_the_person_as_was_asked(config, talk, tmp_path):
    write_video(tmp_path / "raw" / "one.mp4", talk[0])
    for method in ("smooth", "nearest"):
        reports(replace(config, inpainting=method, folder=str(tmp_path / method)))
        clip = Clip(tmp_path / method / "one_000000")
        expected = inpaint_background(clip.frames(range(len(clip))), clip.classes(range(len(clip))), method)
        assert np.array_equal(clip.background, expected)
