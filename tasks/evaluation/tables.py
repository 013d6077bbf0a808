"""From the results of all cases to the table: means with intervals, paired differences, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modules.metrics.bootstrap import Interval, mean_interval, paired_difference
from modules.metrics.distribution import ENOUGH, FeatureStatistics, frechet_distance
from modules.system.config import nearest
from modules.system.errors import UserError
from tasks.evaluation.cases import Case
from tasks.evaluation.measures import Measure, measures_of
from tasks.evaluation.results import Result, features_of
from tasks.evaluation.settings import EvaluationConfig

ARROWS = {"higher": " ↑", "lower": " ↓", "one": " → 1", "": ""}
FEWEST_CASES = 5  # cases whose interval says something of others: that of two is the two themselves
Table = dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Results:
    """All results of an evaluation: method -> case -> result, in the order of the table."""

    config: EvaluationConfig
    cases: tuple[Case, ...]
    of: dict[str, dict[str, Result]]

    @classmethod
    def read(cls, config: EvaluationConfig, cases: Sequence[Case]) -> "Results":
        """Those in the output folder."""
        found: dict[str, dict[str, Result]] = {}
        for method in config.table:
            rows = {case.name: Result.load(config.output, method, case.name) for case in cases}
            found[method] = {name: result for name, result in rows.items() if result is not None}
        return cls(config, tuple(cases), found)

    def values(self, method: str, measure: str) -> list[float]:
        """A number for every case, NaN where there is none."""
        rows = self.of[method]
        return [
            rows[case.name].figures.get(measure, math.nan) if case.name in rows else math.nan for case in self.cases
        ]

    def counts(self, method: str) -> dict[str, int]:
        """Cases with figures and without any, and sums over the cases' frames."""
        rows = self.of[method].values()
        total = {"cases": sum(bool(row.figures) for row in rows)}
        total["failed"] = len(self.cases) - total["cases"]
        for name in ("frames", "made", "compared", "without_face"):
            total[name] = sum(row.counts.get(name, 0) for row in rows)
        return total

    def errors(self, method: str) -> dict[str, str]:
        """case -> why it has no figures, or fewer frames."""
        return {name: result.error for name, result in self.of[method].items() if result.error}


def table_of(results: Results) -> Table:
    """method -> measure -> mean with its 95 % interval over cases; measures that nobody has are left out."""
    config = results.config
    table: Table = {}
    for method in results.of:
        table[method] = {}
        for measure in measures_of(config.protocol):
            if measure.name == "fid":
                interval = fid_of(results, method)
            else:
                generator = torch.Generator().manual_seed(config.seed)
                interval = mean_interval(results.values(method, measure.name), generator, resamples=config.samples)
            if math.isfinite(interval.mean):
                table[method][measure.name] = interval
    return table


def without_face(results: Results, table: Table) -> dict[str, str]:
    """method -> in how many of its frames no face was found, and the measures that it lacks for that.

    Only of methods that lack some, or have no face at all; single frames without a face are in the table.
    """
    everything = list(dict.fromkeys(name for row in table.values() for name in row))
    said = {}
    for method, row in table.items():
        faceless, made = (results.counts(method)[name] for name in ("without_face", "made"))
        lacking = [name for name in everything if name not in row]
        if faceless and (lacking or faceless == made):
            frames = f"any of {made} frames" if faceless == made else f"{faceless} of {made} frames"
            without = f"; left out for that: {', '.join(lacking)}" if lacking else ""
            said[method] = f"no face was found in {frames}{without}"
    return said


def fid_of(results: Results, method: str) -> Interval:
    """FID of all compared frames of a method to all true ones; without an interval. `count` is the frames."""
    sides = []
    for name in (method, "truth"):
        kept = [features_of(results.config.output, name, case.name) for case in results.cases]
        features = [torch.from_numpy(rows) for rows in kept if rows is not None]
        if sum(map(len, features)) < 2:
            return Interval(mean=math.nan, low=math.nan, high=math.nan, count=0)
        statistics = FeatureStatistics(features[0].shape[1])
        for rows in features:
            statistics.update(rows)
        sides.append(statistics)
    return Interval(mean=frechet_distance(*sides), low=math.nan, high=math.nan, count=sides[0].count)


