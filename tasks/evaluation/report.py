"""The report: one HTML page that opens from disk, with tables, plots (SVG) and the contact sheet inside of it."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from tasks.evaluation.measures import measures_of
from tasks.evaluation.pictures import side_by_side_path
from tasks.evaluation.published import published_markdown
from tasks.evaluation.tables import ARROWS, Results, Table, cell, shown

COLOURS = ("#444444", "#999999", "#c08020", "#2060c0", "#b03060", "#208050", "#7040b0", "#00808a")
REPORT_STYLE = (
    "body{font:14px sans-serif;margin:2em auto;max-width:1100px}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left}img{max-width:100%}svg{margin:4px}"
)
PLOTTED_CASES = 4


def report_page(
    results: Results, table: Table, about: Mapping[str, Any], sheet: Image.Image | None, kept: Sequence[str]
) -> str:
    """The page.

    Args:
        about: from `outputs.about_run`.
        sheet: the contact sheet, if there is one; `kept`: cases with videos.
    """
    config = results.config
    parts = [
        f"<h1>{html.escape(config.protocol.replace('_', ' '))}</h1>",
        f"<p>{len(results.cases)} cases of {html.escape(str(config.videos))}; means over cases with 95 % bootstrap "
        f"intervals ({config.samples} resamples, seed {config.seed}).</p>",
        main_table(table, results),
        markdown_table(published_markdown(config.protocol)),
        *bars(table, results),
        "<h2>Mouth opening over time</h2>"
        + "".join(curves(results, case.name) for case in results.cases[:PLOTTED_CASES]),
    ]
    if sheet is not None:
        parts.append(f"<h2>Pictures</h2><img alt='contact sheet' src='{picture_source(sheet)}'>")
        parts += [
            f"<p><a href='{side_by_side_path(config.output, case).relative_to(config.output).as_posix()}'>"
            f"{html.escape(case)}, side by side</a></p>"
            for case in kept
        ]
    parts += ["<h2>Definitions</h2>", definitions(results), "<h2>How the numbers were made</h2>", facts(about)]
    body = "\n".join(part for part in parts if part)
    title = html.escape(config.protocol)
    head = f"<head><meta charset='utf-8'><title>{title}</title><style>{REPORT_STYLE}</style></head>"
    return f"<!DOCTYPE html><html>{head}<body>{body}</body></html>\n"


def main_table(table: Table, results: Results) -> str:
    """A row for every measure, a column for every method."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table)
    rows = [
        f"<tr><th title='{html.escape(measure.definition, quote=True)}'>{measure.name}{ARROWS[measure.better]}</th>"
        + "".join(f"<td>{cell(row.get(measure.name))}</td>" for row in table.values())
        + "</tr>"
        for measure in shown(table, results)
    ]
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def markdown_table(text: str) -> str:
    """Lines of Markdown: a paragraph, and a table of its lines that begin with |."""
    lines = [line for line in text.splitlines() if line and not line.startswith("| ---")]
    rows = [[html.escape(part.strip()) for part in line.strip("|").split("|")] for line in lines if line[0] == "|"]
    words = " ".join(html.escape(line) for line in lines if line[0] != "|")
    body = "".join("<tr>" + "".join(f"<td>{part}</td>" for part in row) + "</tr>" for row in rows)
    return f"<p>{words}</p><table>{body}</table>" if rows else ""


def bars(table: Table, results: Results) -> list[str]:
    """A plot for every measure: the mean of each method with its interval."""
    plots = ["<h2>Means and intervals</h2>"]
    for measure in shown(table, results):
        rows = {method: row[measure.name] for method, row in table.items() if measure.name in row}
        ends = [x for r in rows.values() for x in (0.0, r.mean, r.low, r.high) if math.isfinite(x)]
        if measure.name.startswith("psnr"):  # the truth's 100 dB would hide the others
            rows = {method: row for method, row in rows.items() if row.mean < 100}
            ends = [x for r in rows.values() for x in (0.0, r.mean, r.low, r.high) if math.isfinite(x)] or [0.0]
        low, high = min(ends), max(max(ends), min(ends) + 1e-9)

        def at(value: float, low: float = low, high: float = high) -> float:
            return 90 + 200 * (value - low) / (high - low)

        lines = [f"<text x='4' y='12' font-size='12'>{measure.name}{ARROWS[measure.better]}</text>"]
        for number, (method, row) in enumerate(rows.items()):
            y, colour = 20 + 16 * number, COLOURS[list(table).index(method) % len(COLOURS)]
            start, end = sorted((at(0.0), at(row.mean)))
            lines.append(f"<text x='4' y='{y + 10}' font-size='11'>{html.escape(method[:13])}</text>")
            lines.append(f"<rect x='{start:.1f}' y='{y}' width='{end - start:.1f}' height='11' fill='{colour}'/>")
            if math.isfinite(row.low):
                lines.append(
                    f"<path d='M{at(row.low):.1f} {y + 5.5}H{at(row.high):.1f}' stroke='black' stroke-width='2'/>"
                )
        plots.append(_svg(300, 26 + 16 * len(rows), lines))
    return plots


def curves(results: Results, case: str) -> str:
    """The opening of the mouth of every method in one case."""
    rows = {method: found[case].curves.get("mouth_opening") for method, found in results.of.items() if case in found}
    rows = {method: row for method, row in rows.items() if row}
    values = [x for row in rows.values() for x in row if x is not None and math.isfinite(x)]
    if not values:
        return ""
    most, length = max(max(values), 1e-6), max(map(len, rows.values()))
    lines = [f"<text x='4' y='12' font-size='12'>{html.escape(case)}</text>"]
    for number, (method, row) in enumerate(rows.items()):
        colour = COLOURS[list(results.of).index(method) % len(COLOURS)]
        path, pen = "", "M"
        for moment, value in enumerate(row):
            if value is None or not math.isfinite(value):
                pen = "M"
                continue
            path += f"{pen}{4 + 900 * moment / length:.1f} {150 - 130 * value / most:.1f}"
            pen = "L"
        lines.append(f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.3'/>")
        name = html.escape(method)
        lines.append(f"<text x='{910}' y='{30 + 14 * number}' font-size='11' fill='{colour}'>{name}</text>")
    return _svg(1000, 156, lines)


def definitions(results: Results) -> str:
    """The measures of the protocol in words."""
    rows = [
        f"<tr><td>{m.name}{ARROWS[m.better]}</td><td>{html.escape(m.definition)}</td><td>{m.network}</td></tr>"
        for m in measures_of(results.config.protocol)
    ]
    return f"<table><tr><th>measure</th><th>definition</th><th>network</th></tr>{''.join(rows)}</table>"


def facts(about: Mapping[str, Any]) -> str:
    """Settings, counts, errors, networks and versions as a table."""
    rows = []
    for name, value in about.items():
        parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
        text = str(value) if parts is None else "\n".join(f"{key}: {part}" for key, part in parts)
        rows.append(f"<tr><th>{html.escape(name)}</th><td><pre>{html.escape(text)}</pre></td></tr>")
    return f"<table>{''.join(rows)}</table>"


def picture_source(picture: Image.Image) -> str:
    """A picture as the source of an <img>: JPEG inside of the page."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _svg(width: int, height: int, lines: list[str]) -> str:
    return f"<svg width='{width}' height='{height}' xmlns='http://www.w3.org/2000/svg'>{''.join(lines)}</svg>"
