import json
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from PIL import Image

from scripts import fuzz_cases as cases


@pytest.mark.parametrize("kind", cases.PICTURES)
def test_pictures_are_valid_before_they_are_broken(kind: str, tmp_path: Path) -> None:
    data = cases.picture_bytes(np.full((20, 30, 3), 90, np.uint8), kind, Random(0))
    with Image.open(cases.write(tmp_path / "picture", data)) as picture:
        assert picture.size == (30, 20)


@pytest.mark.parametrize(("container", "codec"), cases.SOUNDS)
def test_sounds_are_valid_before_they_are_broken(container: str, codec: str, tmp_path: Path) -> None:
    data = cases.media_bytes(container, 0.5 * np.sin(np.arange(4000)), codec)
    with av.open(str(cases.write(tmp_path / "sound", data))) as file:
        assert sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0)) == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize(("container", "video"), cases.CLIPS)
def test_clips_are_valid_before_they_are_broken(container: str, video: str, tmp_path: Path) -> None:
    data = cases.media_bytes(container, frames=[np.full((64, 64, 3), 40 * n, np.uint8) for n in range(5)], video=video)
    with av.open(str(cases.write(tmp_path / "clip", data))) as file:
        assert sum(1 for _ in file.decode(video=0)) == 5


def test_breaking_is_a_function_of_the_random_state() -> None:
    data = bytes(range(256)) * 4
    first, again, other = (cases.broken(data, [data], Random(seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_every_way_to_break_bytes_takes_empty_ones() -> None:
    for breaker in cases.BREAKERS:
        assert isinstance(breaker(b"", [b""], Random(1)), bytes)


def test_broken_trees_differ_from_the_tree_and_leave_it_alone() -> None:
    tree = {"a": [1, 2], "b": {"c": "x"}}
    kept = json.dumps(tree)
    broken = [cases.broken_tree(tree, Random(number)) for number in range(20)]
    assert json.dumps(tree) == kept
    assert sum(value != tree for value in broken) > 15
