import json
import math
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from modules.media.video_reader import open_video
from modules.media.video_writer import VideoWriter
from tasks.evaluate import main
from tasks.evaluation.results import result_path
from tests.conftest import ROOT
from tests.modules.metrics.test_own_syncnet import write as write_syncnet
from tests.tasks.small_evaluation import FRAMES, SETTINGS, WITHOUT, person_frames, run
from tests.videos import counting_frames, write_video


def table(output: Path) -> dict:
    return json.loads((output / "table.json").read_text())


def clips(output: Path) -> dict:
    return json.loads((output / "clips.json").read_text())


def test_the_table_has_a_mean_and_an_interval_for_every_method_and_measure(same_identity: Path) -> None:
    rows = table(same_identity)
    assert list(rows) == ["truth", "still", "similarity", "copy"]
    for row in rows.values():
        assert {"psnr", "psnr_head", "psnr_torso", "ssim_head", "landmarks", "aed_fit", "lip_correlation"} <= set(row)
        assert all(x["low"] is None or x["low"] <= x["mean"] <= x["high"] for x in row.values())


def test_the_true_frames_are_the_upper_bound_and_a_copy_of_them_ties(same_identity: Path) -> None:
    rows = table(same_identity)
    assert rows["truth"]["psnr_head"]["mean"] == 100 and rows["truth"]["landmarks"]["mean"] == 0
    assert rows["copy"]["psnr_head"]["mean"] == 100 and rows["copy"]["landmarks"]["mean"] < 1e-3
    assert rows["still"]["psnr_head"]["mean"] < rows["similarity"]["psnr_head"]["mean"] < 60
    assert rows["still"]["jitter"]["mean"] < 1e-5 > rows["still"]["lip_range"]["mean"]


def test_all_files_of_a_report_are_there(same_identity: Path) -> None:
    for name in (
        "table.md",
        "table.csv",
        "clips.json",
        "run.json",
        "sheet.png",
        "report.html",
        "side_by_side/anna.mp4",
    ):
        assert (same_identity / name).stat().st_size > 100, name
    assert "37.5" in (same_identity / "table.md").read_text()  # the published row, below the table
    about = json.loads((same_identity / "run.json").read_text())
    assert about["counts"]["still"] == {
        "cases": 2, "failed": 0, "frames": 2 * FRAMES, "made": 2 * FRAMES, "compared": 4, "without_face": 0
    }  # fmt: skip
    assert about["versions"]["torch"] and about["settings"]["seed"] == 0


def test_a_second_run_makes_nothing_and_a_lost_result_is_made_again_to_the_same_bytes(
    same_identity: Path, people: Path, assets: Path, capsys: pytest.CaptureFixture
) -> None:
    before = {path: path.read_bytes() for path in same_identity.glob("cases/*/*.json")}
    lost = result_path(same_identity, "similarity", "bert")
    lost.unlink()
    assert run(people, same_identity, f"methods={{copy: {people}}}") == 0
    said = capsys.readouterr().out
    assert "anna: finished before" in said and "bert: 1 methods" in said
    assert {path: path.read_bytes() for path in same_identity.glob("cases/*/*.json")} == before


def test_other_settings_make_the_results_anew(same_identity: Path, people: Path, assets: Path, capsys) -> None:
    anna = result_path(same_identity, "still", "anna").read_text()
    assert run(people, same_identity, "clips=1", "frames=6", "methods={}") == 0
    assert "anna: 3 methods" in capsys.readouterr().out
    assert run(people, same_identity, f"methods={{copy: {people}}}") == 0
    assert json.loads(result_path(same_identity, "still", "anna").read_text()) == json.loads(anna)


@pytest.mark.slow
def test_two_workers_give_the_same_figures_to_the_last_digit(
    same_identity: Path, people: Path, assets: Path, tmp_path: Path
) -> None:
    assert run(people, tmp_path, f"methods={{copy: {people}}}", "--workers", "2") == 0
    assert table(tmp_path) == table(same_identity) and clips(tmp_path) == clips(same_identity)


