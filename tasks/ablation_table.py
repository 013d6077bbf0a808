"""The table of a set of ablations: results beside those of their baselines, as rows and as Markdown.

With several seeds a metric is a mean with its spread, and a difference within both spreads is no difference: (none).
"""

import math
from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any

from tasks.engine.registry import find_task
from tasks.evaluation.measures import MEASURES
from tasks.evaluation.tables import ARROWS

Result = Mapping[str, Any]


def mean_of_seeds(results: list[Result]) -> dict[str, Any]:
    """One result of runs that differ in their seed: means of the metrics, and `spread`, their standard deviations."""
    first = dict(results[0])
    if len(results) == 1:
        return first
    everywhere = [name for name in first["metrics"] if all(name in result["metrics"] for result in results)]
    values = {name: [result["metrics"][name] for result in results] for name in everywhere}
    minutes = sum(result["minutes"] for result in results)
    return first | {
        "metrics": {name: mean(numbers) for name, numbers in values.items()},
        "spread": {name: stdev(numbers) for name, numbers in values.items()},
        "seeds": [result["seed"] for result in results],
        "minutes": minutes,
    }


def rows_of(results: list[Result]) -> list[dict[str, Any]]:
    """Add to each result of `tasks.ablate.result_of` the `difference` of its metrics to those of its baseline.

    `none` names the metrics whose difference is within the spread of the seeds.
    """
    named = {result["name"]: result for result in results}
    rows = []
    for result in results:
        baseline = named.get(result["baseline"])
        difference = (
            {
                name: value - baseline["metrics"][name]
                for name, value in result["metrics"].items()
                if name in baseline["metrics"]
            }
            if baseline
            else {}
        )
        within = [name for name, value in difference.items() if abs(value) <= _spread(result, baseline, name)]
        rows.append({**result, "difference": difference, "none": within})
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """One table for each task: name, changes, millions of parameters, metrics (difference to the baseline), budget.

    What the evaluation measured (`evaluated`) is in a table of its own.
    """
    named = {row["name"]: row for row in rows}
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        group = [row for row in rows if row["task"] == task]
        evaluated = list(dict.fromkeys(name for row in group for name in row.get("evaluated", ())))
        metrics = list(dict.fromkeys(name for row in group for name in row["metrics"] if name not in evaluated))
        head = ["run", "changed", "parameters (M)", *metrics, "steps", "minutes"]
        lines += [f"### {task}", "", _line(head), _line(["---"] * len(head))]
        for row in group:
            cells = [_metric(row, name) for name in metrics]
            changed = ", ".join(row["changed"]) or "baseline"
            lines.append(
                _line(
                    [
                        row["name"],
                        changed,
                        parameter_counts(row, named.get(row["baseline"])),
                        *cells,
                        str(row["steps"]),
                        f"{row['minutes']:.1f}",
                    ]
                )
            )
        if evaluated:
            lines += ["", _line(["run, evaluated", *evaluated]), _line(["---"] * (len(evaluated) + 1))]
            lines += [_line([row["name"], *(_metric(row, name) for name in evaluated)]) for row in group]
        lines += ["", *legend(task, metrics, evaluated), *shares_of_losses(group), *without_effect(group)]
    return "\n".join(lines)


def legend(task: str, metrics: list[str], evaluated: list[str]) -> list[str]:
    """A line for each column of figures: what it means and which way is better."""
    known = {name: (metric.better, metric.meaning) for name, metric in find_task(task).metrics.items()}
    measures = {measure.name: (measure.better, measure.definition) for measure in MEASURES}
    found = [(n, known[n]) for n in metrics if n in known] + [(n, measures[n]) for n in evaluated if n in measures]
    lines = [f"- {name}{ARROWS[better]}: {meaning}" for name, (better, meaning) in found]
    return (
        ["Columns (↑ higher is better, ↓ lower is better; in brackets the difference to the baseline):", "", *lines, ""]
        if lines
        else []
    )


def parameter_counts(row: Result, baseline: Result | None) -> str:
    """Millions of parameters of all modules, and of the modules that have another size in the baseline."""
    parts = row["parameters"]
    other = [
        f"{name} {count / 1e6:.2f}, baseline {baseline['parameters'].get(name, 0) / 1e6:.2f}"
        for name, count in parts.items()
        if baseline and baseline["parameters"].get(name) != count
    ]
    total = f"{sum(parts.values()) / 1e6:.2f}"
    return f"{total} ({'; '.join(other)})" if other else total


def shares_of_losses(group: list[Mapping[str, Any]]) -> list[str]:
    """A line for each run: the shares of the weighted losses in their sum at the end, largest first."""
    lines = []
    for row in group:
        total = sum(map(abs, row.get("losses", {}).values()))
        if total:
            shares = sorted(row["losses"].items(), key=lambda item: -abs(item[1]))
            lines.append(f"- {row['name']}: " + ", ".join(f"{name} {abs(v) / total:.2g}" for name, v in shares))
    return ["Share of each weighted loss in their sum, at the end:", "", *lines, ""] if lines else []


def without_effect(group: list[Mapping[str, Any]]) -> list[str]:
    """A line for each ablation whose metrics are those of its baseline to the last digit: it has measured nothing."""
    lines = [
        f"- {row['name']}: nothing differs from the baseline; what it changes was not at work in {row['steps']} steps"
        for row in group
        if row.get("difference") and not any(row["difference"].values())
    ]
    return [*lines, ""] if lines else []


def _spread(result: Result, baseline: Result | None, name: str) -> float:
    """How far a difference may come from the seeds alone; -1 where there is one seed."""
    if "spread" not in result or baseline is None or "spread" not in baseline:
        return -1.0
    return math.hypot(result["spread"].get(name, 0.0), baseline["spread"].get(name, 0.0))


def _metric(row: Result, name: str) -> str:
    if name not in row["metrics"]:
        return ""
    value = f"{row['metrics'][name]:.4g}"
    if name in row.get("spread", {}):
        value += f" ± {row['spread'][name]:.2g}"
    if name in row.get("none", ()):
        return f"{value} (none)"
    return f"{value} ({row['difference'][name]:+.3g})" if name in row["difference"] else value


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
