"""--batch-file: a line a video; bad lines are named and the others made; what is there is not made again."""

import numpy as np
import pytest
import soundfile

from inference.batch import TalkingPortrait, make_batch
from inference.run import main, parse_line
from modules.system.errors import UserError


@pytest.fixture
def batch(checkpoint, tmp_path, monkeypatch, capfd):
    """batch("header", "line", ...) -> exit code, stdout, stderr; sounds a.wav and b.wav lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.wav", 0), ("b.wav", 1)):
        soundfile.write(name, 0.1 * np.random.default_rng(seed).standard_normal(1600), 16000)

    def call(*lines: str, more: tuple[str, ...] = (), encoding: str = "utf-8") -> tuple[int, str, str]:
        (tmp_path / "jobs.csv").write_text("\n".join(lines), encoding=encoding)
        shared = ("--checkpoint", str(checkpoint), "--device", "cpu", *more)
        code = main(["--batch-file", "jobs.csv", *shared])
        return code, *capfd.readouterr()

    return call


def test_every_line_is_a_video_and_the_networks_are_loaded_once(batch, tmp_path, monkeypatch):
    loaded, load = [], TalkingPortrait.load
    monkeypatch.setattr(TalkingPortrait, "load", lambda *given: loaded.append(given) or load(*given))
    code, said, errors = batch(
        "audio,output,mouth-amplitude,debug_video,save-motion",
        "a.wav,one.png,0.9,,",
        "",
        'b.wav,"folder, new/two.png",,yes,two.json',
    )
    assert code == 0 and said.splitlines()[-1] == "jobs.csv: 2 made, 0 there already, 0 failed"
    assert "line 2: one.png" in said and "line 4: folder, new/two.png: a still of 320 x 64" in said
    assert {"one.png", "two.json", "folder, new"} < {path.name for path in tmp_path.iterdir()}
    assert "error" not in errors and len(loaded) == 1
    assert errors.count("has no folder rig, so its networks drew") == 1  # not for each line


def test_a_bad_line_is_named_and_does_not_stop_the_rest(batch, tmp_path, monkeypatch):
    (tmp_path / "text.wav").write_text("no sound")
    lines = [
        "audio,output,seed,debug-video,driving",
        "gone.wav,1.png,,,",  # 2
        "text.wav,2.png,,,",  # 3: seen only when it is read
        "a.wav,3.png,many,,",  # 4: for the parser
        "a.wav,4.png,,maybe,",  # 5
        "a.wav,5.png,,,b.wav",  # 6: two drivers
        "a.wav,6.png,7,no,,more",  # 7
        "a.wav,7.png,7",  # 8
        "a.wav,./7.png,8",  # 9
    ]
    code, said, errors = batch(*lines)
    assert code == 2 and (tmp_path / "7.png").is_file() and not list(tmp_path.glob("[1-6].png"))
    *told, end = errors.splitlines()
    told = [line for line in told if line.startswith("error: ")]
    words = [
        "no such file",
        "text.wav",
        "invalid int value: 'many'",
        "yes or no",
        "not allowed with",
        "6 cells",
        "7.png",
    ]
    for number, line, word in zip((2, 3, 4, 5, 6, 7, 9), told, words, strict=True):
        assert line.startswith(f"error: jobs.csv line {number}: ") and word in line
    assert end == "error: jobs.csv: 1 made, 0 there already, 7 failed: line 2, 3, 4, 5, 6, 7, 9"


def test_a_defect_of_the_program_fails_its_line_alone_and_is_shown(batch, monkeypatch):
    make = []

    def broken(options, load):
        make.append(options.seed)
        if options.seed == 1:
            raise ZeroDivisionError("of the program")
        return "made", None

    monkeypatch.setattr("inference.batch.make_video", broken)
    code, said, errors = batch("output,seed", "a.png,1", "b.png,2")
    assert code == 2 and make == [1, 2] and "line 3: made" in said
    assert "Traceback" in errors and "error: jobs.csv line 2: ZeroDivisionError: of the program" in errors


def test_finished_outputs_are_skipped(batch, tmp_path):
    lines = ("audio,output,save-motion", "a.wav,one.png,", "b.wav,two.png,two.npz", "b.wav,three,")
    (tmp_path / "three").mkdir()  # an empty folder is no output yet
    (tmp_path / "two.png").touch()  # its motion is missing
    (tmp_path / "one.png").touch()
    code, said, errors = batch(*lines)
    assert code == 0 and said.splitlines()[-1] == "jobs.csv: 2 made, 1 there already, 0 failed"
    assert "line 2: one.png is there" in said and (tmp_path / "one.png").stat().st_size == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "jobs.csv"}
    code, said, _ = batch(*lines)
    assert code == 0 and said.splitlines()[-1] == "jobs.csv: 0 made, 3 there already, 0 failed"
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_options_beside_it_hold_for_all_lines_unless_a_line_says_otherwise(batch, tmp_path):
    batch(
        "audio,save-motion,output", "a.wav,1.npz,1.png", "a.wav,2.npz,2.png", more=("--seed", "1", "--seconds", "0.08")
    )
    batch("audio,save-motion,output,seed", "a.wav,3.npz,3.png,2", more=("--seed=1", "--seconds", "0.08"))
    first, second, third = (dict(np.load(tmp_path / f"{number}.npz")) for number in (1, 2, 3))
    assert all(np.array_equal(first[key], second[key]) for key in first) and len(first["expression"]) == 2
    assert not np.array_equal(first["euler"], third["euler"])
    code, _, errors = batch("audio,output", "a.wav,4.png", more=("--size", "512"))
    assert code == 2 and "line 2: --size is not used here" in errors


def test_tables_of_a_spreadsheet_are_read(batch, tmp_path):
    assert batch("audio;output", "a.wav;Übung, eins.png", encoding="utf-8-sig")[0] == 0
    assert (tmp_path / "Übung, eins.png").is_file()


@pytest.mark.parametrize(
    "lines, words",
    [
        (["", " , "], "is empty"),
        (["audio,mouth", "a.wav,1"], "column 'mouth' is no option"),
        (["audio,batch-file", "a.wav,x"], "column 'batch_file' is no option"),
        (["audio,audio", "a.wav,b.wav"], "two columns are called audio"),
    ],
)
def test_a_table_that_cannot_be_is_refused_as_a_whole(batch, lines, words):
    code, said, errors = batch(*lines)
    assert code == 2 and words in errors and len(errors.splitlines()) == 1 and said == ""


def test_no_table_and_a_table_in_another_code_are_refused(tmp_path, capfd):
    assert main(["--batch-file", str(tmp_path / "gone.csv")]) == 2
    assert "there is no such file" in capfd.readouterr().err
    assert main(["--batch-file", ""]) == 2
    assert "--batch-file is empty" in capfd.readouterr().err
    (tmp_path / "jobs.csv").write_bytes("audio,output\nä.wav,x.png".encode("latin-1"))
    with pytest.raises(UserError, match="give a CSV table in UTF-8"):
        make_batch(tmp_path / "jobs.csv", parse_line, [], print)


def test_on_a_full_disk_lines_fail_by_their_numbers_and_the_others_are_made(batch, small_disk):
    disk = small_disk.folder
    filler = small_disk.fill(2_000)
    lines = [
        "audio,output,save-motion,layers",
        f"a.wav,{disk}/talk.mp4,,",
        f"a.wav,{disk}/still.gif,{disk}/motion.json,",
        f"a.wav,{disk}/pictures,,{disk}/layers",
        "a.wav,elsewhere.mp4,,",
    ]
    code, said, errors = batch(*lines)
    assert code == 2 and "line 5: elsewhere.mp4" in said
    told = [line for line in errors.splitlines() if line.startswith("error: jobs.csv line ")]
    assert [line.split(":")[1].split()[-1] for line in told] == ["2", "3", "4"]
    assert all("No space left" in line for line in told)
    assert [path.name for path in disk.iterdir()] == ["filler"]
    filler.unlink()
    assert batch(*lines)[0] == 0  # it goes on where it was
    assert sorted(path.name for path in disk.iterdir()) == [
        "layers",
        "motion.json",
        "pictures",
        "still.gif",
        "talk.mp4",
    ]
