"""What a finished evaluation writes: tables, how every number was made, sheet, side-by-side videos, and the report."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modules.metrics.bootstrap import Interval
from modules.system.config import to_dict
from modules.system.files import named_file
from tasks.evaluation.cases import Case
from tasks.evaluation.measures import measures_of
from tasks.evaluation.networks import load_networks
from tasks.evaluation.pictures import contact_sheet, write_side_by_side
from tasks.evaluation.published import published_markdown
from tasks.evaluation.report import report_page
from tasks.evaluation.results import video_path, without_nan
from tasks.evaluation.settings import EvaluationConfig
from tasks.evaluation.tables import (
    Results,
    Table,
    as_csv,
    as_json,
    clips_json,
    difference_markdown,
    differences,
    few_cases,
    markdown,
    table_of,
    without_face,
)

RECORDED = ("torch", "torchmetrics", "mediapipe", "opencv-contrib-python", "numpy", "scipy", "av")


def write_outputs(config: EvaluationConfig, cases: Sequence[Case], notes: list[str]) -> str:
    """Write everything into the output folder; the text to print.

    Raises:
        UserError: a file cannot be written.
    """
    results = Results.read(config, cases)
    table = table_of(results)
    about = about_run(results, table, notes)
    text = "\n\n".join(filter(None, (markdown(table, results), published_markdown(config.protocol), remarks(about))))
    write_json(config.output / "table.json", as_json(table))
    write_json(config.output / "clips.json", clips_json(results))
    write_json(config.output / "run.json", about)
    write_text(config.output / "table.csv", as_csv(table, results))
    write_text(config.output / "table.md", text + "\n")
    kept = kept_cases(results)
    sheet = contact_sheet(config.output, list(config.table), kept) if kept else None
    if sheet is not None:
        with named_file(config.output / "sheet.png") as part:
            sheet.save(part, format="PNG")
    for case in kept:
        write_side_by_side(config.output, list(config.table), case)
    write_text(config.output / "report.html", report_page(results, table, about, sheet, kept))
    return text


def write_comparison(config: EvaluationConfig, cases: Sequence[Case], first: str, second: str) -> str:
    """Write compare.json and compare.md; the text to print.

    Raises:
        UserError: a name is not in the table, or a file cannot be written.
    """
    found = differences(Results.read(config, cases), first, second)
    text = difference_markdown(found, first, second)
    plain = {name: _plain(interval) for name, interval in found.items()}
    write_json(config.output / "compare.json", {"first": first, "second": second, "difference": plain})
    write_text(config.output / "compare.md", text + "\n")
    return text


def kept_cases(results: Results) -> list[str]:
    """Names of the cases of which the truth's video is kept, among the first `keep`."""
    names = [case.name for case in results.cases[: results.config.keep]]
    return [name for name in names if video_path(results.config.output, "truth", name).is_file()]


def about_run(results: Results, table: Table, notes: list[str]) -> dict[str, Any]:
    """How every number was made: settings, seed, networks, files, versions, counts."""
    config = results.config
    networks = load_networks(config)
    return {
        "settings": to_dict(config),
        "methods": {name: str(entry or "baseline") for name, entry in config.table.items()},
        "counts": {method: results.counts(method) for method in results.of},
        "errors": {method: errors for method in results.of if (errors := results.errors(method))},
        "without_face": without_face(results, table),
        "notes": notes,
        "landmarks": "MediaPipe face_landmarker.task, each frame by itself",
        "fit": f"modules/face3d/fitting.py with the face model {config.face_model}",
        "networks": {
            measure.name: f"{measure.network}: {'used' if measure.network in networks.loaded else 'missing'}"
            for measure in measures_of(config.protocol)
            if measure.network
        },
        "missing_networks": networks.missing,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED}},
    }


def remarks(about: dict[str, Any]) -> str:
    """What a reader of the table must know besides: missing networks and faces, errors, files that were not used."""
    lines = [f"- {name} is missing, and with it its measures: {how}" for name, how in about["missing_networks"].items()]
    for method, errors in about["errors"].items():
        lines += [f"- {method}, {case}: {error}" for case, error in list(errors.items())[:5]]
        if len(errors) > 5:
            lines.append(f"- {method}: {len(errors) - 5} more (run.json)")
    lines += [f"- {method}: {what}" for method, what in about["without_face"].items()]
    lines += [f"- {note}" for note in about["notes"]]
    if few := few_cases(max((count["cases"] for count in about["counts"].values()), default=0)):
        lines.append(f"- {few}")
    return "\n".join(lines)


def write_json(path: Path, values: Any) -> None:
    """Plain data as JSON, null for NaN, whole or not at all."""
    write_text(path, json.dumps(without_nan(values), indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with named_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _plain(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "cases": interval.count}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
