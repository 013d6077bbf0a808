"""The table of a set of ablations: results beside those of their baselines, as rows and as Markdown."""

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def rows_of(results: list[Result]) -> list[dict[str, Any]]:
    """Add to each result of `tasks.ablate.result_of` the `difference` of its metrics to those of its baseline."""
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
        rows.append({**result, "difference": difference})
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """One table for each task: name, changes, millions of parameters, metrics (difference to the baseline), budget."""
    named = {row["name"]: row for row in rows}
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        group = [row for row in rows if row["task"] == task]
        metrics = list(dict.fromkeys(name for row in group for name in row["metrics"]))
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
        lines.append("")
    return "\n".join(lines)


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


def _metric(row: Result, name: str) -> str:
    if name not in row["metrics"]:
        return ""
    value = f"{row['metrics'][name]:.4g}"
    return f"{value} ({row['difference'][name]:+.3g})" if name in row["difference"] else value


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
