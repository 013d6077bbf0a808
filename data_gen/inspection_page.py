"""The page of `data_gen.inspect`: distributions, a contact sheet, worst fits first, and why videos were refused."""

import base64
import html
import io
import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from data_gen.clip_facts import ClipFacts
from data_gen.progress import RefusedKind
from modules.analysis.crop import resize
from modules.clips.format import Clip

SHEET_SIDE = 192  # pixels a side of a picture of the contact sheet
BINS = 24
TINTS = np.array(  # red, green, blue of the six classes in the sheet; the background stays as it is
    [(0, 0, 0), (255, 220, 0), (255, 0, 255), (0, 220, 255), (255, 60, 40), (60, 220, 60)], np.float32
)
TINT_SHARE = 0.35
PAGE_STYLE = (
    "body{font:14px sans-serif;margin:2em auto;max-width:1100px}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;vertical-align:top}svg{margin:6px}"
    "figure{display:inline-block;margin:4px;width:192px;vertical-align:top;font-size:11px;overflow-wrap:anywhere}"
)


def inspection_page(
    title: str,
    facts: Sequence[ClipFacts],
    counts: Sequence[tuple[str, str]],
    refused: Sequence[RefusedKind],
    shown: int,
) -> str:
    """The page as HTML that needs no other file.

    Args:
        facts: of all clips, at least one.
        counts: what they are and how many.
        refused: kinds of refusals.
        shown: clips on the contact sheet.
    """
    worst = worst_first(facts)[:shown]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        table(("", ""), counts),
        "<h2>Distributions</h2>",
        *(histogram(name, values) for name, values in distributions(facts)),
        f"<h2>{len(worst)} of {len(facts)} clips, worst fits first</h2>",
        "<p>The middle frame with landmarks and classes: hair yellow, neck magenta, face cyan, clothes red, "
        "others green.</p>",
        *(figure(clip) for clip in worst),
        "<h2>Refused</h2>",
        table(
            ("reason", "parts", "minutes", "for example"),
            [(kind.reason, str(kind.count), f"{kind.seconds / 60:.1f}", kind.example) for kind in refused],
        )
        if refused
        else "<p>Nothing.</p>",
    ]
    head = f"<head><meta charset='utf-8'><title>{html.escape(title)}</title><style>{PAGE_STYLE}</style></head>"
    return f"<!DOCTYPE html><html>{head}<body>{''.join(parts)}</body></html>\n"


def worst_first(facts: Sequence[ClipFacts]) -> list[ClipFacts]:
    """Clips by the error of their fit, largest first; those whose error is not known come last."""
    return sorted(facts, key=lambda clip: (math.isnan(clip.error), -clip.error))


def distributions(facts: Sequence[ClipFacts]) -> list[tuple[str, np.ndarray]]:
    """What is drawn as histograms, by title; values that are not known are left out."""
    angles = np.concatenate([clip.angles for clip in facts])
    of_clips = [
        ("fit error, in eye distances", [clip.error for clip in facts]),
        ("loudness of a clip, dB of full scale", [clip.loudness for clip in facts]),
        ("sound late before it was moved, frames", [clip.sound_late for clip in facts]),
        ("length of a clip, seconds", [clip.seconds for clip in facts]),
    ]
    return [
        ("yaw, degrees", angles[:, 1]),
        ("pitch, degrees", angles[:, 0]),
        ("roll, degrees", angles[:, 2]),
        ("expression, root mean square", np.concatenate([clip.expression for clip in facts])),
        ("width of the face, share of the picture", np.concatenate([clip.face for clip in facts])),
        *((name, np.array([v for v in values if not math.isnan(v)])) for name, values in of_clips),
    ]


def histogram(title: str, values: np.ndarray, width: int = 330, height: int = 120) -> str:
    """Values [N] as a drawing (SVG), with their number, median and the range of the middle 90 %."""
    name = html.escape(title)
    if len(values) == 0:
        return f"<p>{name}: nothing to show.</p>"
    counts, edges = np.histogram(values, bins=BINS)
    step, scale = width / BINS, (height - 40) / counts.max()
    bars = "".join(
        f"<rect x='{k * step:.1f}' y='{height - 20 - count * scale:.1f}' width='{step - 1:.1f}' "
        f"height='{count * scale:.1f}' fill='#2060c0'>"
        f"<title>{edges[k]:.3g} to {edges[k + 1]:.3g}: {count}</title></rect>"
        for k, count in enumerate(counts)
    )
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return (
        f"<svg width='{width}' height='{height}' font-family='sans-serif' font-size='11'><text y='11'>{name}: median "
        f"{middle:.3g}, 90 % from {low:.3g} to {high:.3g}</text>{bars}<text y='{height - 5}'>{edges[0]:.3g}</text>"
        f"<text x='{width}' y='{height - 5}' text-anchor='end'>{edges[-1]:.3g}</text></svg>"
    )


def figure(facts: ClipFacts) -> str:
    """A clip of the contact sheet: picture, name and numbers."""
    picture = ""
    if facts.has_pictures:
        file = io.BytesIO()
        Image.fromarray(overlay(Clip(facts.folder), facts.length // 2)).save(file, "jpeg", quality=85)
        picture = f"<img alt='' src='data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'><br>"
    text = f"{facts.folder.name}: error {facts.error:.4f}, {facts.seconds:.1f} s, {facts.person}; {facts.source}"
    return f"<figure>{picture}{html.escape(text)}</figure>"


def overlay(clip: Clip, index: int) -> np.ndarray:
    """A frame with its classes tinted and its landmarks as dots, uint8 [SHEET_SIDE, SHEET_SIDE, 3]."""
    side = (SHEET_SIDE, SHEET_SIDE)
    picture = resize(clip.frames([index])[0], side).astype(np.float32)
    classes = cv2.resize(clip.classes([index])[0], side, interpolation=cv2.INTER_NEAREST_EXACT)
    tinted = (1 - TINT_SHARE) * picture + TINT_SHARE * TINTS[classes]
    result = np.where((classes > 0)[..., None], tinted, picture).astype(np.uint8)
    columns, rows = (clip.landmarks[index] * SHEET_SIDE).astype(int).T
    inside = (columns >= 0) & (columns < SHEET_SIDE) & (rows >= 0) & (rows < SHEET_SIDE)
    result[rows[inside], columns[inside]] = 255
    return result


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as an HTML table; an empty head is left out."""

    def row(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    return f"<table>{row(head, 'th') if any(head) else ''}{''.join(row(cells, 'td') for cells in rows)}</table>"