def differences(results: Results, first: str, second: str) -> dict[str, Interval]:
    """measure -> first - second over the cases that both have, with its 95 % interval.

    Raises:
        UserError: a name is not in the table.
    """
    for name in (first, second):
        if name not in results.of:
            raise UserError(f"there is no method {name} to compare{nearest(name, results.of)}")
    found = {}
    for measure in measures_of(results.config.protocol):
        generator = torch.Generator().manual_seed(results.config.seed)
        pair = (results.values(name, measure.name) for name in (first, second))
        interval = paired_difference(*pair, generator, resamples=results.config.samples)
        if interval.count:
            found[measure.name] = interval
    return found


# ---- as text


def shown(table: Table, results: Results) -> list[Measure]:
    """The measures of a table's columns."""
    return [m for m in measures_of(results.config.protocol) if any(m.name in row for row in table.values())]


def number(value: float) -> str:
    """Three or four significant digits; "-" for none."""
    if not math.isfinite(value):
        return "-"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
    return text if float(text) else text.removeprefix("-")


def cell(interval: Interval | None) -> str:
    """A mean with its interval, or "-"."""
    if interval is None:
        return "-"
    if not math.isfinite(interval.low):
        return number(interval.mean)
    return f"{number(interval.mean)} [{number(interval.low)}, {number(interval.high)}]"


def markdown(table: Table, results: Results) -> str:
    """A row for every measure, a column for every method: most screens are higher than wide."""
    lines = ["| measure | " + " | ".join(table) + " |", "| --- |" + " --- |" * len(table)]
    for measure in shown(table, results):
        cells = [cell(row.get(measure.name)) for row in table.values()]
        lines.append(f"| {measure.name}{ARROWS[measure.better]} | " + " | ".join(cells) + " |")
    counts = {method: results.counts(method) for method in table}
    for name, what in (("cases", "cases"), ("failed", "cases without figures"), ("frames", "frames")):
        lines.append(f"| {what} | " + " | ".join(str(count[name]) for count in counts.values()) + " |")
    missing = [str(count["frames"] - count["made"]) for count in counts.values()]
    lines.append("| frames missing | " + " | ".join(missing) + " |")
    lines.append("| frames without a face | " + " | ".join(str(c["without_face"]) for c in counts.values()) + " |")
    if any("fid" in row for row in table.values()):
        fewest = min(row["fid"].count for row in table.values() if "fid" in row)
        note = f"; too few for an unbiased FID ({ENOUGH})" if fewest < ENOUGH else ""
        lines += ["", f"FID is of {fewest} frames a method or more{note}."]
    return "\n".join(lines)


def difference_markdown(found: dict[str, Interval], first: str, second: str) -> str:
    """A row for every measure; "differs" where 0 lies outside of the interval of at least `FEWEST_CASES` cases."""
    lines = [f"| measure | {first} - {second} | cases | |", "| --- | --- | --- | --- |"]
    for name, interval in found.items():
        apart = interval.count >= FEWEST_CASES and (interval.low > 0 or interval.high < 0)
        lines.append(f"| {name} | {cell(interval)} | {interval.count} | {'differs' if apart else ''} |")
    if remark := few_cases(max((interval.count for interval in found.values()), default=0)):
        lines += ["", remark]
    return "\n".join(lines)


def few_cases(count: int) -> str:
    """What to know of intervals over so few cases; empty where there are enough."""
    if count >= FEWEST_CASES:
        return ""
    return f"Intervals are over {count} cases: too few to tell methods apart, for which {FEWEST_CASES} are the least."


def as_csv(table: Table, results: Results) -> str:
    """method, measure, mean, low, high, cases; then a row for every case: method, measure, value, , , case."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "measure", "case", "mean", "low", "high", "count"])
    for method, row in table.items():
        for name, interval in row.items():
            writer.writerow([method, name, "all", interval.mean, interval.low, interval.high, interval.count])
            for case, result in results.of[method].items():
                if math.isfinite(result.figures.get(name, math.nan)):
                    writer.writerow([method, name, case, result.figures[name], "", "", 1])
    return text.getvalue()


def as_json(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    """method -> measure -> mean, low, high."""
    return {
        method: {name: {"mean": x.mean, "low": x.low, "high": x.high} for name, x in row.items()}
        for method, row in table.items()
    }


def clips_json(results: Results) -> dict[str, dict[str, dict]]:
    """method -> case -> figures, counts, error."""
    return {
        method: {name: {"figures": r.figures, "counts": r.counts, "error": r.error} for name, r in rows.items()}
        for method, rows in results.of.items()
    }
