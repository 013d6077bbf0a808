import math
from pathlib import Path

import pytest
import torch

from modules.metrics.bootstrap import Interval
from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.published import PUBLISHED, published_markdown
from tasks.evaluation.results import Result
from tasks.evaluation.settings import EvaluationConfig
from tasks.evaluation.tables import (
    Results,
    as_csv,
    as_json,
    difference_markdown,
    differences,
    markdown,
    number,
    table_of,
    without_face,
)


def results_in(folder: Path) -> Results:
    """Three cases; `ours` is better than `still` by 1, 2 and 3 dB, and `truth` failed in one."""
    config = EvaluationConfig(
        protocol="same_identity", videos=folder, output=folder, methods={"ours": folder}, samples=500
    )
    cases = [Case(name, Path(name), Path(name)) for name in "abc"]
    for place, case in enumerate(cases, start=1):
        features = list(torch.randn(3, 4, generator=torch.Generator().manual_seed(place)))
        for method, value in (("still", 20.0), ("ours", 20.0 + place), ("truth", 100.0)):
            figures = {"psnr": value, "ssim": math.nan}
            failed = method == "truth" and case.name == "c"
            result = Result(case.name, method, "x", "1", {} if failed else figures, {"frames": 5, "made": 5})
            result.save(folder, features)
    return Results.read(config, cases)


def test_means_and_intervals_are_over_cases(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    table = table_of(results)
    assert table["ours"]["psnr"].mean == pytest.approx(22) and 21 <= table["ours"]["psnr"].low < 22
    assert table["truth"]["psnr"].count == 2 and "ssim" not in table["ours"]
    assert as_json(table)["ours"]["psnr"].keys() == {"mean", "low", "high"}
    assert results.counts("truth")["failed"] == 1


def test_fid_is_of_all_frames_and_zero_for_the_truth(tmp_path: Path) -> None:
    table = table_of(results_in(tmp_path))
    assert table["truth"]["fid"].mean < 1e-6 and table["truth"]["fid"].count == 9
    assert "too few" in markdown(table, results_in(tmp_path))


def test_a_difference_is_paired(tmp_path: Path) -> None:
    found = differences(results_in(tmp_path), "ours", "still")
    assert found["psnr"].mean == pytest.approx(2) and found["psnr"].low >= 1 and found["psnr"].count == 3
    with pytest.raises(UserError, match="did you mean still"):
        differences(results_in(tmp_path), "ours", "stil")


def test_few_cases_differ_in_nothing() -> None:
    for count, differs in ((4, False), (5, True)):
        found = {"psnr": Interval(mean=2.0, low=1.0, high=3.0, count=count)}
        text = difference_markdown(found, "ours", "still")
        assert ("differs" in text, "too few to tell methods apart" in text) == (differs, not differs)


def test_all_numbers_are_in_the_csv(tmp_path: Path) -> None:
    results = results_in(tmp_path)
    lines = as_csv(table_of(results), results).splitlines()
    assert "ours,psnr,b,22.0,,,1" in lines and any(line.startswith("ours,psnr,all,22.0,") for line in lines)


def test_nothing_has_no_sign() -> None:
    assert [number(value) for value in (-1e-9, -0.5, 12.25, 123.4, float("nan"))] == [
        "0.000", "-0.500", "12.25", "123", "-"
    ]  # fmt: skip


def test_methods_without_a_face_are_named_with_the_measures_that_they_lack(tmp_path: Path) -> None:
    config = EvaluationConfig(protocol="same_identity", videos=tmp_path, output=tmp_path, methods={"ours": tmp_path})
    lips = {"lip_correlation": 0.5, "landmarks": 1.0}
    rows = {"truth": (lips, 0), "still": (lips, 2), "similarity": ({"landmarks": 1.0}, 3), "ours": ({}, 5)}
    for method, (figures, missed) in rows.items():
        counts = {"frames": 5, "made": 5, "without_face": missed}
        Result("a", method, "x", "1", {"psnr": 9.0, **figures}, counts).save(tmp_path)
    results = Results.read(config, [Case("a", Path("a"), Path("a"))])
    assert without_face(results, table_of(results)) == {
        "similarity": "no face was found in 3 of 5 frames; left out for that: lip_correlation",
        "ours": "no face was found in any of 5 frames; left out for that: landmarks, lip_correlation",
    }


def test_a_line_below_the_published_rows_says_what_their_columns_are():
    *_, last = published_markdown("same_identity").splitlines()
    assert "AED: mean |difference| of the expression's coefficients" in last and "APD: " in last and "Sync" not in last
    assert all(published_markdown(protocol) for protocol in PUBLISHED) and published_markdown("speech_to_motion") == ""
