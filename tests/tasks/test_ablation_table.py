import pytest
import torch

from tasks.ablation_table import as_markdown, mean_of_seeds, parameter_counts, rows_of
from tests.tasks.small_stages import STAGES, small_stage
from tests.tasks.tiny_images import tiny_perceptual_loss


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


def test_seeds_give_means_and_a_difference_within_their_spread_is_none():
    def of_seeds(name: str, values: list[float], baseline: str = "") -> dict:
        return mean_of_seeds([result(name, baseline, metrics={"psnr": v}, seed=s) for s, v in enumerate(values)])

    base = of_seeds("i2p", [20.0, 20.4, 20.2])
    rows = rows_of([base, of_seeds("same", [20.3, 20.2, 20.4], "i2p"), of_seeds("worse", [15.0, 15.1, 15.2], "i2p")])
    assert rows[0]["metrics"]["psnr"] == pytest.approx(20.2) and rows[0]["spread"]["psnr"] == pytest.approx(0.2)
    assert rows[1]["none"] == ["psnr"] and rows[2]["none"] == [] and rows[0]["seeds"] == [0, 1, 2]
    text = as_markdown(rows)
    assert "20.3 ± 0.1 (none)" in text and "15.1 ± 0.1 (-5.1)" in text
    assert mean_of_seeds([result("one")]) == result("one")


def test_the_share_of_each_loss_is_shown():
    text = as_markdown(rows_of([result("i2p", losses={"image": 0.5, "laplacian": 5e-7})]))
    assert "- i2p: image 1, laplacian 1e-06" in text


def test_an_ablation_without_any_difference_has_measured_nothing():
    text = as_markdown(rows_of([result("i2p"), result("same", "i2p"), result("worse", "i2p", metrics={"psnr": 19.0})]))
    assert "- same: nothing differs from the baseline; what it changes was not at work in 100 steps" in text
    assert "- worse: nothing" not in text and "- i2p: nothing" not in text


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


def test_the_columns_are_explained_below_their_table():
    figures = {"psnr_turned": 20.0, "weights": 0.3, "psnr_head": 21.0, "of_mine": 1.0}
    text = as_markdown(rows_of([result("i2p", metrics=figures, evaluated=["psnr_head"])]))
    lines = text.splitlines()
    assert "- psnr_turned ↑: the same of the other views, to which the head is turned" in lines
    assert any(line.startswith("- weights: how much of a ray") for line in lines)
    assert any(line.startswith("- psnr_head ↑: dB, -10 log10") for line in lines)
    assert "of_mine:" not in text  # a metric of somebody's own that says nothing
    assert "Columns" not in as_markdown(rows_of([result("i2p", metrics={"of_mine": 1.0})]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_all_of_its_metrics_mean(stage, tmp_path, face):
    task, batch = small_stage(stage, tmp_path)
    if stage in ("i2p", "motion_adapter", "htbsr"):
        task.frozen["perceptual"] = tiny_perceptual_loss()
    for module in task.modules.values():
        module.eval()
    with torch.no_grad():
        assert task.validation_step(batch).keys() == task.metrics.keys()
