import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules.system.errors import UserError
from scripts.plot_curves import (
    POINTS,
    ROW_HEIGHT,
    WIDTH,
    Curve,
    condensed,
    draw,
    grouped,
    main,
    merged,
    named_losses,
    part,
    read_curves,
    sum_of,
    titles,
)
from tasks.engine.run_log import RunLog


def curve(*values: float) -> Curve:
    return Curve(np.arange(1, len(values) + 1), np.array(values, dtype=float))


def write_run(folder: Path, steps: int = 40) -> Path:
    """What a training run writes, by the trainer's own log."""
    log = RunLog(folder, 0, steps, tensorboard=False, stream=io.StringIO())
    for step in range(2, steps + 1, 2):
        log.scalars(
            step,
            {"loss/image": 4 / step, "loss/mask": 0.5 / step, "rate/all": 1e-3 * (1 - step / steps), "time/rest": 0.1},
        )
        if step % 10 == 0:
            log.scalars(
                step,
                {
                    "validation/psnr": 20 + step / 10,
                    "validation/psnr_of_the_source": 21.0,
                    "validation/lips_l1": 1 / step,
                },
            )
    log.close()
    return folder


def test_the_numbers_of_a_run_are_read_by_their_names(tmp_path):
    curves = read_curves(write_run(tmp_path / "run"))
    assert curves["validation/psnr"].steps.tolist() == [10, 20, 30, 40]
    assert curves["validation/psnr"].values.tolist() == [21, 22, 23, 24]
    losses = part(curves, "loss")
    assert losses.keys() == {"image", "mask"} and len(losses["image"].steps) == 20
    assert sum_of(losses).values == pytest.approx(4.5 / np.arange(2, 41, 2))


def test_a_half_written_line_is_left_out_and_the_last_word_on_a_step_counts(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 2, "loss/a": 5}\n{"step": 1, "loss/a": 3}\n{"step": 2, '
        '"loss/a": 4}\n[1]\n{"step": 3, "loss/a": "x"}\n{"step": 4, "lo'
    )
    curves = read_curves(tmp_path)
    assert curves.keys() == {"loss/a"}
    assert curves["loss/a"].steps.tolist() == [1, 2] and curves["loss/a"].values.tolist() == [3, 4]


def test_long_curves_become_means_of_neighbours():
    values = np.random.default_rng(0).normal(size=4 * POINTS)
    steps, means = condensed(curve(*values))
    assert means == pytest.approx(values.reshape(POINTS, 4).mean(axis=1))
    assert steps == pytest.approx(np.arange(POINTS) * 4 + 2.5)
    steps, means = condensed(curve(1, 2, 3, 4, 5), points=2)  # the last one is of fewer
    assert steps.tolist() == [2, 4.5] and means.tolist() == [2, 4.5]
    assert condensed(curve(1, 2, 3)).values.tolist() == [1, 2, 3]


def test_a_sum_takes_what_each_step_has():
    lazy = Curve(np.array([2]), np.array([10.0]))
    assert sum_of({"a": curve(1, 2, 3), "lazy": lazy}).values.tolist() == [1, 12, 3]


def test_the_sum_is_of_terms_that_are_there_from_the_beginning():
    late = Curve(np.arange(50, 101), np.full(51, 7.0))
    losses = {"loss/a": curve(*[1.0] * 100), "loss/b": curve(*[2.0] * 100), "loss/late": late}
    lines = {line.get_label(): line.get_ydata() for line in draw({"one": losses}).axes[0].lines}
    assert lines["sum of 2 terms"].tolist() == [3.0] * 100 and set(lines["late"]) == {7.0}


def test_equal_curves_share_a_line_and_metrics_of_one_kind_a_panel():
    assert merged({"a": curve(1, 2), "b": curve(3, 4), "c": curve(1, 2)}).keys() == {"a, c", "b"}
    assert list(merged({f"a_long_name_{i}": curve(1) for i in range(4)})) == ["a_long_name_0 and 3 more"]
    groups = grouped({"lips_l1": curve(1), "psnr": curve(1), "psnr_raw": curve(2)})
    assert [list(group) for group in groups] == [["psnr", "psnr_raw"], ["lips_l1"]]


def test_runs_are_called_by_the_part_of_their_paths_that_differs():
    assert titles([Path("runs/demo/i2p"), Path("runs/demo/htbsr")]) == ["i2p", "htbsr"]
    assert titles([Path("runs/i2p"), Path("runs/demo/i2p")]) == ["runs/i2p", "demo/i2p"]


