"""Training curves of runs as one picture: losses, validation metrics and learning rates, a row for each run.

python -m scripts.plot_curves runs/demo/i2p runs/demo/syncnet runs/demo/a2m --output curves.png
python -m scripts.plot_curves runs/own/htbsr --losses mouth,lips --output mouth.png
"""

import argparse
import json
import logging
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from modules.system.errors import UserError, run_command
from modules.system.files import keep_inputs, named_file

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a HOME that it cannot write is no news
import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure, SubFigure  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402

WIDTH, ROW_HEIGHT = 1400, 380  # pixels
DOTS = 100  # an inch
POINTS = 100  # of a training curve, at most
MARKED = 30  # points that are few enough for dots
EARLY = 0.02  # part of a run in which the terms of the sum have begun
_TERMS, _PANELS = 5, 3  # terms of the loss beside the sum, panels of validation
OF_VIEWS = ("source_", "reference_", "target_")  # before the name of a loss in the log, where a step has several
LETTERS = 50  # of a legend's line
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # distinct to colour-blind eyes too
DARK, PALE = "#222222", "#888888"
# fmt: off
STYLE = {
    "font.size": 11, "axes.titlesize": 12, "legend.title_fontsize": 12, "legend.fontsize": 10,
    "xtick.labelsize": 10, "ytick.labelsize": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": PALE, "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True,
    "axes.formatter.limits": (-6, 6), "axes.formatter.useoffset": False, "lines.linewidth": 1.6,
    "legend.frameon": False, "legend.handlelength": 1.2, "legend.labelspacing": 0.2, "legend.columnspacing": 1.0,
    "legend.borderpad": 0.1, "legend.handletextpad": 0.5,
}
# fmt: on


class Curve(NamedTuple):
    """Values [N] of one quantity at steps [N]."""

    steps: np.ndarray
    values: np.ndarray


Curves = Mapping[str, Curve]


