import json
import math
from dataclasses import replace
from pathlib import Path

import torch

from tasks.evaluation.results import Result, features_of, result_path, stamp_of, without_nan
from tasks.evaluation.settings import EvaluationConfig


def test_a_result_comes_back_with_its_nans_and_features(tmp_path: Path) -> None:
    result = Result("a", "m", "somewhere", "1", figures={"x": 1.5, "y": math.nan}, counts={"frames": 3})
    result.save(tmp_path, [torch.ones(4), torch.zeros(4)])
    back = Result.load(tmp_path, "m", "a")
    assert back is not None and back.figures["x"] == 1.5 and math.isnan(back.figures["y"])
    assert replace(back, figures={}) == replace(result, figures={})
    assert features_of(tmp_path, "m", "a").shape == (2, 4)
    assert "NaN" not in result_path(tmp_path, "m", "a").read_text()


def test_a_damaged_result_is_none(tmp_path: Path) -> None:
    path = result_path(tmp_path, "m", "a")
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", json.dumps({"other": 1})):
        path.write_text(text)
        assert Result.load(tmp_path, "m", "a") is None


def test_a_stamp_changes_with_what_matters_alone(tmp_path: Path) -> None:
    config = EvaluationConfig(protocol="same_identity", videos=tmp_path)
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1")
    stamp = stamp_of(config, [], [file])
    assert stamp_of(replace(config, output=tmp_path / "b", keep=3, methods={"m": tmp_path}), [], [file]) == stamp
    assert stamp_of(replace(config, size=256), [], [file]) != stamp != stamp_of(config, [2.5], [file])
    file.write_bytes(b"12")
    assert stamp_of(config, [], [file]) != stamp


def test_numbers_that_are_not_finite_become_null() -> None:
    assert without_nan({"a": [math.nan, 1.0], "b": math.inf}) == {"a": [None, 1.0], "b": None}
