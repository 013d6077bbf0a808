import pytest

from tasks.ablation_table import as_markdown, parameter_counts, rows_of


def result(name: str, baseline: str = "", **changes) -> dict:
    return {
        "name": name,
        "task": "i2p",
        "baseline": baseline,
        "changed": ['model.i2p_scale="small"'][: len(baseline)],
        "parameters": {"image_to_plane": 87_000_000, "renderer": 4_000},
        "metrics": {"psnr": 20.0},
        "steps": 100,
        "minutes": 0.5,
        "seed": 0,
        **changes,
    }


def test_differences_are_to_the_baseline():
    rows = rows_of([result("i2p"), result("small", "i2p", metrics={"psnr": 19.25, "sharpness": 3.0})])
    assert rows[0]["difference"] == {} and rows[1]["difference"] == {"psnr": pytest.approx(-0.75)}


def test_a_task_has_one_table_with_a_row_for_each_run():
    lines = as_markdown(
        rows_of(
            [
                result("i2p"),
                result("small", "i2p", metrics={"psnr": 19.25, "sharpness": 3.0}),
                result("a2m", task="a2m", metrics={"loss": 0.1}),
            ]
        )
    ).splitlines()
    assert lines[0] == "### i2p"
    assert lines[2] == "| run | changed | parameters (M) | psnr | sharpness | steps | minutes |"
    assert lines[4] == "| i2p | baseline | 87.00 | 20 |  | 100 | 0.5 |"
    assert lines[5] == '| small | model.i2p_scale="small" | 87.00 | 19.25 (-0.75) | 3 | 100 | 0.5 |'
    assert "### a2m" in lines and "| a2m | baseline | 87.00 | 0.1 | 100 | 0.5 |" in lines


def test_parts_of_another_size_are_named():
    small = result("small", "i2p", parameters={"image_to_plane": 62_000_000, "renderer": 4_000})
    assert parameter_counts(small, result("i2p")) == "62.00 (image_to_plane 62.00, baseline 87.00)"
    assert parameter_counts(small, None) == "62.00"