def test_every_quantity_of_a_run_has_its_panel(tmp_path):
    curves = read_curves(write_run(tmp_path / "run"))
    panels = draw({"one": curves}).axes
    lines = [{line.get_label(): line for line in axes.lines} for axes in panels]
    assert [set(labels) for labels in lines] == [
        {"sum of 2 terms", "image", "mask"},
        {"all"},
        {"psnr", "psnr_of_the_source"},
        {"lips_l1"},
    ]
    assert lines[0]["image"].get_ydata() == pytest.approx(curves["loss/image"].values)
    assert lines[2]["psnr"].get_xdata().tolist() == [10, 20, 30, 40]
    assert lines[2]["psnr_of_the_source"].get_linestyle() == "--"  # it never changes
    assert panels[0].get_yscale() == "log"
    assert all(axes.get_xlim() == pytest.approx((0, 40.4)) for axes in panels)


def test_of_many_terms_the_largest_are_drawn_and_negative_ones_need_a_plain_axis():
    losses = {f"loss/{size}": curve(*[float(size)] * 3) for size in range(1, 10)}
    loss = draw({"one": losses}).axes[0]
    assert [line.get_label() for line in loss.lines] == ["sum of 9 terms", "9", "8", "7", "6", "5"]
    assert draw({"one": {"loss/a": curve(-1, 5, 9)}}).axes[0].get_yscale() == "linear"


def test_a_run_without_validation_says_so(tmp_path):
    panels = draw({"one": {"loss/a": curve(3, 2)}}).axes
    assert [[text.get_text() for text in axes.texts] for axes in panels] == [[], ["none yet"], ["none yet"]]


def test_the_command_draws_a_row_for_each_run(tmp_path, capsys):
    runs = [str(write_run(tmp_path / name)) for name in ("ein Lauf", "two", "three")]
    output = tmp_path / "new" / "curves.png"
    assert main([*runs, "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    with Image.open(output) as picture:
        assert picture.size == (WIDTH, 3 * ROW_HEIGHT)
        rows = np.asarray(picture.convert("L")).reshape(3, ROW_HEIGHT, WIDTH)
    assert all((row < 128).mean() > 0.005 for row in rows)
    assert output.stat().st_size < 150_000
    assert [path.name for path in output.parent.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    "run, output, expected",
    [
        ("nowhere", "a.png", "name the folder of a run"),
        ("empty", "a.png", "holds no numbers yet"),
        ("run", "a.jpg", "ends in .png"),
        ("run", "file/a.png", "choose another place"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(tmp_path, capsys, run, output, expected):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").write_text(json.dumps({"step": 1})[:5])
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / run), "--output", str(tmp_path / output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and expected in error and error.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    run, output = write_run(tmp_path / "run"), tmp_path / "curves.png"
    output.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert main([str(run), "--output", str(output)]) == 2
    assert output.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_a_folder_without_a_run_is_reported_by_its_path(tmp_path):
    with pytest.raises(UserError, match="cannot read .*metrics.jsonl.*runs/demo/i2p"):
        read_curves(tmp_path)


def test_named_losses_alone_are_drawn_also_the_smallest(tmp_path, capsys):
    log = RunLog(tmp_path / "run", 0, 4, tensorboard=False, stream=io.StringIO())
    small = {"loss/mouth": 1e-4, "loss/source_mouth": 2e-4, "loss/mouth_edges": 5e-4}
    log.scalars(4, {f"loss/large_{number}": 1.0 for number in range(6)} | small | {"validation/psnr": 20.0})
    log.close()
    curves = read_curves(tmp_path / "run")
    assert named_losses(curves, ["mouth"]).keys() == {"loss/mouth", "loss/source_mouth", "validation/psnr"}

    def shown(*options: str) -> np.ndarray:
        assert main([str(tmp_path / "run"), *options, "--output", str(tmp_path / "c.png")]) == 0
        return np.asarray(Image.open(tmp_path / "c.png").convert("RGB"))

    every, mouth = shown(), shown("--losses", "mouth")
    assert not np.array_equal(every, mouth)
    assert np.array_equal(mouth, shown("--losses", "mouth, source_mouth"))
    capsys.readouterr()
    assert main([str(tmp_path / "run"), "--losses", "mouth,lips", "--output", str(tmp_path / "d.png")]) == 2
    assert "--losses lips: no run has such a loss; there are large_0, " in capsys.readouterr().err
    assert not (tmp_path / "d.png").exists()
