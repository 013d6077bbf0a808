from pathlib import Path

import pytest
import torch

from modules.clips.format import list_clips
from scripts.benchmark_loader import CLASS_COLOURS, Reading, main, readings, table
from tests.tasks.tiny_images import SIZE, write_tiny_clips


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_tiny_clips(tmp_path / "clips", clips=2, frames=4)
    for clip in list_clips(tmp_path / "clips"):
        (clip / f"pncc_{SIZE}.npy").unlink()
    return tmp_path / "clips"


def test_all_ways_to_store_give_the_same_pairs(clips, tmp_path):
    found = {reading.name: reading for reading in readings(clips, tmp_path / "scratch", torso=True)}
    first, *others = (reading.dataset[5] for reading in found.values())
    for item in others:
        for name in ("source_classes", "target_classes", "torso", "keypoints", "euler"):
            assert torch.equal(item[name], first[name]), name
    loose = found["loose JPEG and PNG"].dataset[5]
    inside = (first["target_classes"] > 0).expand(3, -1, -1)
    difference = (loose["target_image"].int() - first["target_image"].int()).abs().float()
    assert difference[inside].mean() < 12 and difference[~inside].mean() > 20  # JPEG of noise; another background
    drawn, stored = others[3]["pncc"], others[4]["pncc"]
    assert drawn.shape == (3, 3, SIZE, SIZE) and torch.equal(drawn, stored) and drawn.any()
    assert found["loose JPEG and PNG"].size > found["prepared folder"].size


def test_the_colours_of_the_classes_differ_by_their_bits():
    assert len({tuple(colour // 255) for colour in CLASS_COLOURS}) == len(CLASS_COLOURS) == 6


def test_the_command_prints_a_table(clips, capsys):
    assert main([str(clips), "--rounds", "1", "--pairs", "2", "--workers", "1", "--without-torso"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 clips, 0.3 s" in lines[0]
    assert [line.split("|")[1].strip() for line in lines[4:]] == [
        "prepared folder",
        "shards",
        "shards of a store, in the cache",
        "loose JPEG and PNG",
        "shards, PNCCs drawn by the workers",
        "prepared folder with stored PNCCs",
    ]


def test_ratios_are_of_the_same_round():
    base = Reading("base", None, 10, {1: [10.0, 100.0, 30.0]}, {1: [1.0, 2.0, 3.0]})
    other = Reading("other", None, 20, {1: [20.0, 200.0, 15.0]}, {1: [4.0, 5.0, 9.0]})
    last = table([base, other], 1e-5).splitlines()[-1]
    assert last == "| other | 2.00 | 20 | 2.00 (0.50 to 2.00) | 5.0 |"


@pytest.mark.parametrize("wrong", ["--workers=0", "--workers=two", "--rounds=0", "--pairs=0"])
def test_bad_numbers_and_folders_are_one_line(clips, tmp_path, wrong, capsys):
    assert main([str(clips), wrong]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("error:") == 2