def read_curves(run: Path) -> dict[str, Curve]:
    """The numbers of a run by their names (loss/..., validation/..., rate/...), steps ascending.

    Lines that are no numbers are left out: the last one may be half written.

    Raises:
        UserError: the folder is no run, or a run that has not written a number yet.
    """
    path = run / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror or error}); name the folder of a run, such as runs/demo/i2p"
        ) from error
    points_of: dict[str, dict[int, float]] = {}
    for line in lines:
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
            numbers = {name: float(value) for name, value in values.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in numbers.items():
            points_of.setdefault(name, {})[step] = value
    if not points_of:
        raise UserError(f"{path} holds no numbers yet; wait for the first line of the run's log")
    return {name: Curve(*map(np.array, zip(*sorted(points.items())))) for name, points in points_of.items()}


def part(curves: Curves, kind: str) -> dict[str, Curve]:
    """The curves under `kind`/, without that."""
    return {name.removeprefix(f"{kind}/"): curve for name, curve in curves.items() if name.startswith(f"{kind}/")}


def begun(curves: Curves) -> dict[str, Curve]:
    """The curves that start with the run: a sum with later ones, such as an adversary's, would jump."""
    first = min(int(curve.steps[0]) for curve in curves.values())
    last = max(int(curve.steps[-1]) for curve in curves.values())
    return {name: curve for name, curve in curves.items() if curve.steps[0] <= first + EARLY * (last - first)}


def sum_of(curves: Curves) -> Curve:
    """The sum of all curves at each step, of those that have a value there."""
    totals: dict[int, float] = {}
    for curve in curves.values():
        for step, value in zip(curve.steps.tolist(), curve.values.tolist()):
            totals[step] = totals.get(step, 0.0) + value
    return Curve(*map(np.array, zip(*sorted(totals.items()))))


def condensed(curve: Curve, points: int = POINTS) -> Curve:
    """At most `points` means of equally many neighbours (fewer in the last)."""
    size = -(-len(curve.steps) // points)
    starts = np.arange(0, len(curve.steps), size)
    counts = np.diff([*starts, len(curve.steps)])
    return Curve(*(np.add.reduceat(values.astype(np.float64), starts) / counts for values in curve))


def merged(curves: Curves) -> dict[str, Curve]:
    """Equal curves as one that has their names: "a, b", or "a and 3 more" of many."""
    names: dict[tuple[bytes, bytes], list[str]] = {}
    for name, curve in curves.items():
        names.setdefault((curve.steps.tobytes(), curve.values.tobytes()), []).append(name)
    return {_listed(same): curves[same[0]] for same in names.values()}


def _listed(names: list[str]) -> str:
    listed = ", ".join(names)
    return listed if len(listed) <= LETTERS - 10 else f"{names[0]} and {len(names) - 1} more"


def grouped(curves: Curves) -> list[dict[str, Curve]]:
    """Metrics whose names begin with the same word, and so have one unit, together; the largest group first."""
    groups: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        groups.setdefault(name.partition("_")[0], {})[name] = curve
    return sorted(groups.values(), key=len, reverse=True)


def titles(runs: list[Path]) -> list[str]:
    """The shortest ends of the paths that differ."""
    parts = [run.resolve().parts for run in runs]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [str(run) for run in runs]


def named_losses(curves: Curves, names: Collection[str]) -> dict[str, Curve]:
    """The curves without the losses that were not named; NAME stands for source_NAME and the like too."""
    wanted = {f"loss/{kind}{name}" for name in names for kind in ("", *OF_VIEWS)}
    return {name: curve for name, curve in curves.items() if not name.startswith("loss/") or name in wanted}


def check_losses(runs: Mapping[Path, Curves], names: Collection[str]) -> None:
    """Refuse a name that is no loss of any run.

    Raises:
        UserError: naming it and the losses that there are.
    """
    losses = sorted({name for curves in runs.values() for name in part(curves, "loss")})
    for name in names:
        if not any(part(named_losses(curves, [name]), "loss") for curves in runs.values()):
            raise UserError(f"--losses {name}: no run has such a loss; there are {', '.join(losses) or 'none'}")


def draw(runs: Mapping[str, Curves], largest: int = _TERMS) -> Figure:
    """Title -> curves; the figure, a row for each run, 1400 pixels wide.

    Args:
        largest: losses that are drawn beside their sum, the largest ones.
    """
    height = ROW_HEIGHT * len(runs)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / DOTS, height / DOTS), dpi=DOTS, layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subfigures(len(runs), squeeze=False)[:, 0]
        for row, (title, curves) in zip(rows, runs.items()):
            _draw_run(row, title, curves, largest)
        figure.canvas.draw()
    return figure


def _draw_run(row: SubFigure, title: str, curves: Curves, largest: int) -> None:
    last = max(int(curve.steps[-1]) for curve in curves.values())
    row.suptitle(f"{title}, {last:,} steps", x=0.005, ha="left", fontweight="bold", fontsize=13)
    left, middle, right = row.add_gridspec(1, 3, width_ratios=(1.15, 1.0, 0.85))
    loss, rate = row.add_subplot(left), row.add_subplot(right)
    _draw_losses(loss, part(curves, "loss"), largest)
    groups = grouped(part(curves, "validation"))
    heights = [1.0 + (len(group) > 1) for group in groups[:_PANELS]] or [1.0]
    stack = middle.subgridspec(len(heights), 1, height_ratios=heights)
    panels = [row.add_subplot(cell) for cell in stack]
    for axes, group, title in zip(panels, groups or [{}], ("validation", "", "")):
        _draw_lines(axes, merged(group), title, dotted=True)
    rates = {name: condensed(curve) for name, curve in part(curves, "rate").items()}
    _draw_lines(rate, merged(rates), "learning rate")
    for axes in (loss, *panels, rate):
        axes.set_xlim(0, last * 1.01)
        axes.tick_params(labelbottom=axes not in panels[:-1], length=0)
    for axes in (loss, panels[-1], rate):
        axes.set_xlabel("step")


def _draw_losses(axes: Axes, losses: Curves, largest: int) -> None:
    """Draw the largest terms, and the sum of those that start with the run."""
    sizes = {name: float(np.abs(curve.values).mean()) for name, curve in losses.items()}
    names = sorted(losses, key=sizes.__getitem__, reverse=True)
    lines = {name: condensed(losses[name]) for name in names[:largest]}
    if len(names) > 1:
        added = begun(losses)
        axes.plot(*condensed(sum_of(added)), color=DARK, linewidth=2.4, label=f"sum of {len(added)} terms")
    _draw_lines(axes, lines, "training loss")
    values = np.concatenate([line.get_ydata() for line in axes.lines] or [np.zeros(1)])
    if values.min() > 0 and values.max() > 5 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1e4 * values.min() else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _draw_lines(axes: Axes, curves: Curves, title: str, dotted: bool = False) -> None:
    """Draw one line for each curve, dashed if it never changes, and the legend above."""
    if not curves:
        axes.set_title(title, loc="left")
        axes.text(0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", va="center", color=PALE)
        axes.set_yticks([])
        return
    colours = iter(_COLOURS * len(curves))
    for name, curve in curves.items():
        if len(curve.values) > 1 and np.ptp(curve.values) == 0:
            axes.plot(*curve, color=PALE, linestyle="--", label=name)
        else:
            dots = "o" if len(curve.steps) == 1 or dotted and len(curve.steps) <= MARKED else ""
            axes.plot(*curve, color=next(colours), marker=dots, markersize=4, label=name)
    axes.margins(y=0.12)
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, LETTERS // (max(map(len, labels)) + 4))
    axes.legend(
        handles,
        labels,
        title=title,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.1,
        ncols=columns,
    )


def write_png(figure: Figure, path: Path) -> None:
    """Whole or not at all, with a palette: a quarter of the size.

    Raises:
        UserError: the file cannot be written.
    """
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    with named_file(path) as file:
        picture.quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.plot_curves", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="folder of a run, which holds metrics.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--losses", help="names with commas between: these alone (default: the largest five)")
    options = parser.parse_args(arguments)

    def body() -> None:
        if options.output.suffix.lower() != ".png":
            raise UserError(f"--output is {options.output}; give a file that ends in .png")
        numbers = {f"the numbers of {run}": run / "metrics.jsonl" for run in options.runs}
        keep_inputs({"--output": options.output}, numbers)
        curves = [read_curves(run) for run in options.runs]
        largest = _TERMS
        if options.losses is not None:
            names = [name.strip() for name in options.losses.split(",")]
            check_losses(dict(zip(options.runs, curves)), names)
            curves = [named_losses(own, names) for own in curves]
            largest = max(len(own) for own in curves)
        write_png(draw(dict(zip(titles(options.runs), curves)), largest), options.output)
        print(options.output)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