@pytest.mark.slow
def test_a_killed_run_goes_on(same_identity: Path, people: Path, assets: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tasks.evaluate", "configs/evaluate/same_identity.yaml", f"videos={people}"]
    settings = [f"output={tmp_path}", f"methods={{copy: {people}}}", *SETTINGS, *WITHOUT]
    with subprocess.Popen([*command, *settings], cwd=ROOT, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        first = result_path(tmp_path, "copy", "anna")
        while not first.is_file() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL and not result_path(tmp_path, "copy", "bert").is_file()
    kept = first.stat().st_mtime_ns
    assert run(people, tmp_path, f"methods={{copy: {people}}}") == 0
    assert table(tmp_path) == table(same_identity) and clips(tmp_path) == clips(same_identity)
    assert first.stat().st_mtime_ns == kept


def test_bad_videos_of_a_method_are_counted_and_stop_nothing(
    people: Path, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = {}
    frames = person_frames(900_001)
    for name, made in {
        "short": frames[:4],
        "long": [*frames, *frames],
        "faceless": counting_frames(FRAMES, 128, 128),
        "wide": [np.pad(frame, ((0, 0), (40, 40), (0, 0))) for frame in frames],
    }.items():
        folders[name] = write_video(tmp_path / name / "anna.mp4", made).parent
    folders["fast"] = write_video(tmp_path / "fast" / "anna.mp4", [f for f in frames for _ in "ab"], fps=50).parent
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "anna.mp4").write_bytes(b"no video at all")
    (tmp_path / "broken" / "nobody.mp4").write_bytes(b"neither")
    (tmp_path / "broken" / "notes.txt").write_text("extra")
    folders["broken"] = tmp_path / "broken"
    named = ", ".join(f"{name}: {folder}" for name, folder in folders.items())
    assert run(people, tmp_path / "out", f"methods={{{named}}}") == 0
    found = clips(tmp_path / "out")
    assert "Traceback" not in capsys.readouterr().err
    assert found["short"]["anna"]["counts"]["made"] == 4 and found["short"]["anna"]["figures"]["one_face"] < 1
    assert found["long"]["anna"]["counts"]["made"] == FRAMES
    assert found["faceless"]["anna"]["counts"]["without_face"] == FRAMES
    assert found["faceless"]["anna"]["figures"]["psnr"] > 0 and "aed_fit" not in found["faceless"]["anna"]["figures"]
    assert found["wide"]["anna"]["figures"]["psnr_head"] > 20  # the central square
    assert found["fast"]["anna"]["figures"]["psnr_head"] > 20 and found["fast"]["anna"]["counts"]["made"] == FRAMES
    assert "cannot be read" in found["broken"]["anna"]["error"] and not found["broken"]["anna"]["figures"]
    assert "no video called bert" in found["broken"]["bert"]["error"]
    notes = json.loads((tmp_path / "out" / "run.json").read_text())["notes"]
    assert any("1 other files" in note for note in notes) and any("nobody" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["videos={empty}"], "there is no video in"),
        (["videos={nowhere}"], "there is no folder"),
        (["videos={empty}", "sise=3"], "did you mean size"),
        (["videos={empty}", "size=3"], "size is 3"),
        (["videos={people}", "methods={{b: {empty}}}"], "there is no video in"),
        (["videos={people}", "methods={{truth: {empty}}}"], "cannot be called"),
        (["videos={people}", "checkpoint={empty}"], "holds no checkpoint"),
        (["videos={people}", "--compare", "still", "stil"], "no such method"),
        (["videos={people}", "--workers", "0"], "give at least 1"),
        (["videos={people}", "without=[csim_dlip]"], "did you mean csim_dlib"),
        (["videos={people}", "methods={{b: {{folder: {people}, renderer: rig}}}}"], "a renderer is for those alone"),
        (["videos={people}", "methods={{b: {{folder: {people}, renderer: rug}}}}"], "methods.b must be"),
    ],
)
def test_mistakes_are_one_line(people: Path, tmp_path: Path, arguments: list[str], words: str, capsys) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "nowhere": tmp_path / "nowhere", "people": people}
    filled = [argument.format(**places) for argument in arguments]
    assert main([str(ROOT / "configs/evaluate/same_identity.yaml"), *filled, f"output={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_comparison_is_paired(same_identity: Path, people: Path, assets: Path, capsys) -> None:
    assert run(people, same_identity, f"methods={{copy: {people}}}", "--compare", "copy", "truth") == 0
    found = json.loads((same_identity / "compare.json").read_text())["difference"]
    assert found["psnr_head"]["mean"] == 0 == found["psnr_head"]["low"] == found["psnr_head"]["high"]
    assert all("too few to tell" in (same_identity / name).read_text() for name in ("compare.md", "table.md"))


def test_cross_identity_pairs_everybody_with_the_next(people: Path, assets: Path, tmp_path: Path) -> None:
    assert run(people, tmp_path, protocol="cross_identity") == 0
    rows = clips(tmp_path)
    assert set(rows["similarity"]) == {"anna__bert", "bert__anna"}
    assert rows["truth"]["anna__bert"]["figures"]["aed_fit"] == 0 < rows["still"]["anna__bert"]["figures"]["aed_fit"]


def test_a_checkpoint_is_driven_by_motion_and_by_sound_and_drawn_by_either_renderer(
    checkpoint: Path, people: Path, assets: Path, tmp_path: Path
) -> None:
    rig = f"methods={{rig: {{folder: {checkpoint}, renderer: rig}}}}"
    for protocol in ("same_identity", "cross_identity", "audio_driven", "speech_to_motion"):
        output = tmp_path / protocol
        assert (
            run(people, output, f"checkpoint={checkpoint}", rig, "clips=1", "frames=6", "size=256", protocol=protocol)
            == 0
        )
        for name in (checkpoint.name, "rig"):
            (result,) = clips(output)[name].values()
            assert not result["error"] and result["counts"]["made"] == 6, (protocol, name)
    assert math.isfinite(result["figures"]["lip_correlation"])
    assert clips(output)["rig"]["anna"]["figures"] == clips(output)[checkpoint.name]["anna"]["figures"]  # one motion
    rig_figures = clips(tmp_path / "same_identity")["rig"]["anna"]["figures"]
    assert rig_figures["detail_head"] > 0.4  # the photo, and not what the random network draws
    assert 0 <= clips(tmp_path / "audio_driven")["rig"]["anna"]["figures"]["pbm_closed"] <= 1
    assert "renderer rig" in json.loads((output / "run.json").read_text())["methods"]["rig"]


def test_what_is_known_of_the_baselines(same_identity: Path, people: Path, assets: Path, tmp_path: Path) -> None:
    rows = table(same_identity)
    for name, most in (("truth", 0.01), ("still", 0.01), ("similarity", 0.1)):
        assert 0 <= rows[name]["lost_at_rest"]["mean"] < most
    assert rows["truth"]["one_face"]["mean"] == 1
    assert run(people, tmp_path, "clips=1", "syncnet=nowhere", protocol="speech_to_motion") == 0
    found = clips(tmp_path)
    assert found["truth"]["anna"]["figures"]["pbm_closed"] in (0, 1)  # of one p
    assert "pbm_closed" not in found["still"]["anna"]["figures"] or found["still"]["anna"]["figures"]["pbm_closed"] == 0
    missing = json.loads((tmp_path / "run.json").read_text())["missing_networks"]
    assert "configs/demo/syncnet.yaml" in missing["syncnet_own"] and "sync_own_c" not in table(tmp_path)["truth"]


def test_our_own_sync_network_is_used_where_it_is(people: Path, assets: Path, tmp_path: Path) -> None:
    network = write_syncnet(tmp_path / "syncnet")
    assert run(people, tmp_path / "out", "clips=1", f"syncnet={network}", protocol="speech_to_motion") == 0
    rows = table(tmp_path / "out")
    assert 0 <= rows["truth"]["sync_own_d"]["mean"] <= 2 and abs(rows["truth"]["sync_own_late"]["mean"]) <= 15


@pytest.mark.slow
def test_a_real_clip_is_followed_by_the_demo(media: Path, assets: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    source = media / "driving" / "talk_woman_25fps.mp4"
    with VideoWriter(tmp_path / "clips" / "woman.mp4", (512, 512)) as video:
        for frame in islice(open_video(source)[1], 30):
            video.write(frame)
    assert run(tmp_path / "clips", tmp_path / "out", "checkpoint=checkpoints/demo", "size=256") == 0
    rows = table(tmp_path / "out")
    assert rows["demo"]["landmarks"]["mean"] < rows["still"]["landmarks"]["mean"]
    assert rows["demo"]["psnr_head"]["mean"] > rows["still"]["psnr_head"]["mean"] + 3


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_evaluation_of_nothing_is_one_line_with_the_reason(people, assets, tmp_path, capsys, workers) -> None:
    assert run(people, tmp_path / "out", "min_frames=20", "--workers", workers) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if "error" in line] == [
        f"error: no clip can be used (the first of 2): anna.mp4 has {FRAMES} frames at 25 a second, fewer than "
        f"min_frames=20; set min_frames={FRAMES}, or give longer clips"
    ]
    assert not (tmp_path / "out" / "table.md").exists()


def test_fewer_frames_than_the_shortest_clip_has_are_refused(people, tmp_path, capsys) -> None:
    assert run(people, tmp_path / "out", "frames=4") == 2
    assert "frames is 4, fewer than min_frames (5)" in capsys.readouterr().err
