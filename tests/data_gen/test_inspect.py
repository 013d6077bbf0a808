import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_gen import inspect
from data_gen.clip_facts import read_facts
from data_gen.pack import pack
from data_gen.procedural import ProceduralDataConfig, prepare
from data_gen.progress import PreparationLog, Refusal, VideoReport
from modules.clips.format import list_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two procedural clips, and a log with refusals."""
    folder = tmp_path_factory.mktemp("data") / "clips"
    list(prepare(ProceduralDataConfig(folder=str(folder), people=2, frames=4, size=64, pncc_size=0, workers=1)))
    log = PreparationLog(folder, {})
    log.add(VideoReport(name="<b>", size=1, refused=(Refusal(0, 90, "no face in view"),)))
    log.note_missing([("c", "no video")])
    return folder


def test_counts_are_printed_and_the_page_opens_from_disk(folder, capsys):
    assert inspect.main([str(folder)]) == 0
    printed = capsys.readouterr().out
    for line in (
        "clips: 2",
        "people: 2",
        "hours: 0.00",
        "parts refused: 1",
        "missing: 1",
        "face models: procedural (2)",
    ):
        assert f"{line}\n" in printed
    page = (folder / "inspection.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == page.count("data:image/jpeg;base64,") == 2
    assert page.count("<svg") == 7 and "loudness of a clip, dB of full scale: nothing to show" in page  # silent
    assert "no face in view" in page and "1.5" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r"""(src|href)=['"](?!data:)""", page)


def test_the_page_goes_where_it_is_told_with_as_many_clips(folder, tmp_path, capsys):
    assert inspect.main([str(folder), "--output", str(tmp_path / "new" / "a.html"), "--shown", "1"]) == 0
    assert (tmp_path / "new" / "a.html").read_text(encoding="utf-8").count("<figure>") == 1
    assert inspect.main([str(folder), "--shown", "-1"]) == 2
    assert inspect.main([str(tmp_path)]) == 2
    assert "--shown is -1" in (message := capsys.readouterr().err) and "no prepared clips" in message


def test_shards_of_an_address_are_inspected_as_a_folder_is(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("fsspec", reason="the object store needs fsspec: pip install -r requirements-object-store.txt")
    pack(folder, tmp_path / "shards", megabytes=1)
    monkeypatch.chdir(tmp_path)
    assert inspect.main([(tmp_path / "shards").as_uri()]) == 0
    assert "clips: 2\npeople: 2\n" in capsys.readouterr().out
    assert (tmp_path / "inspection.html").read_text(encoding="utf-8").count("<figure>") == 2
    assert inspect.main([(tmp_path / "nothing").as_uri()]) == 2
    assert "no shards in" in capsys.readouterr().err


def test_people_hours_and_licences_are_those_of_the_clips(folder):
    facts = [read_facts(clip) for clip in list_clips(folder)]
    same = [replace(clip, person="one", length=90_000, licence="", loudness=-20.0) for clip in facts]
    counts = dict(inspect.count([*same, replace(same[0], loudness=float("nan"))], [], 0))
    assert (counts["people"], counts["hours"], counts["hours with sound"]) == ("1", "3.00", "2.00")
    assert counts["licences"] == "none noted (3)"


def test_many_names_are_cut_short():
    assert inspect.most_common([*"aab", *"cdefgh"], most=2) == "a (2), b (1), 6 more"


def test_a_clip_without_pictures_has_a_place_on_the_sheet(folder, tmp_path, capsys):
    from_disk = np.load(list_clips(folder)[0] / "clip.npz")
    (tmp_path / "speech_000000").mkdir()
    arrays = {name: from_disk[name] for name in from_disk.files} | {"landmarks": np.zeros((4, 0, 2), np.float32)}
    np.savez(tmp_path / "speech_000000" / "clip.npz", **arrays)
    assert inspect.main([str(tmp_path)]) == 0
    assert "clips without pictures: 1" in capsys.readouterr().out
    assert "width of the face, share of the picture: nothing to show" in (tmp_path / "inspection.html").read_text(
        "utf-8"
    )
